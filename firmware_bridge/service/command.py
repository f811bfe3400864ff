"""The commands of `sefa-edge arm` that send no goals: find an arm, look at it, set its servos up, release it.

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
    """What the module of a verb offers."""

    def main(self, args: argparse.Namespace) -> int:
        """Do it; the exit code."""
        ...


@dataclass(frozen=True, slots=True)
class Verb:
    """One row: `sefa-edge arm NAME`."""

    module: str
    """Imported when the verb was chosen, and only then."""
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]


def add_verbs(parser: argparse.ArgumentParser, verbs: Mapping[str, Verb]) -> None:
    """A subcommand for every verb, under its name."""
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
    """Import the chosen verb alone, and do it."""
    return cast(VerbModule, import_module(verbs[args.verb].module)).main(args)


def _add_scan_words(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", metavar="P", help="ask on this port alone, whatever it is (default: servo adapters)")
    bauds = parser.add_mutually_exclusive_group()
    bauds.add_argument(
        "--baud", type=BAUD.parse, action="append", metavar="B", help="speed to ask at (default: 1000000)"
    )
    bauds.add_argument("--all-bauds", action="store_true", help="ask at all eight speeds of a servo: 45 s a port")
    parser.add_argument(
        "--max-id", type=SERVO_ID.parse, default=253, metavar="N", help="ask the ids from 0 to N; 20 ms each"
    )
    parser.add_argument("--udev-rules", action="store_true", help="print udev rules for servo adapters, nothing else")
    _add_json_word(parser)


def _add_status_words(parser: argparse.ArgumentParser) -> None:
    add_arm_words(parser)
    add_calibration_word(parser)
    parser.add_argument("--watch", action="store_true", help="on a terminal: refresh in place until Ctrl-C")
    _add_json_word(parser)


def _add_set_id_words(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("joint", nargs="?", metavar="JOINT", help="set up the connected servo as this joint, unasked")
    add_arm_words(parser)
    parser.add_argument("--write-eeprom", action="store_true", help="allow to write id and speed into the servo")


def _add_configure_words(parser: argparse.ArgumentParser) -> None:
    add_arm_words(parser)
    parser.add_argument(
        "--write-eeprom", action="store_true", help="write what differs, also into the EEPROM (default: only look)"
    )


def _add_free_words(parser: argparse.ArgumentParser) -> None:
    add_arm_words(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask whether the arm may drop")


def add_arm_words(parser: argparse.ArgumentParser) -> None:
    """Which arm, and where."""
    parser.add_argument("--arm", default=DEFAULT_ARM, metavar="ARM", help="so101, so100, sim or an arm profile (.yaml)")
    parser.add_argument("--port", required=True, metavar="P", help="serial port of the arm")


def add_calibration_word(parser: argparse.ArgumentParser) -> None:
    """Which calibration."""
    parser.add_argument("--calibration", metavar="FILE|ID", help="LeRobot calibration (default: what the servos carry)")


def _add_json_word(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="F", help="write what was found as JSON; - is standard output")


SERVICE_VERBS = {
    "scan": Verb(
        f"{ROOM}.scan",
        "list serial ports, who holds them, and the servos that answer; moves nothing, writes nothing",
        _add_scan_words,
    ),
    "status": Verb(
        f"{ROOM}.status", "show the health of every servo of an arm; moves nothing, writes nothing", _add_status_words
    ),
    "set-id": Verb(
        f"{ROOM}.set_id",
        "give the servos of a new arm their ids, with one servo connected at a time",
        _add_set_id_words,
    ),
    "configure": Verb(
        f"{ROOM}.configure",
        "compare the servos' settings with the arm's profile; --write-eeprom writes what differs",
        _add_configure_words,
    ),
    "free": Verb(
        f"{ROOM}.free", "switch the torque of every servo off and read that back: the arm drops", _add_free_words
    ),
}
