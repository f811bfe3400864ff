"""`sefa-edge arm configure`: compare the servos' settings with the arm profile, and write differences if allowed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sefa_edge.firmware_bridge.host.feetech.servo_bus import ServoBus
from sefa_edge.firmware_bridge.host.feetech.settings import compare, write_eeprom, write_volatile
from sefa_edge.firmware_bridge.host.feetech.settings_table import Comparison, Difference
from sefa_edge.firmware_bridge.service.opening import open_bus, profile_of
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.exit_codes import ExitCode
from sefa_edge.profiles.schema import ArmProfile

HEADINGS = ("setting", "joint", "servo", "profile", "kept")


def main(args: argparse.Namespace) -> int:
    """Compare, and write if allowed; returns 1 if the EEPROM differs and was not written.

    Raises:
        InputError: the EEPROM must be written, but torque is on.
        SefaError: a servo does not answer or confirm, or the port cannot be used.
    """
    profile = profile_of(args)
    with open_bus(args.port, profile.feetech.baud) as bus:
        comparison = compare(bus, profile)
        _print_table(profile, comparison)
        if args.write_eeprom:
            _write(bus, profile, comparison)
            return 0
    if comparison.kept:
        print("nothing was written; --write-eeprom writes the differences, while torque is off", file=sys.stderr)
    elif comparison.differences:
        print("nothing was written; a run writes these automatically", file=sys.stderr)
    return ExitCode.FAILED if comparison.kept else ExitCode.DONE


def _write(bus: ServoBus, profile: ArmProfile, comparison: Comparison) -> None:
    """Write all differences, then compare again."""
    write_volatile(bus, comparison.volatile)
    write_eeprom(bus, comparison)
    left = compare(bus, profile).differences
    if left:
        names = ", ".join(f"{difference.setting.name} of {difference.servo.joint}" for difference in left)
        raise InputError(f"written, but not kept by the servo: {names}", "repeat it; is the servo damaged?")
    if comparison.differences:
        print(f"{len(comparison.differences)} settings written and read back; every EEPROM is locked")


def _print_table(profile: ArmProfile, comparison: Comparison) -> None:
    torque = f"torque on: {', '.join(comparison.holding)}" if comparison.holding else "torque off"
    print(f"{profile.name}: {comparison.joints} servos, {torque}")
    if not comparison.differences:
        print("every setting is as the profile says")
        return
    rows = [HEADINGS, *(_row(difference) for difference in comparison.differences)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _row(difference: Difference) -> Sequence[str]:
    setting = difference.setting
    found, wanted = setting.text(difference.found), setting.text(difference.wanted)
    where = "until power-off" if setting.volatile else "EEPROM"
    return setting.name, difference.servo.joint, found, wanted, where
