"""Measured kernel times, kept between builds: they make a rebuild fast and choose the same kernels again.

They hold for one library version on one kind of GPU at one power mode, so that is what the file is named after.
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
    """The file of a key (library, version, GPU, compute capability, power mode), readable and free of collisions."""
    words = [re.sub(r"[^A-Za-z0-9.]+", "_", word).strip("_.") or "none" for word in key]
    digest = hashlib.sha256("\0".join(key).encode()).hexdigest()[:8]
    return folder / f"{'-'.join(words)[:160]}-{digest}{SUFFIX}"


def read_timing_cache(path: Path) -> bytes:
    """What was measured before; empty when there is nothing, or nothing credible."""
    try:
        return path.read_bytes() if path.stat().st_size <= MAX_BYTES else b""
    except OSError:
        return b""


def write_timing_cache(path: Path, content: bytes) -> None:
    """Keep what was measured, whole or not at all. Without room for it, the next build is merely slower."""
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
