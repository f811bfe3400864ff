"""`sefa-edge arm scan`: serial ports, who holds them, and the servos behind them. Moves nothing, writes nothing.

A port is asked only where a servo adapter is plugged in, or where a person has named it: bytes at 1 Mbit/s may mean
anything to another device.
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
from sefa_edge.firmware_bridge.service.found_servos import EVERY_ID, FoundServo, ask, matching_arms
from sefa_edge.firmware_bridge.service.opening import open_bus, require_usable
from sefa_edge.firmware_bridge.service.scan_report import Bus, PortReport, ScanReport
from sefa_edge.profiles.arms import load_arm_profile, shipped_arms
from sefa_edge.profiles.errors import InputError, MissingError, SefaError
from sefa_edge.profiles.exit_codes import ExitCode
from sefa_edge.profiles.files import check_report_argument, write_report
from sefa_edge.profiles.progress import Progress

USUAL_BAUD = 1_000_000
ROOT = Path("/")


@dataclass(frozen=True, slots=True)
class ScanRange:
    """Who is asked on a port."""

    bauds: Sequence[int]
    servo_ids: Sequence[int]


def main(args: argparse.Namespace) -> int:
    """Print it. 0; 1 when a port was named and no servo answers on it.

    Raises:
        MissingError: there is no serial port, or the named one is missing, held, or not permitted.
        InputError: a speed that no servo has.
    """
    if args.udev_rules:
        print(udev_rules(), end="")
        return 0
    questions = ScanRange(_bauds(args), _ids(args))
    check_report_argument(args.json)
    report = scan(args.port, questions)
    print("\n".join(report.lines()), file=sys.stderr if args.json == "-" else sys.stdout)
    write_report(args.json, report.as_json())
    return ExitCode.DONE if args.port is None or report.has_servos else ExitCode.FAILED


def scan(named: str | None, questions: ScanRange, root: Path = ROOT) -> ScanReport:
    """Look at every port, or at the named one. Raises MissingError."""
    there = find_serial_ports(root)
    ports = there if named is None else [serial_port_at(named, root)]
    interference = find_interference(there, usb_devices(root), root)
    if not ports:
        raise MissingError(*_nothing_there(ScanReport((), tuple(interference))))
    look_at = _look_at_found if named is None else _look_at_named
    return ScanReport(tuple(look_at(port, questions) for port in ports), tuple(interference))


def _look_at_named(port: SerialPort, questions: ScanRange) -> PortReport:
    """A person has asked for this one: whoever has it open without locking it is told, not minded."""
    require_usable(port.path)
    opened_by = tuple(openers(Path(port.path)))
    return _ask(PortReport(port, opened_by, tuple(shorten_latency(port, ROOT))), questions)


def _look_at_found(port: SerialPort, questions: ScanRange) -> PortReport:
    opened_by = tuple(openers(Path(port.path)))
    refused = tuple(check_access(port))
    if opened_by or refused or chip_of(port) is None:
        return PortReport(port, opened_by, refused)
    report = PortReport(port, (), tuple(shorten_latency(port, ROOT)))
    try:
        return _ask(report, questions)
    except SefaError as error:  # one port that fails shall not hide the others
        return replace(report, problem=str(error))


def _ask(report: PortReport, questions: ScanRange) -> PortReport:
    buses = tuple(_listen(report.port.path, baud, questions.servo_ids) for baud in questions.bauds)
    return replace(report, buses=buses, keeps_low_latency=low_latency_flag(report.port))


def _listen(path: str, baud: int, servo_ids: Sequence[int]) -> Bus:
    found: list[FoundServo] = []
    with open_bus(path, baud) as bus, Progress(f"{path} at {baud} baud: id", len(servo_ids), sys.stderr) as progress:
        for asked, servo_id in enumerate(servo_ids, 1):
            servo = ask(bus, servo_id)
            if servo is not None:
                found.append(servo)
            progress.update(asked, f"{len(found)} found")
    profiles = [load_arm_profile(name) for name in shipped_arms()]
    return Bus(baud, tuple(found), tuple(matching_arms(profiles, baud, found)))


def _bauds(args: argparse.Namespace) -> tuple[int, ...]:
    if args.all_bauds:
        return BAUD_RATES
    wanted = tuple(dict.fromkeys(args.baud or (USUAL_BAUD,)))
    for baud in wanted:
        if baud not in BAUD_RATES:
            raise InputError(f"no servo speaks at {baud} baud", f"speeds: {', '.join(map(str, BAUD_RATES))}")
    return wanted


def _ids(args: argparse.Namespace) -> Sequence[int]:
    return EVERY_ID[: args.max_id + 1]


def _nothing_there(report: ScanReport) -> tuple[str, str]:
    for diagnosis in report.diagnoses:
        return diagnosis.message, diagnosis.remedy
    return "there is no serial port", "plug the arm's adapter in; in a container, pass /dev/ttyACM0 or ttyUSB0 on"
