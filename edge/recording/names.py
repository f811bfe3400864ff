"""Names of recordings."""

from __future__ import annotations

import os
import time
from pathlib import Path

PARTIAL = ".partial"
"""Ending of a recording that is not complete: it grows, or was cut short."""


def free_path(folder: Path) -> Path:
    """A name for a recording in a folder: by the time in UTC, and a number where that is taken."""
    stem = time.strftime("run-%Y%m%dT%H%M%SZ", time.gmtime())
    names = (f"{stem}{number}.mcap" for number in ("", *(f"-{n}" for n in range(2, 1000))))
    for name in names:
        path = folder / name
        if not path.exists() and not path.with_name(name + PARTIAL).exists():
            return path
    return folder / f"{stem}-{os.getpid()}.mcap"
