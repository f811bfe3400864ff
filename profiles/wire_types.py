"""Wire types: annotations that define how a field of a record is encoded between processes and in a recording.

    tick: Annotated[int, U64]
    mode: Annotated[Mode, U8]                            an enum: its value between processes, its name in JSON
    fault: Annotated[Fault, U8, Among(REPORTED)]         only some members of an enum
    stage_ns: Annotated[tuple[int, ...], U64[5]]
    joint_deg: Annotated[np.ndarray, F32["n"]]           n is the same number throughout a record
    text: Annotated[str, Text(240)]
    calls: Annotated[tuple[ArmCall, ...], Many(64)]      records in a record, at most 64
    events: Annotated[tuple[Event, ...], Many(64, U8)]   members of the enums in the union Event

A field whose type is a record, or a record or None, needs no annotation. `edge/ipc/wire_record.py` reads them.
Every process of a run defines them when it starts: a NamedTuple takes a tenth of the time of a dataclass.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum
from typing import NamedTuple


class Array(NamedTuple):
    """Numbers of one scalar type; each dimension is a number, or a name with one value throughout a record."""

    scalar: Scalar
    shape: tuple[int | str, ...]


class Scalar:
    """One number; `code` is its letter in the formats of `struct` and numpy. `F32["T", "n"]` is an array of them."""

    __slots__ = ("code",)

    def __init__(self, code: str) -> None:
        self.code = code

    def __getitem__(self, shape: int | str | tuple[int | str, ...]) -> Array:
        return Array(self, shape if isinstance(shape, tuple) else (shape,))


class Text(NamedTuple):
    """UTF-8, zero-padded; cut off at `max_bytes`."""

    max_bytes: int


class Blob(NamedTuple):
    """Bytes; base64 in JSON."""

    max_bytes: int


class Many(NamedTuple):
    """A tuple of up to `max_count` (at most 255) records; with `scalar`, of members of enums."""

    max_count: int
    scalar: Scalar | None = None


class Among(NamedTuple):
    """The members of an enum that may be in a record of this kind."""

    members: Collection[IntEnum]


BOOL = Scalar("?")
U8, U16, U32, U64 = Scalar("B"), Scalar("H"), Scalar("I"), Scalar("Q")
I16, I64 = Scalar("h"), Scalar("q")
F32, F64 = Scalar("f"), Scalar("d")
