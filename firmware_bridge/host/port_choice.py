"""Which arm is on a port, when several servo adapters are plugged in."""

from __future__ import annotations

from pathlib import Path

from sefa_edge.firmware_bridge.host.serial_adapter import chip_of
from sefa_edge.firmware_bridge.host.serial_ports import SerialPort, find_serial_ports, serial_port_at
from sefa_edge.profiles.errors import InputError


def require_identified_arm(port: str, root: Path = Path("/")) -> None:
    """Refuse to move an arm without its calibration when several servo adapters are plugged in.

    The system numbers ports in the order in which they are plugged in, and people move arms between adapters: the
    registers alone fit whatever arm answers. A calibration file belongs to one arm, and is compared with the servos
    before anything is sent. Other ports, such as those of simulated arms, are identified by their path.

    Args:
        port: as given on the command line.
        root: where /sys and /dev are.

    Raises:
        InputError: names the adapters, and what to do.
    """
    adapters = [found for found in find_serial_ports(root) if chip_of(found) is not None]
    here = serial_port_at(port, root)
    if len(adapters) < 2 or here.node not in {adapter.node for adapter in adapters}:
        return
    raise InputError(
        f"{len(adapters)} servo adapters are plugged in ({_names(adapters)}): the arm on {port} must be identified by "
        "its calibration",
        "give --calibration FILE|ID; `sefa-edge calibrate --id NAME` makes one under that name",
    )


def _names(adapters: list[SerialPort]) -> str:
    return ", ".join(adapter.path for adapter in adapters)
