"""`sefa-edge arm scan`: serial ports, the programs that use them, and their servos. Moves nothing, writes nothing.

Only servo adapters, and ports that a person has named, are scanned: bytes at 1 Mbit/s may mean anything to another
device.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sefa_edge.firmware_bridge.host.feetech.registers import BAUD_RATES
from sefa_edge.firmware_bridge.host.port_access import check_access, find_interference
from sefa_edge.firmware_bridge.host.port_lock import openers
from sefa_edge.firmware_bridge.host.serial_adapter import chip_of, low_latency_flag, shorten_latency
from sefa_edge.firmware_bridge.host.serial_ports import SerialPort, find_serial_ports, serial_port_at, usb_devices
from sefa_edge.firmware_bridge.host.udev_rules import udev_rules
from sefa_edge.firmware_bridge.service.found_servos import EVERY_ID, FoundServo, matching_arms, probe
from sefa_edge.firmware_bridge.service.opening import open_bus, require_usable
from sefa_edge.firmware_bridge.service.scan_report import Bus, PortReport, ScanReport
from sefa_edge.profiles.arms import load_arm_profile, shipped_arms
from sefa_edge.profiles.diagnosis import Diagnosis
from sefa_edge.profiles.errors import InputError, MissingError, SefaError
from sefa_edge.profiles.exit_codes import ExitCode
from sefa_edge.profiles.files import check_report_argument, write_report
from sefa_edge.profiles.progress import Progress

USUAL_BAUD = 1_000_000
ROOT = Path("/")


@dataclass(frozen=True, slots=True)
class ScanRange:
    """Speeds and ids to scan on a port."""

    bauds: Sequence[int]
    servo_ids: Sequence[int]


def main(args: argparse.Namespace) -> int:
    """Scan and print; returns 0, or 1 if a port was named and no servo answers on it.

    Raises:
        MissingError: there is no serial port, or the named one is missing, in use, or not permitted.
        InputError: a speed that no servo has.
    """
    if args.udev_rules:
        print(udev_rules(), end="")
        return 0
    scan_range = ScanRange(_bauds(args), _ids(args))
    check_report_argument(args.json)
    report = scan(args.port, scan_range)
    print("\n".join(report.lines()), file=sys.stderr if args.json == "-" else sys.stdout)
    write_report(args.json, report.as_json())
    return ExitCode.DONE if args.port is None or report.has_servos else ExitCode.FAILED


def scan(named: str | None, scan_range: ScanRange, root: Path = ROOT) -> ScanReport:
    """Scan every port, or only the named one. Raises MissingError."""
    existing = find_serial_ports(root)
    ports = existing if named is None else [serial_port_at(named, root)]
    interference = find_interference(existing, usb_devices(root), root)
    if not ports:
        raise MissingError(*_no_port(interference))
    scan_port = _scan_found if named is None else _scan_named
    return ScanReport(tuple(scan_port(port, scan_range) for port in ports), tuple(interference))


def _scan_named(port: SerialPort, scan_range: ScanRange) -> PortReport:
    """A port that a person named is scanned even if another program has it open without a lock; that is reported."""
    require_usable(port.path)
    opened_by = tuple(openers(Path(port.path)))
    return _scan_servos(PortReport(port, opened_by, tuple(shorten_latency(port, ROOT))), scan_range)


def _scan_found(port: SerialPort, scan_range: ScanRange) -> PortReport:
    opened_by = tuple(openers(Path(port.path)))
    refused = tuple(check_access(port))
    if opened_by or refused or chip_of(port) is None:
        return PortReport(port, opened_by, refused)
    report = PortReport(port, (), tuple(shorten_latency(port, ROOT)))
    try:
        return _scan_servos(report, scan_range)
    except SefaError as error:  # a failing port must not hide the others
        return replace(report, problem=str(error))


def _scan_servos(report: PortReport, scan_range: ScanRange) -> PortReport:
    buses = tuple(_scan_at(report.port.path, baud, scan_range.servo_ids) for baud in scan_range.bauds)
    return replace(report, buses=buses, keeps_low_latency=low_latency_flag(report.port))


def _scan_at(path: str, baud: int, servo_ids: Sequence[int]) -> Bus:
    found: list[FoundServo] = []
    with open_bus(path, baud) as bus, Progress(f"{path} at {baud} baud: id", len(servo_ids), sys.stderr) as progress:
        for done, servo_id in enumerate(servo_ids, 1):
            servo = probe(bus, servo_id)
            if servo is not None:
                found.append(servo)
            progress.update(done, f"{len(found)} found")
    profiles = [load_arm_profile(name) for name in shipped_arms()]
    return Bus(baud, tuple(found), tuple(matching_arms(profiles, baud, found)))


def _bauds(args: argparse.Namespace) -> tuple[int, ...]:
    if args.all_bauds:
        return BAUD_RATES
    wanted = tuple(dict.fromkeys(args.baud or (USUAL_BAUD,)))
    for baud in wanted:
        if baud not in BAUD_RATES:
            raise InputError(f"{baud} baud is not a speed of a servo", f"speeds: {', '.join(map(str, BAUD_RATES))}")
    return wanted


def _ids(args: argparse.Namespace) -> Sequence[int]:
    return EVERY_ID[: args.max_id + 1]


def _no_port(diagnoses: Sequence[Diagnosis]) -> tuple[str, str]:
    """Message and hint."""
    for diagnosis in diagnoses:
        return diagnosis.message, diagnosis.remedy
    return "there is no serial port", "plug the arm's adapter in; for a container, pass /dev/ttyACM0 or ttyUSB0 to it"
