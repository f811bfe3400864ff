"""`sefa-edge calibrate`: find out where an arm's zero and ends are, and put them into its servos and LeRobot's file."""

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
    """The words of `sefa-edge calibrate`."""
    add_arm_arguments(parser)
    places = parser.add_mutually_exclusive_group()
    places.add_argument("--id", metavar="NAME", help="LeRobot's name of this arm (default: the arm profile's name)")
    places.add_argument("-o", "--output", type=path_argument, metavar="FILE", help="write the calibration here instead")
    parser.add_argument(
        "--write-eeprom", action="store_true", help="put the numbers into the servos (guided: also by a typed word)"
    )
    parser.add_argument("--restore", metavar="FILE|ID", help="no new numbers: put those of this file into the servos")
    parser.add_argument("--headless", action="store_true", help="ask nothing; needs the words that follow")
    parser.add_argument("--middle-now", action="store_true", help="every joint is in the middle of its travel now")
    ranges = parser.add_mutually_exclusive_group()
    ranges.add_argument(
        "--sweep-seconds",
        type=SWEEP_S.parse,
        metavar="S",
        help="for so long somebody moves every joint from end to end",
    )
    ranges.add_argument(
        "--ranges",
        type=path_argument,
        metavar="FILE",
        help='or take the ranges from JSON, {"shoulder_pan": [796, 3299], …}',
    )
    parser.add_argument("--json", metavar="F", help="write the result as JSON; - is standard output")


def main(args: argparse.Namespace) -> int:
    """Do it; returns 0. Raises SefaError for what must be told with a hint."""
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
    _tell(outcome, args)
    return 0


class Job:
    """One calibration of one open arm."""

    def __init__(
        self, args: argparse.Namespace, profile: ArmProfile, registers: CalibrationRegisters, file: Path | None
    ) -> None:
        """`file`: where the numbers go when they are in the servos; None: nowhere."""
        self._args = args
        self._profile = profile
        self._registers = registers
        self._file = file
        self._target = CalibrationTarget(registers, profile, args.port)

    def restore(self, wanted: Calibration) -> Outcome:
        """Put the numbers of a file into the servos. Raises SefaError."""
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
        """New numbers, from the person at the terminal, or headless. Raises SefaError, KeyboardInterrupt."""
        try:
            return self.headless() if terminal is None else self.guided(terminal)
        except (SefaError, KeyboardInterrupt):
            self._tell_torque()
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
        """Led by questions on a terminal. Raises SefaError, KeyboardInterrupt."""
        try:
            calibration = Guided(self._registers, self._profile, terminal).run()
            self._show(calibration)
            terminal.say("", f"The numbers belong into the servos and into {self._file}.")
            question = f"Type '{CONFIRMATION}' to put them there, ENTER to leave the servos as they are: "
            agreed = self._args.write_eeprom or terminal.ask(question) == CONFIRMATION
        except KeyboardInterrupt:
            terminal.say("", "Nothing was written: the servos carry their old numbers.")
            raise
        if agreed:
            return self._target.write(calibration, self._file)
        return self._target.keep(calibration, self._args.output or spare_path(f"{self._profile.name}-not-written"))

    def _headless_sweep(self) -> Sweep:
        if self._args.ranges is not None:
            return given_sweep(self._registers, self._profile, self._args.ranges)
        return timed_sweep(self._registers, self._args.sweep_seconds)

    def _tell_torque(self) -> None:
        """How an arm is left that was not calibrated."""
        try:
            torque = self._registers.read_torque()
        except ArmFault:
            torque = TorqueReading((), self._profile.joint_names)
        parts = [f"on in {', '.join(torque.on)}"] if torque.on else []
        parts += [f"not known of {', '.join(torque.unknown)}"] if torque.unknown else []
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
    """Where the numbers of the servos are written; None: a file that is restored is there already."""
    if args.output is not None or args.restore is not None:
        return args.output
    return file_of_id(args.id or profile.name, profile)


def _check(args: argparse.Namespace) -> None:
    check_report_argument(args.json)
    if args.output is not None:
        writable(args.output)
    words = {
        "--headless": args.headless,
        "--middle-now": args.middle_now,
        "--sweep-seconds": args.sweep_seconds is not None,
        "--ranges": args.ranges is not None,
    }
    given = [word for word, is_given in words.items() if is_given]
    if args.restore is not None and (given or args.id is not None or args.output is not None):
        raise InputError("--restore takes the numbers as they are", "leave --id, -o and the words of --headless out")
    if given and not args.headless:
        raise InputError(f"{given[0]} belongs to --headless", "a guided calibration asks; or add --headless")
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
            "nothing would come of this calibration",
            "add --write-eeprom to put it into the servos and LeRobot's file, or -o FILE or --json F to look at it",
        )


def _tell(outcome: Outcome, args: argparse.Namespace) -> None:
    if outcome.written_to_servos:
        said = f"the servos carry the new numbers, read back{'; so does ' + outcome.file if outcome.file else ''}"
    elif args.restore is not None:
        said = "the servos carry these numbers already"
    elif outcome.file is not None:
        words = ["--arm", args.arm, "--port", args.port, "--restore", outcome.file, "--write-eeprom"]
        said = (
            f"the servos are as they were; the numbers are in {outcome.file}; to put them into the servos: "
            f"sefa-edge calibrate {shlex.join(words)}"
        )
    else:
        said = "the servos are as they were"
    print(said, file=sys.stderr if args.json == "-" else sys.stdout)
