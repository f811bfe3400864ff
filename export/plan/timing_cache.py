"""Measured kernel times, kept between builds: a rebuild is fast and chooses the same kernels.

They are valid for one library version on one kind of GPU in one power mode, so the file name contains these.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.files import write_atomic

MAX_BYTES = 64 << 20
MAX_FILES = 16
SUFFIX = ".timing"


def timing_cache_path(folder: Path, *key: str) -> Path:
    """The file for a key (library, version, GPU, compute capability, power mode), readable and unique."""
    parts = [re.sub(r"[^A-Za-z0-9.]+", "_", part).strip("_.") or "none" for part in key]
    digest = hashlib.sha256("\0".join(key).encode()).hexdigest()[:8]
    return folder / f"{'-'.join(parts)[:160]}-{digest}{SUFFIX}"


def read_timing_cache(path: Path) -> bytes:
    """The stored times; empty if the file cannot be read or is too large."""
    try:
        return path.read_bytes() if path.stat().st_size <= MAX_BYTES else b""
    except OSError:
        return b""


def write_timing_cache(path: Path, content: bytes) -> None:
    """Store the measured times atomically. A write error is ignored: the next build is only slower."""
    if not 0 < len(content) <= MAX_BYTES:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(path, content)
        _drop_oldest(path.parent)
    except (OSError, InputError):
        return


def _drop_oldest(folder: Path) -> None:
    files = sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime_ns)
    for path in files[:-MAX_FILES]:
        path.unlink(missing_ok=True)
