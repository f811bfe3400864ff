"""The status line of a run: rewritten in place on a terminal, written once a second elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TextIO

from sefa_edge.profiles.console import printable, write_controls
from sefa_edge.profiles.units import NS_PER_S, ms_to_ns, ns_to_ms, s_to_ns

TERMINAL_PERIOD_NS = ms_to_ns(100)
LOG_PERIOD_NS = s_to_ns(1.0)
CLEAR_LINE = "\r\x1b[2K"


@dataclass(frozen=True, slots=True)
class Status:
    """The columns of the status line. None: not known yet."""

    episode: str
    state: str
    rate_hz: float | None
    inference_ns: int | None
    frame_age_ns: int | None
    successes: str

    def line(self) -> str:
        parts = [f"{self.episode:<13}", f"{self.state:<9}"]
        parts.append("  --   Hz" if self.rate_hz is None else f"{self.rate_hz:6.1f} Hz")
        parts.append(f"inference {_ms(self.inference_ns)}")
        parts.append(f"picture {_ms(self.frame_age_ns)} old")
        return "  ".join([*parts, self.successes]).rstrip()


class StatusLine:
    """Writes status lines at a readable rate, and other messages on lines of their own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._on_terminal = stream.isatty()
        self._period_ns = TERMINAL_PERIOD_NS if self._on_terminal else LOG_PERIOD_NS
        self._due_ns = 0
        self._line_open = False

    def update(self, status: Status, now_ns: int) -> None:
        """Write the status if it is due."""
        if now_ns < self._due_ns:
            return
        self._due_ns = now_ns + self._period_ns
        if self._on_terminal:  # dropped while the terminal is blocked: the next one follows soon
            write_controls(self._stream, CLEAR_LINE + printable(status.line()), patience_s=0.0)
            self._line_open = True
        else:
            self._stream.write(status.line() + "\n")
            self._stream.flush()

    def say(self, message: str) -> None:
        """Write a message on a line of its own."""
        self.finish()
        self._stream.write(message + "\n")
        self._stream.flush()

    def finish(self) -> None:
        """Clear the status line."""
        if self._line_open:
            write_controls(self._stream, CLEAR_LINE)
            self._line_open = False


class RateMeter:
    """Ticks per second over the last second or so."""

    def __init__(self) -> None:
        self._from_ns = time.monotonic_ns()
        self._from_tick = 0
        self.rate_hz: float | None = None

    def add(self, tick: int, stamp_ns: int) -> None:
        """Add a tick: its number without skipped ticks, and when it began."""
        elapsed_ns = stamp_ns - self._from_ns
        if elapsed_ns < 0 or self._from_tick == 0 or tick < self._from_tick:  # another control process
            self._from_ns, self._from_tick = stamp_ns, tick
        elif elapsed_ns >= LOG_PERIOD_NS:
            self.rate_hz = (tick - self._from_tick) * NS_PER_S / elapsed_ns
            self._from_ns, self._from_tick = stamp_ns, tick


def _ms(duration_ns: int | None) -> str:
    return "   -- ms" if duration_ns is None else f"{ns_to_ms(duration_ns):5.1f} ms"
