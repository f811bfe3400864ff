"""Optimised graphs of engines, kept between runs under ~/.cache/sefa-edge/onnxruntime. Nothing depends on it.

Where anything is amiss (no folder, full disk,
damaged file, another machine's), the engine is optimised again and nobody is told.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

MAX_BYTES = 64 << 20
"""Checking a larger copy takes longer than optimising it again: its bytes are weights, not nodes."""
MAX_FILES = 16
CPU_FACTS = frozenset(
    {
        "vendor_id",
        "cpu family",
        "model",
        "model name",
        "flags",
        "CPU implementer",
        "CPU part",
        "CPU variant",
        "Features",
    }
)
"""Keys in /proc/cpuinfo that decide which kernels fit. Virtual machines share a model name across generations."""
CPU_FACTS_BYTES = 8192
"""Enough for one core; the kernel gathers what it says of all of them in milliseconds."""
DIGEST_BYTES = hashlib.sha256().digest_size


def cache_key(engine_sha256: str, library: str, options: str) -> str:
    """Whatever the optimised graph depends on, as one hexadecimal word."""
    facts = [engine_sha256, library, options, _processor()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def recall(key: str) -> bytes | None:
    """The graph kept under this key, or None when there is none that is whole."""
    folder = _folder()
    if folder is None or not _is_ours(folder):
        return None
    try:
        with _file(folder, key).open("rb") as file:
            sealed = file.read(DIGEST_BYTES + MAX_BYTES)
    except OSError:
        return None
    content = memoryview(sealed)[DIGEST_BYTES:]
    return bytes(content) if sealed[:DIGEST_BYTES] == _seal(key, content) else None


def keep(key: str, write: Callable[[Path], object]) -> None:
    """Keep the file that `write(path)` makes. OSError, also out of `write`, means that nothing is kept."""
    folder = _folder()
    if folder is None:
        return
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if _is_ours(folder):
            _write(folder, key, write)


def _write(folder: Path, key: str, write: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory(prefix="new-", dir=folder) as workshop:
        graph, sealed = Path(workshop) / "graph", Path(workshop) / "sealed"
        write(graph)
        if graph.stat().st_size <= MAX_BYTES:
            content = graph.read_bytes()
            sealed.write_bytes(_seal(key, content) + content)
            sealed.replace(_file(folder, key))  # whole, whoever else writes it now
            _forget_oldest(folder)


def _folder() -> Path | None:
    """None where there is no home, as in a service without one."""
    root, home = os.environ.get("XDG_CACHE_HOME", ""), os.environ.get("HOME", "")
    base = Path(root) if os.path.isabs(root) else Path(home) / ".cache"
    return base / "sefa-edge" / "onnxruntime" if base.is_absolute() else None


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can put files into it."""
    try:
        status = folder.stat()
    except OSError:
        return False
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _file(folder: Path, key: str) -> Path:
    return folder / f"{key}.graph"


def _seal(key: str, content: bytes | memoryview) -> bytes:
    """Over the key too: a file under another one's name is not whole."""
    digest = hashlib.sha256(key.encode())
    digest.update(content)
    return digest.digest()


def _forget_oldest(folder: Path) -> None:
    files = sorted(folder.glob("*.graph"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
    for file in files[MAX_FILES:]:
        file.unlink(missing_ok=True)


def processor_name() -> str:
    """Model name, and a digest of all that decides how an engine computes here: one name, one arithmetic."""
    lines = _processor()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "processor")
    return f"{model} {hashlib.sha256(json.dumps(lines).encode()).hexdigest()[:12]}"


def _processor() -> list[str]:
    """What the first core says of itself."""
    try:
        with open("/proc/cpuinfo", "rb", buffering=0) as file:
            first = file.read(CPU_FACTS_BYTES).decode(errors="replace").split("\n\n", 1)[0]
    except OSError:
        return []
    return [line for line in first.splitlines() if line.split(":", 1)[0].strip() in CPU_FACTS]
