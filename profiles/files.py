"""Files: bounded reading, hashes, and atomic writing."""

from __future__ import annotations

import codecs
import errno
import hashlib
import json
import os
import select
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from sefa_edge.profiles import console
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.file_kinds import HEAD_BYTES, seems_to_be

MAX_BYTES = 1_000_000
"""Largest text file that is read."""
MAX_LINKS = 40
"""Consecutive symbolic links that are followed, as in Linux."""
READER_PATIENCE_S = 5.0
"""How long to wait for the reader of a pipe or a terminal."""
READER_POLL_S = 0.02
ROOM_HINT = "make room there, or raise the limit on the size of files (`ulimit -f`)"


def path_argument(text: str) -> Path:
    """Argparse type for a path. Raises ArgumentTypeError for an empty argument."""
    if not text:
        import argparse  # only command lines need it

        raise argparse.ArgumentTypeError("expected a path, got an empty text; is a variable of the shell not set?")
    return Path(text)


def open_regular(path: Path) -> FileIO:
    """Open a regular file for reading, unbuffered; never waits for a pipe's writer or a device.

    Raises:
        InputError: it is missing, a folder, a device, a pipe or a socket, or may not be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(path, error) from None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return FileIO(fd)
    os.close(fd)
    raise InputError(f"{path} is not a regular file", "give a file, not a folder, a device or a pipe")


def read_up_to(path: Path, size: int) -> bytes:
    """The first bytes of a regular file, or all of a smaller one. Raises InputError."""
    with open_regular(path) as file, _naming_unreadable(path):
        content = file.read(size)
        while len(content) < size and (block := file.read(size - len(content))):
            content += block  # one call reads 2 GiB at most
        return content


def read_head(path: Path) -> bytes:
    """The first bytes of a regular file, enough to identify its kind. Raises InputError."""
    return read_up_to(path, HEAD_BYTES)


def sha256_of(path: Path) -> str:
    """SHA-256 of a regular file, hexadecimal. Raises InputError if it cannot be read."""
    digest = hashlib.sha256()
    with open_regular(path) as file, _naming_unreadable(path):
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_json(content: object) -> str:
    """SHA-256 of plain values as canonical JSON: sorted keys, no spaces."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_bounded(path: Path) -> str:
    """Text of a small file.

    Raises:
        InputError: missing, not a regular file, unreadable, over 1 MB, or neither UTF-8 nor UTF-16 with a BOM.
    """
    content = read_up_to(path, MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES} bytes", "is this the right file?")
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return content.decode(encoding)  # Windows writes a byte order mark
    except UnicodeDecodeError as error:
        what = seems_to_be(content[:HEAD_BYTES])
        reason = f"it is {what}" if what and "text" not in what.lower() else f"byte {error.start} is not {encoding[:6]}"
        raise InputError(f"{path} is not a text file: {reason}", "is this the right file?") from None


@contextmanager
def _naming_unreadable(path: Path) -> Iterator[None]:
    """Inside the block, an OSError becomes an InputError that says what cannot be read, and why."""
    try:
        yield
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> InputError:
    if error.errno == errno.ENOENT:
        return InputError(f"{path} does not exist", "check the path")
    reason = os.strerror(error.errno) if error.errno else str(error)
    return InputError(f"{path} cannot be read: {reason}", "check the path and its permissions")


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that a crash or a full disk leaves either the old one or the new one.

    Links are followed. A device, a pipe, or a descriptor below /dev/fd is written to directly.

    Raises:
        InputError: it cannot be written; says why.
    """
    if _is_plain(path):
        with staged(path) as temporary:
            temporary.write_bytes(content)
    else:
        with naming_failures(path):
            _write_into(path, content)


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A temporary path next to `path`, with its suffix, for a library to write to; on success it replaces `path`.

    The mode of an existing file is kept, links are followed, and anything but a regular file gets a copy of the
    content. After an error nothing is left behind.

    Raises:
        InputError: it cannot be written; says why.
    """
    is_plain = _is_plain(path)
    target = Path(os.path.realpath(path))
    folder = target.parent if is_plain else Path(tempfile.gettempdir())
    temporary = folder / f".sefa-edge-{os.getpid()}-{os.urandom(4).hex()}{path.suffix}"
    with naming_failures(path):
        try:
            yield temporary
            if is_plain:
                _replace(temporary, target)
            else:
                _write_into(path, temporary.read_bytes())
        finally:
            temporary.unlink(missing_ok=True)


def writable(path: Path) -> Path:
    """Check that a file can be written at this path, to fail before long work rather than after it.

    Raises:
        InputError: a directory, a disk, a folder that does not exist, or no permission.
    """
    with naming_failures(path):
        kind = _kind(path)
        if kind is not None and not stat.S_ISREG(kind):
            return _writable_special(path, kind)
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        shown = path.parent if not path.is_symlink() else folder
        raise InputError(f"the folder {shown} does not exist", f"mkdir -p {shown}")
    if not os.access(folder, os.W_OK) or (kind is not None and not os.access(path, os.W_OK)):
        raise InputError(f"{path} cannot be written: {os.strerror(errno.EACCES)}", "choose another path")
    return path


