"""`sefa-edge arm status`: the health of every servo, once or live. Moves nothing, writes nothing."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import TextIO

from sefa_edge.firmware_bridge.host.errors import ArmTimeout
from sefa_edge.firmware_bridge.host.feetech.servo_bus import ServoBus
from sefa_edge.firmware_bridge.service.health import ArmHealth, judge_health
from sefa_edge.firmware_bridge.service.health_table import paint_for, table_lines
from sefa_edge.firmware_bridge.service.opening import calibration_of, open_bus, profile_of
from sefa_edge.firmware_bridge.service.servo_reading import read_kinds, read_scales, read_servos
from sefa_edge.profiles.console import write_controls
from sefa_edge.profiles.exit_codes import ExitCode
from sefa_edge.profiles.files import check_report_argument, write_report
from sefa_edge.profiles.schema import ArmProfile

REFRESH_S = 0.2
UP, CLEAR_TO_END, HIDE_CURSOR, SHOW_CURSOR = "\x1b[{}A", "\x1b[K", "\x1b[?25l", "\x1b[?25h"
CUT_LINES, WRAP_LINES = "\x1b[?7l", "\x1b[?7h"


def main(args: argparse.Namespace) -> int:
    """Print the health; returns 0 if the arm is healthy or was watched live, 1 if a servo is silent or beyond a limit.

    Raises:
        ArmTimeout: no servo answers.
        ArmDisconnected: the port vanished.
        MissingError: no such port, no permission, or another program uses it.
    """
    profile = profile_of(args)
    calibration = calibration_of(args, profile)
    check_report_argument(args.json)
    stream = sys.stderr if args.json == "-" else sys.stdout
    with open_bus(args.port, profile.feetech.baud) as bus:
        scales, kinds = read_scales(bus, profile, calibration), read_kinds(bus, profile)

        def read() -> ArmHealth:
            return judge_health(profile, args.port, read_servos(bus, profile), scales, kinds)

        first = read()
        _require_any(first, bus, profile)
        is_live = args.watch and stream.isatty()
        health = _watch(first, read, stream) if is_live else _show(first, stream)
    write_report(args.json, health.as_json())
    return ExitCode.DONE if is_live or health.is_healthy else ExitCode.FAILED


def _show(health: ArmHealth, stream: TextIO) -> ArmHealth:
    write_controls(stream, "\n".join(table_lines(health, paint_for(stream))) + "\n", patience_s=None)
    return health


def _watch(health: ArmHealth, read: Callable[[], ArmHealth], stream: TextIO) -> ArmHealth:
    """Refresh in place until Ctrl-C. Returns the last reading. Raises ArmDisconnected."""
    paint = paint_for(stream)
    back = HIDE_CURSOR + CUT_LINES
    try:
        while True:
            lines = [*table_lines(health, paint), "Ctrl-C ends it"]
            write_controls(stream, back + "".join(f"{line}{CLEAR_TO_END}\n" for line in lines))
            time.sleep(REFRESH_S)
            health = read()
            back = UP.format(len(lines))
    except KeyboardInterrupt:
        return health
    finally:
        write_controls(stream, WRAP_LINES + SHOW_CURSOR)


def _require_any(health: ArmHealth, bus: ServoBus, profile: ArmProfile) -> None:
    if health.is_silent:
        raise ArmTimeout(
            f"no servo of {profile.name} answers on {bus.link.port} at {bus.link.baud} baud",
            "is the arm's power supply on, and is this the right port? `sefa-edge arm scan --port P` asks every id",
        )
