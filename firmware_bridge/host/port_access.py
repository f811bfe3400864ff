"""Whether this user may open a serial port, and which programs get in the way: brltty and ModemManager.

brltty drives braille displays, some of which carry bare FTDI, CP210x and CH340 chips; releases before 6.5 take every
such adapter away as soon as it is plugged in (arduino/arduino-ide issue 1788, huggingface/lerobot issue 497).
ModemManager asks new ports whether they are modems; the udev property ID_MM_DEVICE_IGNORE keeps it off.
Another `root` than `/` describes a captured machine.
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
    """Who may open a port, by its file, and who asks."""

    group: str
    """Owning group of the device file."""
    mode: int
    user: str
    groups_now: tuple[str, ...]
    """Groups of this process."""
    groups_next: tuple[str, ...]
    """Groups that a new log-in would give: they differ until then."""


def require_access(path: str) -> None:
    """Refuse a port that this user may not open; one that is not there is told by whoever opens it.

    Raises:
        MissingError: with the group to join, or what else to do; or a link whose simulated arm has ended.
    """
    require_live_link(Path(path))
    if os.path.exists(path) and not os.access(path, os.R_OK | os.W_OK):
        diagnosis = explain_refusal(path, _ownership(path))
        raise MissingError(diagnosis.message, diagnosis.remedy)


def check_access(port: SerialPort) -> list[Diagnosis]:
    """Whether this user may open the port."""
    if not os.path.exists(port.path):
        return [Diagnosis(port.name, Weight.TROUBLE, "the device file is not there", "pass it on to the container")]
    if os.access(port.path, os.R_OK | os.W_OK):
        return []
    return [explain_refusal(port.name, _ownership(port.path))]


def explain_refusal(subject: str, ownership: Ownership) -> Diagnosis:
    """Why a port cannot be opened by someone who is not its owner, and the exact way to mend it."""
    group, message = ownership.group, f"no permission to open {subject}"
    if ownership.mode & GROUP_MAY_USE != GROUP_MAY_USE or group == "root":
        return Diagnosis(
            subject,
            Weight.TROUBLE,
            f"{message}: it is open to the user root alone",
            "install our udev rules: sefa-edge arm scan --udev-rules tells how",
        )
    if group in ownership.groups_next and group not in ownership.groups_now:
        return Diagnosis(
            subject,
            Weight.TROUBLE,
            f"{message}: {ownership.user} is in its group {group}, but was not yet at this log-in",
            "log out and in again (in a container: start it anew)",
        )
    return Diagnosis(
        subject,
        Weight.TROUBLE,
        f"{message}: it belongs to the group {group}, and {ownership.user} is not in it",
        f"sudo usermod -aG {group} $USER, then log out and in again",
    )


def find_interference(ports: Sequence[SerialPort], devices: Sequence[UsbIdentity], root: Path) -> list[Diagnosis]:
    """Adapters that are plugged in and have no port, and who may be the reason; and who may disturb a port."""
    served = {port.usb.socket for port in ports if port.usb is not None}
    stolen = [usb for usb in devices if (usb.vendor_id, usb.product_id) in CHIPS and usb.socket not in served]
    found = [_without_port(usb, root) for usb in stolen]
    if ports and "ModemManager" in running_programs(root) and not _rules(root, OUR_RULES):
        found.append(
            Diagnosis(
                "ModemManager",
                Weight.NOTE,
                "it may talk to an arm for some seconds after it is plugged in, to see whether it is a modem",
                "our udev rules keep it off: sefa-edge arm scan --udev-rules",
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
            f"{what}: brltty, for braille displays, is installed, and takes such adapters away",
            "if nobody here reads braille: sudo apt remove brltty; then plug the adapter in again",
        )
    return Diagnosis(
        f"USB {usb.socket}",
        Weight.TROUBLE,
        f"{what}: its driver {chip.driver} is not at work",
        f"sudo modprobe {chip.module}; a kernel without that module needs it built",
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
