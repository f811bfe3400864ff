"""Whether this user may open a serial port, and which programs interfere with it: brltty and ModemManager.

brltty drives braille displays, some of which have bare FTDI, CP210x and CH340 chips; releases before 6.5 claim every
such adapter as soon as it is plugged in (arduino/arduino-ide issue 1788, huggingface/lerobot issue 497). ModemManager
probes new ports for modems; the udev property ID_MM_DEVICE_IGNORE prevents that. A `root` other than `/` is the copy of
another machine's files.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sefa_edge.firmware_bridge.host.port_link import require_live_link
from sefa_edge.firmware_bridge.host.serial_adapter import CHIPS
from sefa_edge.firmware_bridge.host.serial_ports import SerialPort, UsbIdentity, attribute
from sefa_edge.profiles.diagnosis import Diagnosis, Weight
from sefa_edge.profiles.errors import MissingError

RULE_FOLDERS = ("etc/udev/rules.d", "run/udev/rules.d", "usr/lib/udev/rules.d", "lib/udev/rules.d")
GROUP_MAY_USE = 0o060
OUR_RULES = "60-sefa-edge.rules"


@dataclass(frozen=True, slots=True)
class Ownership:
    """The permissions of a device file, and the user who wants to open it."""

    group: str
    """Owning group of the device file."""
    mode: int
    user: str
    groups_now: tuple[str, ...]
    """Groups of this process."""
    groups_next: tuple[str, ...]
    """Groups after the next log-in."""


def require_access(path: str) -> None:
    """Refuse a port that this user may not open. A missing port passes: opening it reports that.

    Raises:
        MissingError: says which group to join or what else to do; or it is a link whose simulated arm has ended.
    """
    require_live_link(Path(path))
    if os.path.exists(path) and not os.access(path, os.R_OK | os.W_OK):
        diagnosis = explain_refusal(path, _ownership(path))
        raise MissingError(diagnosis.message, diagnosis.remedy)


def check_access(port: SerialPort) -> list[Diagnosis]:
    """Whether this user may open the port."""
    if not os.path.exists(port.path):
        return [Diagnosis(port.name, Weight.TROUBLE, "the device file is missing", "pass it to the container")]
    if os.access(port.path, os.R_OK | os.W_OK):
        return []
    return [explain_refusal(port.name, _ownership(port.path))]


def explain_refusal(subject: str, ownership: Ownership) -> Diagnosis:
    """Why a user who is not the owner cannot open a port, and the exact command to fix it."""
    group, message = ownership.group, f"no permission to open {subject}"
    if ownership.mode & GROUP_MAY_USE != GROUP_MAY_USE or group == "root":
        return Diagnosis(
            subject,
            Weight.TROUBLE,
            f"{message}: only root may open it",
            "install our udev rules: sefa-edge arm scan --udev-rules prints them",
        )
    if group in ownership.groups_next and group not in ownership.groups_now:
        return Diagnosis(
            subject,
            Weight.TROUBLE,
            f"{message}: {ownership.user} joined its group {group} after this log-in",
            "log out and in again (in a container: restart it)",
        )
    return Diagnosis(
        subject,
        Weight.TROUBLE,
        f"{message}: it belongs to the group {group}, and {ownership.user} is not in it",
        f"sudo usermod -aG {group} $USER, then log out and in again",
    )


def find_interference(ports: Sequence[SerialPort], devices: Sequence[UsbIdentity], root: Path) -> list[Diagnosis]:
    """Adapters that are plugged in but have no port, with the likely reason; and programs that may disturb a port."""
    with_port = {port.usb.socket for port in ports if port.usb is not None}
    without = [usb for usb in devices if (usb.vendor_id, usb.product_id) in CHIPS and usb.socket not in with_port]
    found = [_without_port(usb, root) for usb in without]
    if ports and "ModemManager" in running_programs(root) and not _rules(root, OUR_RULES):
        found.append(
            Diagnosis(
                "ModemManager",
                Weight.NOTE,
                "it may write to an arm for some seconds after it is plugged in, to find out whether it is a modem",
                "our udev rules prevent that: sefa-edge arm scan --udev-rules",
            )
        )
    return found


def running_programs(root: Path = Path("/")) -> set[str]:
    """Names of all processes."""
    try:
        return {attribute(entry / "comm") for entry in (root / "proc").iterdir() if entry.name.isdecimal()}
    except OSError:
        return set()


def _without_port(usb: UsbIdentity, root: Path) -> Diagnosis:
    chip = CHIPS[usb.vendor_id, usb.product_id]
    what = f"a {chip.name} is plugged in at USB {usb.socket} ({usb.vendor_id}:{usb.product_id}) and has no serial port"
    if _rules(root, "brltty") or "brltty" in running_programs(root):
        return Diagnosis(
            f"USB {usb.socket}",
            Weight.TROUBLE,
            f"{what}: brltty, for braille displays, is installed and claims such adapters",
            "if you do not use a braille display: sudo apt remove brltty; then plug the adapter in again",
        )
    return Diagnosis(
        f"USB {usb.socket}",
        Weight.TROUBLE,
        f"{what}: its driver {chip.driver} is not loaded",
        f"sudo modprobe {chip.module}; if the kernel lacks that module, build it",
    )


def _rules(root: Path, part: str) -> bool:
    return any(part in path.name for folder in RULE_FOLDERS for path in (root / folder).glob("*.rules"))


def _ownership(path: str) -> Ownership:
    status = os.stat(path)
    user = _user_name(os.geteuid())
    now = tuple(_group_name(number) for number in {os.getegid(), *os.getgroups()})
    next_time = tuple(group.gr_name for group in grp.getgrall() if user in group.gr_mem)
    return Ownership(_group_name(status.st_gid), status.st_mode, user, now, next_time)


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
