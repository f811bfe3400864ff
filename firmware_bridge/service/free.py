"""`sefa-edge arm free`: torque off in every servo of the arm, each read back. The arm drops."""

from __future__ import annotations

import argparse
import sys

from sefa_edge.firmware_bridge.host.feetech.torque import joints_holding, release
from sefa_edge.firmware_bridge.service.opening import open_bus, profile_of
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.exit_codes import ExitCode

YES_ANSWERS = ("y", "yes")


def main(args: argparse.Namespace) -> int:
    """Run the verb; returns 0, or 1 if a person declined.

    Raises:
        InputError: no terminal to ask on, and no --yes.
        ArmTimeout: no servo answers.
        ArmUnconfirmed: a servo still holds, or does not answer; the others are released.
        MissingError: no such port, no permission, or another program uses it.
    """
    profile = profile_of(args)
    with open_bus(args.port, profile.feetech.baud) as bus:
        holding = joints_holding(bus, profile)
        if holding and not (args.yes or _consents(holding)):
            print("nothing done")
            return ExitCode.FAILED
        release(bus, profile)
    were = f"held before: {', '.join(holding)}" if holding else "none of them held"
    print(f"torque off, read back from all {len(profile.joints)} servos ({were})")
    return 0


def _consents(holding: list[str]) -> bool:
    warning = f"{', '.join(holding)} will be released: THE ARM DROPS. Support it."
    if not sys.stdin.isatty():
        raise InputError(f"the arm would drop: {', '.join(holding)} hold it", "support it, then add --yes")
    print(f"{warning} Release? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in YES_ANSWERS
