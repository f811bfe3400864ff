"""`sefa-edge calibrate`: measure zero and range of an arm's joints, and write them to its servos and LeRobot's file."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from sefa_edge.firmware_bridge.host.calibration import Calibration
from sefa_edge.firmware_bridge.host.calibration_files import file_of_id, find_calibration, spare_path
from sefa_edge.firmware_bridge.host.errors import ArmFault
from sefa_edge.firmware_bridge.host.feetech.calibration_registers import CalibrationRegisters
from sefa_edge.firmware_bridge.host.messages import TorqueReading
from sefa_edge.firmware_bridge.service.calibrating import Sweep, result
from sefa_edge.firmware_bridge.service.calibration_guided import Guided
from sefa_edge.firmware_bridge.service.calibration_headless import given_sweep, timed_sweep
from sefa_edge.firmware_bridge.service.calibration_outcome import CalibrationTarget, Outcome, comparison_table
from sefa_edge.firmware_bridge.service.calibration_terminal import CalibrationTerminal
from sefa_edge.firmware_bridge.service.command import add_arm_arguments
from sefa_edge.firmware_bridge.service.opening import load_with_notes, open_bus, profile_of
from sefa_edge.profiles.console import limit_waiting
from sefa_edge.profiles.errors import InputError, SefaError
from sefa_edge.profiles.files import check_report_argument, path_argument, writable, write_report
from sefa_edge.profiles.quantities import Real
from sefa_edge.profiles.schema import ArmProfile

CONFIRMATION = "write"
SWEEP_S = Real("a time", 0.0, 3600.0, "s", above_lowest=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sefa-edge calibrate`."""
    add_arm_arguments(parser)
    targets = parser.add_mutually_exclusive_group()
    targets.add_argument("--id", metavar="NAME", help="LeRobot's name of this arm (default: the arm profile's name)")
    targets.add_argument(
        "-o", "--output", type=path_argument, metavar="FILE", help="write the calibration here instead"
    )
    parser.add_argument(
        "--write-eeprom", action="store_true", help="write the numbers to the servos (guided: or type 'write')"
    )
    parser.add_argument("--restore", metavar="FILE|ID", help="do not measure: write this calibration to the servos")
    parser.add_argument("--headless", action="store_true", help="do not ask; needs the options that follow")
    parser.add_argument("--middle-now", action="store_true", help="every joint is in the middle of its travel now")
    ranges = parser.add_mutually_exclusive_group()
    ranges.add_argument(
        "--sweep-seconds",
        type=SWEEP_S.parse,
        metavar="S",
        help="time in which a person moves every joint from end to end",
    )
    ranges.add_argument(
        "--ranges",
        type=path_argument,
        metavar="FILE",
        help='or read the ranges from JSON, {"shoulder_pan": [796, 3299], …}',
    )
    parser.add_argument("--json", metavar="F", help="write the result as JSON; - is standard output")


def main(args: argparse.Namespace) -> int:
    """Run the command; returns 0. Raises SefaError."""
    limit_waiting()
    profile = profile_of(args)
    _check(args)
    wanted = None if args.restore is None else load_with_notes(find_calibration(args.restore, profile), profile)
    terminal = None if args.headless or wanted is not None else CalibrationTerminal(sys.stdin, sys.stderr)
    file = _file(args, profile)
    with open_bus(args.port, profile.feetech.baud) as bus:
        job = Job(args, profile, CalibrationRegisters(bus, profile), file)
        outcome = job.calibrate(terminal) if wanted is None else job.restore(wanted)
    write_report(args.json, outcome.as_json())
    _print_outcome(outcome, args)
    return 0