def make_folder(path: Path) -> Path:
    """Create a folder with its parents if it does not exist. Raises InputError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {path} cannot be created: {error.strerror}", "choose another path") from None
    return writable(path / "file").parent


@contextmanager
def output_folder(path: Path) -> Iterator[Path]:
    """`make_folder` for work that may fail or be stopped: created folders that stay empty are removed."""
    missing = missing_folders(path)
    try:
        yield make_folder(path)
    finally:
        remove_empty(missing)


def missing_folders(path: Path) -> list[Path]:
    """Those of the folder and its parents that do not exist, innermost first."""
    return [folder for folder in (path, *path.parents) if not folder.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove those folders that exist and are empty."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def check_report_argument(argument: str | None) -> None:
    """Check the value of `--json F` before the work: None is no report, `-` standard output. Raises InputError."""
    if argument == "":
        raise InputError("--json needs a file name", "- is standard output")
    if argument not in (None, "-"):
        writable(Path(argument))


def write_report(argument: str | None, content: str) -> None:
    """Write a report as `--json F` says; a file is written atomically. Raises InputError."""
    if argument == "-":
        _print_report(content)
    elif argument is not None:
        write_atomic(Path(argument), content.encode())


def _print_report(content: str) -> None:
    if not console.write_result(content):
        raise InputError("the reader of standard output does not read", "give --json a file")


def _kind(path: Path) -> int | None:
    """File mode, links followed; None: does not exist. Raises OSError, also for a loop of links."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _is_plain(path: Path) -> bool:
    """Whether a rename may replace it. Raises InputError."""
    with naming_failures(path):
        kind = _kind(path)
    return kind is None or (stat.S_ISREG(kind) and _descriptor_of(path) is None)


def _writable_special(path: Path, kind: int) -> Path:
    if stat.S_ISDIR(kind):
        raise InputError(f"{path} is a folder, not a file", "give the name of a file in it")
    if stat.S_ISBLK(kind) or stat.S_ISSOCK(kind):
        what = "a disk" if stat.S_ISBLK(kind) else "a socket"
        raise InputError(f"{path} is {what}, not a file", "choose another path")
    if _descriptor_of(path) is None and not os.access(path, os.W_OK):
        raise InputError(f"{path} cannot be written: {os.strerror(errno.EACCES)}", "choose another path")
    return path


def _descriptor_of(path: Path) -> int | None:
    """The number N of a path that leads to /proc/self/fd/N (/dev/stdout, /dev/fd/N): it must not be opened again."""
    own = f"/proc/{os.getpid()}/fd"
    for _ in range(MAX_LINKS):
        folder = os.path.realpath(path.parent)
        if folder == own and path.name.isdecimal():
            return int(path.name)
        if not path.is_symlink():
            return None
        path = Path(folder) / os.readlink(path)
    return None


def _write_into(path: Path, content: bytes) -> None:
    """Write directly to a device, a pipe or a descriptor. Raises OSError; InputError for a directory or a disk."""
    _writable_special(path, path.stat().st_mode)
    number = _descriptor_of(path)
    if number == 1:
        _print_report(content.decode(errors="replace"))
    elif number is not None:
        _write_all(number, content)
    else:
        fd = _open_special(path)
        try:
            _write_all(fd, content)
        finally:
            os.close(fd)


def _open_special(path: Path) -> int:
    """Open it; waits for the reader of a pipe, but not indefinitely. Raises OSError."""
    give_up_s = time.monotonic() + READER_PATIENCE_S
    while True:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > give_up_s:
                raise
        time.sleep(READER_POLL_S)


def _write_all(fd: int, content: bytes) -> None:
    """Write everything as long as the reader reads. Raises OSError, TimeoutError included."""
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    while content:
        if not poller.poll(READER_PATIENCE_S * 1000):
            raise TimeoutError(errno.ETIMEDOUT, "its reader does not read")
        with suppress(BlockingIOError):
            content = content[os.write(fd, content[: select.PIPE_BUF]) :]


def _replace(temporary: Path, target: Path) -> None:
    """Rename, safe against a power cut, keeping the mode (and, for root, the owner) of the old file."""
    with temporary.open("rb+") as file:
        with suppress(FileNotFoundError):
            before = target.stat()
            os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
            with suppress(PermissionError):
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
        os.fsync(file.fileno())
    temporary.replace(target)


@contextmanager
def naming_failures(path: Path) -> Iterator[None]:
    """Inside the block, an OSError becomes an InputError that says what cannot be written, and why."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        hint = ROOM_HINT if error.errno in console.FULL else "choose another path"
        raise InputError(f"{path} cannot be written: {reason}", hint) from None
