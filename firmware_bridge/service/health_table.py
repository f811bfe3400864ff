"""The health of an arm as a table for a person, coloured on a terminal."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TextIO

from sefa_edge.firmware_bridge.service.health import ArmHealth, JointHealth
from sefa_edge.profiles.console import printable

RED, YELLOW, BOLD, PLAIN = "\x1b[31m", "\x1b[33m", "\x1b[1m", "\x1b[0m"
HEADINGS = ("joint", "id", "position", "goal", "torque", "temperature", "supply", "load", "current", "status")
GAP = "  "
UNUSABLE = {"silent", "mode", "model"}
"""Trouble that is shown in the status column."""

Paint = Callable[[str, str], str]
"""From a text and a colour to the text to print."""


def paint_for(stream: TextIO) -> Paint:
    """Colours on a terminal, unless NO_COLOR is set (no-color.org)."""
    if stream.isatty() and not os.environ.get("NO_COLOR"):
        return lambda text, colour: f"{colour}{text}{PLAIN}" if colour else text
    return lambda text, _: text


def table_lines(health: ArmHealth, paint: Paint) -> list[str]:
    """A line of headings, one line per joint, and what to do about unusable servos."""
    rows = [_cells(joint) for joint in health.joints]
    widths = [max(len(row[column]) for row in [HEADINGS, *rows]) for column in range(len(HEADINGS))]
    lines = [paint(_aligned(HEADINGS, widths), BOLD)]
    for joint, row in zip(health.joints, rows, strict=True):
        padded = [_pad(cell, width, column) for column, (cell, width) in enumerate(zip(row, widths, strict=True))]
        coloured = [paint(cell, _colour(joint, name)) for cell, name in zip(padded, HEADINGS, strict=True)]
        lines.append(GAP.join(coloured).rstrip())
    return lines + [printable(line) for line in health.remedies()]


def _cells(health: JointHealth) -> tuple[str, ...]:
    reading, joint = health.reading, health.joint
    name = printable(joint.name)
    if reading is None:
        return (name, str(joint.servo_id), *[""] * (len(HEADINGS) - 3), health.status)
    return (
        name,
        str(joint.servo_id),
        _position(health, reading.position_ticks),
        _position(health, reading.goal_ticks),
        "on" if reading.torque == 1 else "off" if reading.torque == 0 else str(reading.torque),
        f"{reading.temperature_c} C",
        f"{reading.supply_mv / 1000:.1f} V",
        f"{reading.load_pct:.0f} %",
        f"{reading.current_ma:.0f} mA",
        health.status,
    )


def _position(health: JointHealth, ticks: int) -> str:
    """Ticks, and the same in degrees or percent if the zero is known."""
    value = health.in_joint_units(ticks)
    unit = "deg" if health.joint.unit == "degrees" else "%  "
    return f"{ticks:4}     -- {unit}" if value is None else f"{ticks:4} {value:6.1f} {unit}"


def _aligned(cells: tuple[str, ...], widths: list[int]) -> str:
    padded = [_pad(cell, width, column) for column, (cell, width) in enumerate(zip(cells, widths, strict=True))]
    return GAP.join(padded).rstrip()


def _pad(cell: str, width: int, column: int) -> str:
    """Text is left-aligned, numbers are right-aligned."""
    return cell.ljust(width) if column in (0, len(HEADINGS) - 1) else cell.rjust(width)


def _colour(health: JointHealth, heading: str) -> str:
    if heading in health.trouble or (heading == "status" and UNUSABLE & set(health.trouble)):
        return RED
    return YELLOW if heading == "temperature" and health.warm else ""
