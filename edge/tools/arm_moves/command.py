"""`sefa-edge arm`: the verbs of `firmware_bridge/service`, and the two that move an arm through the limiter."""

from __future__ import annotations

import argparse

from sefa_edge.firmware_bridge.service.command import (
    SERVICE_VERBS,
    Verb,
    add_arm_arguments,
    add_calibration_argument,
    add_verbs,
    run_verb,
)
from sefa_edge.profiles.quantities import Real

ROOM = "sefa_edge.edge.tools.arm_moves"
SPEED_DEG_S = Real("a speed", 0.0, 1000.0, "degrees per second", above_lowest=True)
DEFAULT_SPEED_DEG_S = 20.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sefa-edge arm`."""
    add_verbs(parser, VERBS)


def main(args: argparse.Namespace) -> int:
    """Run the chosen verb; returns the exit code."""
    return run_verb(args, VERBS)


def _add_center_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("joint", nargs="?", metavar="JOINT", help="move only this joint (default: all)")
    add_arm_arguments(parser)
    add_calibration_argument(parser)
    parser.add_argument("--pose", choices=("middle", "start"), default="middle", help="where to")
    parser.add_argument("--then", choices=("hold", "park", "release"), default="hold", help="what follows")
    _add_speed_argument(parser)


def _add_park_arguments(parser: argparse.ArgumentParser) -> None:
    add_arm_arguments(parser)
    add_calibration_argument(parser)
    _add_speed_argument(parser)


def _add_speed_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--speed",
        type=SPEED_DEG_S.parse,
        default=DEFAULT_SPEED_DEG_S,
        metavar="D",
        help="degrees per second of the fastest joint",
    )


VERBS = SERVICE_VERBS | {
    "center": Verb(
        f"{ROOM}.center", "move slowly to the middle of the joints' ranges, or to the start pose", _add_center_arguments
    ),
    "park": Verb(f"{ROOM}.park", "move slowly to the park pose, then switch off the torque", _add_park_arguments),
}
