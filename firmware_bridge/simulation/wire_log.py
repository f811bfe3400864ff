"""A file with the bytes on the wire of a simulated arm and the motion of its joints: `sefa-edge sim --wire-log FILE`.

A record is a header of 11 bytes and its content, little-endian::

    uint8 kind, int64 stamp_ns (CLOCK_MONOTONIC), uint16 bytes of content
    1  bytes of the host, as they reach the servos
    2  bytes of one servo's answer, as they leave it
    3  uint8 torque (bit i: servo i holds), then float32 encoder ticks of every joint

Each record is written at once, so that the log is complete even if its process is killed.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path

from sefa_edge.profiles.errors import InputError

HEAD = struct.Struct("<BqH")

WIRE_LOG_VARIABLE = "SEFA_EDGE_SIM_WIRE_LOG"
"""Environment variable with the log file of a world that `sefa-edge run --arm sim` starts."""


class Recorded(IntEnum):
    """Kind of a record."""

    TO_SERVOS = 1
    FROM_SERVOS = 2
    JOINTS = 3


class WireLog:
    """Owns a log file. Implements `WireTap`. A write error ends the log, but not the world."""

    def __init__(self, path: Path) -> None:
        """Raises InputError if the file cannot be created."""
        self.trouble = ""
        """Why the log ends early, if it does."""
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}", "choose another path") from None

    def to_servos(self, data: bytes, stamp_ns: int) -> None:
        self._write(Recorded.TO_SERVOS, stamp_ns, data)

    def from_servos(self, data: bytes, stamp_ns: int) -> None:
        self._write(Recorded.FROM_SERVOS, stamp_ns, data)

    def joints(self, position_ticks: Sequence[float], holds: Sequence[bool], stamp_ns: int) -> None:
        """Record the positions of the joints, and which servos hold."""
        torque = sum(1 << index for index, on in enumerate(holds) if on)
        content = struct.pack(f"<B{len(position_ticks)}f", torque, *position_ticks)
        self._write(Recorded.JOINTS, stamp_ns, content)

    def close(self) -> None:
        os.close(self._file)

    def _write(self, kind: Recorded, stamp_ns: int, content: bytes) -> None:
        if self.trouble:
            return
        try:
            os.write(self._file, HEAD.pack(kind, stamp_ns, len(content)) + content)
        except OSError as error:
            self.trouble = error.strerror or str(error)
