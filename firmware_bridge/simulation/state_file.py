"""The state of the simulated world for other processes: one record in a small memory-mapped file.

A checksum reveals a half-written record on every processor, without locks; the reader then tries again.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sefa_edge.profiles.errors import InputError, MissingError
from sefa_edge.profiles.files import naming_failures, open_regular, read_up_to

MAGIC = b"SEFASIM2"
_HEADER = struct.Struct("<8siiq16s")  # magic, qpos values, process id, start and boot of the server
_RECORD = struct.Struct("<qqdii")  # stamp_ns, placed_seed, world time_s, success, lost
MAX_TRIES = 100
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, eq=False)
class PublishedState:
    """The state that a camera needs to draw the world, and the result of the episode. Metres."""

    stamp_ns: int
    placed_seed: int
    time_s: float
    success: bool
    lost: bool
    qpos: np.ndarray
    goal_position_m: np.ndarray


class StateWriter:
    """Creates the file (mode 0600), replacing one left by another server, and updates its record.

    Raises, when created:
        InputError: the path is something else, or there is no room.
    """

    def __init__(self, path: Path, qpos_count: int) -> None:
        self._path = path
        require_replaceable(path)
        size = _HEADER.size + _record_bytes(qpos_count)
        unnamed = path.with_name(path.name + ".tmp")
        with naming_failures(path):
            try:
                self._memory = _mapped(unnamed, size)
                self._memory[: _HEADER.size] = _HEADER.pack(MAGIC, qpos_count, os.getpid(), *_life_of(os.getpid()))
                unnamed.replace(path)  # a reader never sees a file without its header
            finally:
                unnamed.unlink(missing_ok=True)

    def write(self, state: PublishedState) -> None:
        content = _RECORD.pack(state.stamp_ns, state.placed_seed, state.time_s, state.success, state.lost)
        content += state.qpos.astype("<f8").tobytes() + state.goal_position_m.astype("<f8").tobytes()
        self._memory[_HEADER.size :] = content + struct.pack("<I", zlib.crc32(content))

    def close(self) -> None:
        """Unmap and remove the file."""
        self._memory.close()
        self._path.unlink(missing_ok=True)


def _mapped(path: Path, size: int) -> mmap.mmap:
    """A new file in memory. Raises OSError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, size)  # on a full disk, writing to an unallocated page would kill with SIGBUS
        return mmap.mmap(fd, size)
    finally:
        os.close(fd)


class StateReader:
    """Reads the newest state, in any number of processes."""

    def __init__(self, path: Path) -> None:
        """Raises MissingError if no simulated world publishes there."""
        try:
            with open_regular(path) as file:
                self._memory = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        except (InputError, OSError, ValueError):
            raise MissingError(f"no simulated world at {path}", "start one with `sefa-edge sim --link PATH`") from None
        if len(self._memory) < _HEADER.size:
            self._memory.close()
            raise _not_a_state(path)
        magic, self._qpos_count, self.server_pid, *life = _HEADER.unpack_from(self._memory)
        self._server_life = tuple(life)
        if magic != MAGIC or len(self._memory) != _HEADER.size + _record_bytes(self._qpos_count):
            self._memory.close()
            raise _not_a_state(path)

    def read(self) -> PublishedState | None:
        """The newest complete record; None if the world has not published yet."""
        for _ in range(MAX_TRIES):
            content = self._memory[_HEADER.size :]
            if zlib.crc32(content[:-4]) == struct.unpack("<I", content[-4:])[0]:
                return self._decode(content)
            time.sleep(0)
        return None

    def server_alive(self) -> bool:
        """Whether the process that publishes still exists: this one, not a later one with its number."""
        return _life_of(self.server_pid) == self._server_life

    def close(self) -> None:
        self._memory.close()

    def _decode(self, content: bytes) -> PublishedState | None:
        stamp_ns, seed, time_s, success, lost = _RECORD.unpack_from(content)
        if stamp_ns == 0:
            return None
        values = np.frombuffer(content, "<f8", self._qpos_count + 3, _RECORD.size)
        qpos, goal = values[: self._qpos_count], values[self._qpos_count :]
        return PublishedState(stamp_ns, seed, time_s, bool(success), bool(lost), qpos, goal)


def _life_of(pid: int) -> tuple[int, bytes]:
    """Distinguishes a process from others with its PID: its start time, and the boot id of this computer.

    Source: proc(5), field 22 of /proc/PID/stat; -1 if there is no such process.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return -1, b""
    zombie = fields[0] == "Z"
    return -1 if zombie else int(fields[19]), bytes.fromhex(BOOT_ID.read_text().strip().replace("-", ""))


def _not_a_state(path: Path) -> InputError:
    return InputError(f"{path} is not the state of a simulated world", "give the path used with `sefa-edge sim`")


def require_replaceable(path: Path) -> None:
    """Refuse a path that exists and was not created by a server. Raises InputError."""
    if not os.path.lexists(path):
        return
    try:
        ours = read_up_to(path, len(MAGIC)).startswith(MAGIC[:-1])
    except InputError:
        ours = False
    if not ours or path.is_symlink():
        raise InputError(f"{path} exists and is not the state of a simulated world", "choose another path with --link")


def _record_bytes(qpos_count: int) -> int:
    return _RECORD.size + 8 * (qpos_count + 3) + 4