class Job:
    """One calibration of one open arm."""

    def __init__(
        self, args: argparse.Namespace, profile: ArmProfile, registers: CalibrationRegisters, file: Path | None
    ) -> None:
        """`file`: also gets the numbers after they are in the servos; None: no file."""
        self._args = args
        self._profile = profile
        self._registers = registers
        self._file = file
        self._target = CalibrationTarget(registers, profile, args.port)

    def restore(self, wanted: Calibration) -> Outcome:
        """Write the numbers of a file to the servos. Raises SefaError."""
        if wanted.same_registers(self._registers.carried):
            return self._target.keep(wanted, None)
        self._show(wanted)
        if not self._args.write_eeprom:
            raise InputError(
                f"nothing was written: {self._args.restore} and the servos differ", "add --write-eeprom to write it"
            )
        self._require_limp()
        return self._target.write(wanted, self._file)

    def calibrate(self, terminal: CalibrationTerminal | None) -> Outcome:
        """Measure new numbers, guided or headless. Raises SefaError, KeyboardInterrupt."""
        try:
            return self.headless() if terminal is None else self.guided(terminal)
        except (SefaError, KeyboardInterrupt):
            self._print_torque()
            raise

    def headless(self) -> Outcome:
        """Ranges from a timed sweep or a file. Raises SefaError."""
        self._require_limp()
        calibration = result(self._profile, self._headless_sweep())
        self._show(calibration)
        if self._args.write_eeprom:
            return self._target.write(calibration, self._file)
        return self._target.keep(calibration, self._args.output)

    def guided(self, terminal: CalibrationTerminal) -> Outcome:
        """Guide a person on a terminal. Raises SefaError, KeyboardInterrupt."""
        try:
            calibration = Guided(self._registers, self._profile, terminal).run()
            self._show(calibration)
            terminal.print("", f"The numbers will be written to the servos and to {self._file}.")
            question = f"Type '{CONFIRMATION}' to write them, ENTER to leave the servos unchanged: "
            agreed = self._args.write_eeprom or terminal.ask(question) == CONFIRMATION
        except KeyboardInterrupt:
            terminal.print("", "Nothing was written: the servos have their old numbers.")
            raise
        if agreed:
            return self._target.write(calibration, self._file)
        return self._target.keep(calibration, self._args.output or spare_path(f"{self._profile.name}-not-written"))

    def _headless_sweep(self) -> Sweep:
        if self._args.ranges is not None:
            return given_sweep(self._registers, self._profile, self._args.ranges)
        return timed_sweep(self._registers, self._args.sweep_seconds)

    def _print_torque(self) -> None:
        """Print the state in which an interrupted calibration leaves the arm."""
        try:
            torque = self._registers.read_torque()
        except ArmFault:
            torque = TorqueReading((), self._profile.joint_names)
        parts = [f"on in {', '.join(torque.on)}"] if torque.on else []
        parts += [f"unknown in {', '.join(torque.unknown)}"] if torque.unknown else []
        print(f"the servos' torque is {', '.join(parts) or 'off'}", file=sys.stderr)

    def _require_limp(self) -> None:
        holding = self._registers.holding()
        if holding:
            raise InputError(
                f"the torque is on: {', '.join(holding)}",
                f"hold the arm, it will sag, and switch it off: sefa-edge arm free --arm {self._args.arm} "
                f"--port {self._args.port}",
            )

    def _show(self, calibration: Calibration) -> None:
        table = comparison_table(self._profile, self._registers.carried, calibration)
        print("\n".join(table), file=sys.stderr)


def _file(args: argparse.Namespace, profile: ArmProfile) -> Path | None:
    """File that gets the new numbers; None: they are restored from a file."""
    if args.output is not None or args.restore is not None:
        return args.output
    return file_of_id(args.id or profile.name, profile)


def _check(args: argparse.Namespace) -> None:
    check_report_argument(args.json)
    if args.output is not None:
        writable(args.output)
    options = {
        "--headless": args.headless,
        "--middle-now": args.middle_now,
        "--sweep-seconds": args.sweep_seconds is not None,
        "--ranges": args.ranges is not None,
    }
    given = [option for option, is_given in options.items() if is_given]
    if args.restore is not None and (given or args.id is not None or args.output is not None):
        raise InputError("--restore measures nothing", "leave out --id, -o, --headless and its options")
    if given and not args.headless:
        raise InputError(f"{given[0]} needs --headless", "a guided calibration asks for it; or add --headless")
    if args.headless:
        _check_headless(args)


def _check_headless(args: argparse.Namespace) -> None:
    if not args.middle_now or (args.sweep_seconds is None) == (args.ranges is None):
        raise InputError(
            "--headless needs --middle-now, and --sweep-seconds S or --ranges FILE",
            "bring every joint to the middle of its travel first",
        )
    if not args.write_eeprom and args.output is None and args.json is None:
        raise InputError(
            "this calibration would be written nowhere",
            "add --write-eeprom to write it to the servos and LeRobot's file, or -o FILE or --json F to write a file",
        )


def _print_outcome(outcome: Outcome, args: argparse.Namespace) -> None:
    if outcome.written_to_servos:
        line = f"the servos have the new numbers, read back{'; so does ' + outcome.file if outcome.file else ''}"
    elif args.restore is not None:
        line = "the servos already have these numbers"
    elif outcome.file is not None:
        options = ["--arm", args.arm, "--port", args.port, "--restore", outcome.file, "--write-eeprom"]
        line = (
            f"the servos are unchanged; the numbers are in {outcome.file}; to write them to the servos: "
            f"sefa-edge calibrate {shlex.join(options)}"
        )
    else:
        line = "the servos are unchanged"
    print(line, file=sys.stderr if args.json == "-" else sys.stdout)
