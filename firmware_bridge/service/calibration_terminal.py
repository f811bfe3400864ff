"""The terminal of a guided calibration: a table that is redrawn in place, ENTER, and typed answers.

The terminal stays in its usual line mode, so nothing has to be restored however the program ends.
"""

from __future__ import annotations

import os
import select
import shutil
import termios
from collections.abc import Callable, Sequence
from typing import TextIO

from sefa_edge.firmware_bridge.service.calibrating import Finding, Sweep
from sefa_edge.profiles.console import printable, write_controls
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.schema import ArmProfile

POLL_S = 0.02
READ_BYTES = 1024
USUAL_COLUMNS = 80


class CalibrationTerminal:
    """The operator's screen and keyboard. End of input counts as Ctrl-C."""

    def __init__(self, keyboard: TextIO, screen: TextIO) -> None:
        """Raises InputError if either is not a terminal."""
        if not keyboard.isatty() or not screen.isatty():
            raise InputError(
                "a guided calibration needs a terminal", "without one: --headless --middle-now --sweep-seconds S"
            )
        self._keyboard = keyboard.fileno()
        self._screen = screen

    def print(self, *lines: str) -> None:
        """Print lines that are not redrawn."""
        self._screen.write("".join(f"{line}\n" for line in lines))
        self._screen.flush()

    def watch(self, lines: Callable[[], Sequence[str]]) -> None:
        """Redraw these lines in place until ENTER; earlier key presses are discarded."""
        self._discard_keys()
        drawn: Sequence[str] = ()
        while True:
            newest = lines()
            if newest != drawn:
                self._draw(newest, len(drawn))
                drawn = newest
            if self._line_within(POLL_S) is not None:
                return

    def ask(self, question: str) -> str:
        """Ask, and return the typed answer without surrounding spaces."""
        self._discard_keys()
        self._screen.write(question)
        self._screen.flush()
        while True:
            answer = self._line_within(None)
            if answer is not None:
                return answer.strip()

    def _draw(self, lines: Sequence[str], over: int) -> None:
        width = (shutil.get_terminal_size().columns or USUAL_COLUMNS) - 1  # a serial console says 0
        up = f"\x1b[{over}A\x1b[J" if over else ""
        write_controls(self._screen, up + "".join(f"{printable(line)[:width]}\n" for line in lines))

    def _discard_keys(self) -> None:
        """Discard typed lines. Not with tcflush: it would also drop a Ctrl-C that has not become a signal yet."""
        termios.tcsetattr(self._keyboard, termios.TCSAFLUSH, termios.tcgetattr(self._keyboard))

    def _line_within(self, seconds: float | None) -> str | None:
        readable, _, _ = select.select((self._keyboard,), (), (), seconds)
        if not readable:
            return None
        typed = os.read(self._keyboard, READ_BYTES)
        if not typed:
            raise KeyboardInterrupt
        return typed.decode(errors="replace")


def position_table(profile: ArmProfile, ticks: Sequence[int | None]) -> list[str]:
    """Positions of the joints, in encoder ticks."""
    pairs = zip(profile.joint_names, ticks, strict=True)
    return [f"{'joint':<16}{'encoder':>9}", *(f"{name:<16}{_shown(at):>9}" for name, at in pairs)]


def sweep_table(profile: ArmProfile, sweep: Sweep, newest: Sequence[int | None], wrong: Sequence[Finding]) -> list[str]:
    """Position and range of every joint, and what is still missing."""
    problems = {finding.joint: finding for finding in wrong}
    rows = [f"{'joint':<16}{'position':>9}{'lowest':>8}{'highest':>9}{'moved':>7}"]
    for joint, seen, ticks in zip(profile.joints, sweep, newest, strict=True):
        shown = _shown(None if ticks is None else seen.position_ticks)
        moved = seen.highest_ticks - seen.lowest_ticks
        row = f"{joint.name:<16}{shown:>9}{seen.lowest_ticks:>8}{seen.highest_ticks:>9}{moved:>7}"
        usual = joint.range_max_ticks - joint.range_min_ticks
        rows.append(f"{row}  {_state(problems.get(joint.name), joint.turns_freely, usual)}")
    return rows


def _state(problem: Finding | None, turns_freely: bool, usual_ticks: int) -> str:
    if turns_freely:
        return "need not be moved"
    if problem is None:
        return "ok"
    return "OVER THE ENCODER'S END" if problem.restart else f"keep moving, about {usual_ticks}"


def _shown(ticks: int | None) -> str:
    return "silent" if ticks is None else str(ticks)
