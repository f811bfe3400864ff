"""Cache of optimised engine graphs under ~/.cache/sefa-edge/onnxruntime.

It only saves time: on any problem (no folder, full disk, damaged file, another machine's file) the engine is optimised
again without a message.
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
"""Verifying a larger copy takes longer than optimising again: most of its bytes are weights."""
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
"""Keys in /proc/cpuinfo that determine the kernels. Virtual machines share a model name across generations."""
CPU_FACTS_BYTES = 8192
"""Enough for one core; reading the entries of all cores takes milliseconds."""
DIGEST_BYTES = hashlib.sha256().digest_size


def cache_key(engine_sha256: str, library: str, options: str) -> str:
    """A hexadecimal digest of everything that the optimised graph depends on."""
    facts = [engine_sha256, library, options, _processor()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def load(key: str) -> bytes | None:
    """The graph stored under this key; None when there is none, or it is damaged."""
    folder = _folder()
    if folder is None or not _is_private(folder):
        return None
    try:
        with _file(folder, key).open("rb") as file:
            sealed = file.read(DIGEST_BYTES + MAX_BYTES)
    except OSError:
        return None
    content = memoryview(sealed)[DIGEST_BYTES:]
    return bytes(content) if sealed[:DIGEST_BYTES] == _seal(key, content) else None


def store(key: str, write: Callable[[Path], object]) -> None:
    """Store the file that `write(path)` creates. On OSError, also from `write`, nothing is stored."""
    folder = _folder()
    if folder is None:
        return
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if _is_private(folder):
            _write(folder, key, write)


def _write(folder: Path, key: str, write: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory(prefix="new-", dir=folder) as temporary:
        graph, sealed = Path(temporary) / "graph", Path(temporary) / "sealed"
        write(graph)
        if graph.stat().st_size <= MAX_BYTES:
            content = graph.read_bytes()
            sealed.write_bytes(_seal(key, content) + content)
            sealed.replace(_file(folder, key))  # atomic: another process may be writing the same file
            _delete_oldest(folder)


def _folder() -> Path | None:
    """The cache folder; None without a home directory, as in some services."""
    root, home = os.environ.get("XDG_CACHE_HOME", ""), os.environ.get("HOME", "")
    base = Path(root) if os.path.isabs(root) else Path(home) / ".cache"
    return base / "sefa-edge" / "onnxruntime" if base.is_absolute() else None


def _is_private(folder: Path) -> bool:
    """Whether no other user can write to it."""
    try:
        status = folder.stat()
    except OSError:
        return False
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _file(folder: Path, key: str) -> Path:
    return folder / f"{key}.graph"


def _seal(key: str, content: bytes | memoryview) -> bytes:
    """Digest of key and content, so that a file under another key's name is rejected."""
    digest = hashlib.sha256(key.encode())
    digest.update(content)
    return digest.digest()


def _delete_oldest(folder: Path) -> None:
    files = sorted(folder.glob("*.graph"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
    for file in files[MAX_FILES:]:
        file.unlink(missing_ok=True)


def processor_name() -> str:
    """Model name, and a digest of the CPU features on which an engine's arithmetic depends."""
    lines = _processor()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "processor")
    return f"{model} {hashlib.sha256(json.dumps(lines).encode()).hexdigest()[:12]}"


def _processor() -> list[str]:
    """The relevant lines of the first core in /proc/cpuinfo."""
    try:
        with open("/proc/cpuinfo", "rb", buffering=0) as file:
            first = file.read(CPU_FACTS_BYTES).decode(errors="replace").split("\n\n", 1)[0]
    except OSError:
        return []
    return [line for line in first.splitlines() if line.split(":", 1)[0].strip() in CPU_FACTS]
