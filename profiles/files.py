"""Files: fingerprints, and writing that leaves a whole file or none."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

from sefa_edge.profiles import console
from sefa_edge.profiles.errors import InputError

MAX_BYTES = 1_000_000


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_json(content: object) -> str:
    """SHA-256 of plain values as canonical JSON: sorted keys, no spaces."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_bounded(path: Path) -> str:
    """Text of a small file.

    Raises:
        InputError: it is absent, no file (a device never ends), unreadable, over 1 MB, or not UTF-8.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path} is not a file", "check the path")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f"{path} is larger than {MAX_BYTES} bytes", "is this the right file?")
        return content.decode("utf-8")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist", "check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", "check the path and its permissions") from None


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that a crash, or a full disk, leaves either the old one or the new one. Raises OSError."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    temporary.replace(path)


def writable(path: Path) -> Path:
    """The path, if a file can be made there: better told before long work than after it.

    Raises:
        InputError: the folder does not exist or may not be written to.
    """
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist", f"mkdir -p {path.parent}")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"{path} cannot be written", "choose another place")
    return path


def make_folder(path: Path) -> Path:
    """Make a folder with its parents, or take the one that is there. Raises InputError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {path} cannot be made: {error.strerror}", "choose another place") from None
    return writable(path / "file").parent


def check_report_word(word: str | None) -> None:
    """The value of a `--json F` option, before the work: None is no report, `-` standard output. Raises InputError."""
    if word not in (None, "-"):
        writable(Path(word))


def write_report(word: str | None, content: str) -> None:
    """Write a report to where its `--json F` option says; a file is written whole or not at all. Raises InputError."""
    if word == "-":
        if not console.write_result(content):
            raise InputError("the reader of standard output takes nothing", "give --json a file")
    elif word is not None:
        try:
            write_atomic(Path(word), content.encode())
        except OSError as error:
            raise InputError(f"{word} cannot be written: {error.strerror}", "is its disk full?") from None
