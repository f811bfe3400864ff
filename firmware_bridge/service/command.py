"""`sefa-edge arm`: find an arm, look at it, set its servos up, bring it to a pose, let it go."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Protocol, cast

from sefa_edge.profiles.quantities import Real, Whole

ROOM = "sefa_edge.firmware_bridge.service"
MOVES_ROOM = "sefa_edge.edge.tools.arm_moves"
MOVES = ("center", "park")
"""Commands that move the arm, through the limiter of the control loop."""
VERBS = {
    "scan": "list serial ports, who holds them, and the servos that answer; moves nothing, writes nothing",
    "status": "show the health of every servo of an arm; moves nothing, writes nothing",
    "set-id": "give the servos of a new arm their ids, with one servo connected at a time",
    "configure": "compare the servos' settings with the arm's profile; --write-eeprom writes what differs",
    "center": "move slowly to the middle of the joints' ranges, or to the start pose",
    "free": "switch the torque of every servo off and read that back: the arm drops",
    "park": "move slowly to the park pose, then switch the torque off",
}
SERVO_ID = Whole("an id", 0, 253)
BAUD = Whole("a speed", 1, 10_000_000, "baud")
SPEED_DEG_S = Real("a speed", 0.0, 1000.0, "degrees per second", above_lowest=True)
DEFAULT_ARM = "so101"
DEFAULT_SPEED_DEG_S = 20.0


class Verb(Protocol):
    """What the module of a verb offers."""

    def main(self, args: argparse.Namespace) -> int:
        """Do it; the exit code."""
        ...


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of `sefa-edge arm`."""
    chosen = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    verbs = {
        name: chosen.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=parser.formatter_class,
            allow_abbrev=False,
        )
        for name, summary in VERBS.items()
    }
    _add_scan_words(verbs["scan"])
    _add_status_words(verbs["status"])
    _add_set_id_words(verbs["set-id"])
    _add_configure_words(verbs["configure"])
    _add_center_words(verbs["center"])
    _add_free_words(verbs["free"])
    _add_park_words(verbs["park"])


def main(args: argparse.Namespace) -> int:
    """Import the chosen verb alone, and do it."""
    room = MOVES_ROOM if args.verb in MOVES else ROOM
    verb = cast(Verb, import_module(f"{room}.{args.verb.replace('-', '_')}"))
    return verb.main(args)


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
    _add_calibration_word(parser)
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


def _add_center_words(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("joint", nargs="?", metavar="JOINT", help="move this joint alone (default: all)")
    add_arm_words(parser)
    _add_calibration_word(parser)
    parser.add_argument("--pose", choices=("middle", "start"), default="middle", help="where to")
    parser.add_argument("--then", choices=("hold", "park", "release"), default="hold", help="what follows")
    _add_speed_word(parser)


def _add_free_words(parser: argparse.ArgumentParser) -> None:
    add_arm_words(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask whether the arm may drop")


def _add_park_words(parser: argparse.ArgumentParser) -> None:
    add_arm_words(parser)
    _add_calibration_word(parser)
    _add_speed_word(parser)


def add_arm_words(parser: argparse.ArgumentParser) -> None:
    """Which arm, and where."""
    parser.add_argument("--arm", default=DEFAULT_ARM, metavar="ARM", help="so101, so100, sim or an arm profile (.yaml)")
    parser.add_argument("--port", required=True, metavar="P", help="serial port of the arm")


def _add_calibration_word(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calibration", metavar="FILE|ID", help="LeRobot calibration (default: what the servos carry)")


def _add_speed_word(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--speed",
        type=SPEED_DEG_S.parse,
        default=DEFAULT_SPEED_DEG_S,
        metavar="D",
        help="degrees per second of the fastest joint",
    )


def _add_json_word(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="F", help="write what was found as JSON; - is standard output")
