"""`sefa-edge` run as a program: how the learning half uses the running half, which it may not import."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable


def sefa_edge_command(*words: object) -> list[str]:
    """The command line of `sefa-edge WORDS` in this very environment."""
    return [sys.executable, "-m", "sefa_edge", *map(str, words)]


def run_sefa_edge(words: Iterable[object]) -> subprocess.CompletedProcess[str]:
    """Run it to its end, whatever its exit code."""
    return subprocess.run(sefa_edge_command(*words), capture_output=True, text=True, check=False)


def told_reason(standard_error: str) -> str:
    """Why it failed: its last `error:` line, or else its last line; empty when it said nothing."""
    lines = [line for line in standard_error.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or [""])[-1].removeprefix("error: ")
