"""The commands of `sefa-edge arm` that send no goals: find an arm, inspect it, set up its servos, release it.

`sefa-edge arm` itself, with the commands that move an arm, is `edge/tools/arm_moves/command.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from sefa_edge.profiles.quantities import Whole

ROOM = "sefa_edge.firmware_bridge.service"
SERVO_ID = Whole("an id", 0, 253)
BAUD = Whole("a speed", 1, 10_000_000, "baud")
DEFAULT_ARM = "so101"


class VerbModule(Protocol):
    """The interface of a verb's module."""

    def main(self, args: argparse.Namespace) -> int:
        """Run the verb; returns the exit code."""
        ...


@dataclass(frozen=True, slots=True)
class Verb:
    """One row: `sefa-edge arm NAME`."""

    module: str
    """Imported only if the verb is chosen."""
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]


def add_verbs(parser: argparse.ArgumentParser, verbs: Mapping[str, Verb]) -> None:
    """Add a subcommand for every verb."""
    chosen = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, verb in verbs.items():
        description = verb.summary[0].upper() + verb.summary[1:] + "."
        added = chosen.add_parser(
            name,
            help=verb.summary,
            description=description,
            formatter_class=parser.formatter_class,
            allow_abbrev=False,
        )
        verb.add_arguments(added)


def run_verb(args: argparse.Namespace, verbs: Mapping[str, Verb]) -> int:
    """Import only the module of the chosen verb, and run it; returns the exit code."""
    return cast(VerbModule, import_module(verbs[args.verb].module)).main(args)


def _add_scan_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", metavar="P", help="scan only this port, whatever it is (default: servo adapters)")
    bauds = parser.add_mutually_exclusive_group()
    bauds.add_argument(
        "--baud", type=BAUD.parse, action="append", metavar="B", help="speed to scan at (default: 1000000)"
    )
    bauds.add_argument("--all-bauds", action="store_true", help="scan at all eight speeds of a servo: 45 s per port")
    parser.add_argument(
        "--max-id", type=SERVO_ID.parse, default=253, metavar="N", help="scan the ids from 0 to N; 20 ms each"
    )
    parser.add_argument("--udev-rules", action="store_true", help="only print udev rules for servo adapters")
    _add_json_argument(parser)


def _add_status_arguments(parser: argparse.ArgumentParser) -> None:
    add_arm_arguments(parser)
    add_calibration_argument(parser)
    parser.add_argument("--watch", action="store_true", help="on a terminal: refresh in place until Ctrl-C")
    _add_json_argument(parser)


def _add_set_id_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("joint", nargs="?", metavar="JOINT", help="set up the connected servo as this joint, unasked")
    add_arm_arguments(parser)
    parser.add_argument("--write-eeprom", action="store_true", help="allow writing id and speed to the servo")


def _add_configure_arguments(parser: argparse.ArgumentParser) -> None:
    add_arm_arguments(parser)
    parser.add_argument(
        "--write-eeprom", action="store_true", help="write what differs, also in the EEPROM (default: only compare)"
    )


def _add_free_arguments(parser: argparse.ArgumentParser) -> None:
    add_arm_arguments(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask whether the arm may drop")


def add_arm_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for arm and port."""
    parser.add_argument("--arm", default=DEFAULT_ARM, metavar="ARM", help="so101, so100, sim or an arm profile (.yaml)")
    parser.add_argument("--port", required=True, metavar="P", help="serial port of the arm")


def add_calibration_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option for the calibration."""
    parser.add_argument("--calibration", metavar="FILE|ID", help="LeRobot calibration (default: the one in the servos)")


def _add_json_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="F", help="write what was found as JSON; - is standard output")


SERVICE_VERBS = {
    "scan": Verb(
        f"{ROOM}.scan",
        "list serial ports, the programs that use them, and the servos that answer; moves nothing, writes nothing",
        _add_scan_arguments,
    ),
    "status": Verb(
        f"{ROOM}.status",
        "show the health of every servo of an arm; moves nothing, writes nothing",
        _add_status_arguments,
    ),
    "set-id": Verb(
        f"{ROOM}.set_id",
        "give the servos of a new arm their ids, with one servo connected at a time",
        _add_set_id_arguments,
    ),
    "configure": Verb(
        f"{ROOM}.configure",
        "compare the servos' settings with the arm profile; --write-eeprom writes what differs",
        _add_configure_arguments,
    ),
    "free": Verb(
        f"{ROOM}.free", "switch off the torque of every servo and read it back: the arm drops", _add_free_arguments
    ),
}
