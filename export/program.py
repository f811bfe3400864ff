"""Runs `sefa-edge` as a program: training and export may not import the runtime."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable


def sefa_edge_command(*arguments: object) -> list[str]:
    """The command line of `sefa-edge ARGUMENTS` in this environment."""
    return [sys.executable, "-m", "sefa_edge", *map(str, arguments)]


def run_sefa_edge(arguments: Iterable[object]) -> subprocess.CompletedProcess[str]:
    """Run it to its end, with any exit code."""
    return subprocess.run(sefa_edge_command(*arguments), capture_output=True, text=True, check=False)


def error_message(standard_error: str) -> str:
    """Why it failed: its last `error:` line, or else its last line; empty if it printed nothing."""
    lines = [line for line in standard_error.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or [""])[-1].removeprefix("error: ")
