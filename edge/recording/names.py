"""Names of recordings."""

from __future__ import annotations

import os
import time
from pathlib import Path

PARTIAL = ".partial"
"""Extension of an incomplete recording: it is being written, or was interrupted."""


def free_path(folder: Path) -> Path:
    """An unused name for a recording in a folder: the time in UTC, and a number if that name is taken."""
    stem = time.strftime("run-%Y%m%dT%H%M%SZ", time.gmtime())
    names = (f"{stem}{number}.mcap" for number in ("", *(f"-{n}" for n in range(2, 1000))))
    for name in names:
        path = folder / name
        if not path.exists() and not path.with_name(name + PARTIAL).exists():
            return path
    return folder / f"{stem}-{os.getpid()}.mcap"
