"""Progress of long work: a bar on a terminal, otherwise a line every 15 seconds."""

from __future__ import annotations

import time
from typing import TextIO

from sefa_edge.profiles.console import printable, write_controls

WIDTH = 30
LINE_EVERY_S = 15.0


class Progress:
    """`with Progress("training", total, sys.stderr) as progress: progress.update(done, "loss 0.1")`."""

    def __init__(self, label: str, total: int, stream: TextIO) -> None:
        self._label, self._total, self._stream = label, max(total, 1), stream
        self._is_terminal = stream.isatty()
        self._every_s = 0.1 if self._is_terminal else LINE_EVERY_S
        self._start_s = time.monotonic()
        self._next_s = self._start_s

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_terminal:
            self._stream.write("\n")

    def update(self, done: int, note: str = "") -> None:
        """Show `done` of the total, at limited rate; cheap to call often."""
        now_s = time.monotonic()
        if now_s < self._next_s and done < self._total:
            return
        self._next_s = now_s + self._every_s
        elapsed_s = now_s - self._start_s
        left_s = elapsed_s / done * (self._total - done) if done else 0.0
        line = f"{self._label} {done}/{self._total} {elapsed_s:.0f}s, {left_s:.0f}s left {note}".rstrip()
        if self._is_terminal:
            filled = WIDTH * done // self._total
            bar = "#" * filled + "." * (WIDTH - filled)
            write_controls(self._stream, f"\r\x1b[K[{bar}] {printable(line)}", patience_s=0.0)
        else:
            self._stream.write(line + "\n")
            self._stream.flush()
