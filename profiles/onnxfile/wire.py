"""The protobuf wire format as used by ONNX, read strictly and within bounds, without a library or recursion.

Stricter than protobuf itself, which uses the last of two values and merges two messages: otherwise a second graph could
replace the one that was checked. Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sefa_edge.profiles.errors import InputError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
FIXED_BYTES = {FIXED64: 8, FIXED32: 4}
MAX_DEPTH = 64
"""Nesting of messages. A graph inside a node of a graph is three levels deeper."""
MAX_FIELDS = 200_000
"""Fields of the whole file. A network of 1000 nodes has about 25,000."""
MAX_VARINT_BYTES = 64 << 20
"""Packed integers of the whole file: each byte may become eight. Weights are written as raw bytes instead."""
MAX_NAME_BYTES = 1024
BLOCK_BYTES = 1 << 20
VARINT_LIMIT_BYTES = 10


class OnnxFormatError(InputError):
    """Not an ONNX file, damaged, or beyond the bounds of this reader."""

    def __init__(self, problem: str, hint: str = "was it copied completely? export again") -> None:
        super().__init__(problem, hint)


class Allowance:
    """The remaining resources that one file may use."""

    def __init__(self) -> None:
        self._fields = MAX_FIELDS
        self._varint_bytes = MAX_VARINT_BYTES

    def spend_fields(self, count: int) -> None:
        self._fields -= count
        if self._fields < 0:
            raise OnnxFormatError(f"the ONNX file has more than {MAX_FIELDS} fields", "is it a policy? export again")

    def spend_varint_bytes(self, count: int) -> None:
        self._varint_bytes -= count
        if self._varint_bytes < 0:
            raise OnnxFormatError(
                f"the ONNX file packs more than {MAX_VARINT_BYTES} bytes of integers",
                "write its tensors as raw data, as the onnx package does",
            )


class Field(NamedTuple):  # a dataclass takes three times as long to create, and there are very many
    """One field: its wire type and its bytes; for a varint the varint itself."""

    wire: int
    payload: memoryview


class Message:
    """One message, split into its fields, which are decoded on access.

    Every method raises OnnxFormatError for a field of another wire type, or one that must not occur twice.
    """

    def __init__(self, content: memoryview, allowance: Allowance, depth: int = 0) -> None:
        if depth > MAX_DEPTH:
            raise OnnxFormatError("the ONNX file is nested too deeply", "export again")
        self._allowance = allowance
        self._depth = depth
        self._fields = _split(content, allowance)

    def has(self, number: int) -> bool:
        return number in self._fields

    def integer(self, number: int, default: int = 0) -> int:
        """A signed integer of 64 bits."""
        field = self._single(number, VARINT)
        return default if field is None else _signed(_varint(field.payload, 0)[0])

    def real(self, number: int) -> float:
        """A float of 32 bits."""
        field = self._single(number, FIXED32)
        return 0.0 if field is None else float(np.frombuffer(field.payload, "<f4")[0])

    def content(self, number: int) -> bytes:
        field = self._single(number, BYTES)
        return b"" if field is None else bytes(field.payload)

    def view(self, number: int) -> memoryview | None:
        """The bytes in the file, or None."""
        field = self._single(number, BYTES)
        return None if field is None else field.payload

    def name(self, number: int) -> str:
        field = self._single(number, BYTES)
        return "" if field is None else _name(field.payload)

    def names(self, number: int) -> list[str]:
        return [_name(field.payload) for field in self._all(number, BYTES)]

    def contents(self, number: int) -> list[bytes]:
        return [bytes(field.payload) for field in self._all(number, BYTES)]

    def child(self, number: int) -> Message | None:
        field = self._single(number, BYTES)
        return None if field is None else Message(field.payload, self._allowance, self._depth + 1)

    def children(self, number: int) -> list[memoryview]:
        """Unparsed messages: `open` them one by one, so that only one is in memory as fields."""
        return [field.payload for field in self._all(number, BYTES)]

    def open(self, content: memoryview) -> Message:
        return Message(content, self._allowance, self._depth + 1)

    def integers(self, number: int) -> list[int]:
        """A short list of signed integers, packed or not."""
        payload = self._repeated(number, VARINT)
        values = decode_varints(payload, np.dtype(np.int64), self._allowance)
        self._allowance.spend_fields(values.size)
        return values.tolist()

    def reals(self, number: int) -> list[float]:
        """A short list of floats of 32 bits, packed or not."""
        values = self.fixed(number, np.dtype("<f4"))
        self._allowance.spend_fields(values.size)
        return values.tolist()

    def varints(self, number: int, dtype: np.dtype) -> np.ndarray:
        """A long list of integers, packed or not, as `dtype`."""
        return decode_varints(self._repeated(number, VARINT), dtype, self._allowance)

    def fixed(self, number: int, dtype: np.dtype) -> np.ndarray:
        """A long list of floats of 32 or 64 bits, packed or not; a view of the file if they are contiguous."""
        payload = self._repeated(number, FIXED32 if dtype.itemsize == FIXED_BYTES[FIXED32] else FIXED64)
        if len(payload) % dtype.itemsize:
            raise OnnxFormatError("the ONNX file ends inside a number")
        return np.frombuffer(payload, dtype)

    def _all(self, number: int, wire: int) -> list[Field]:
        fields = self._fields.get(number, [])
        if any(field.wire != wire for field in fields):
            raise OnnxFormatError("the file is not a valid ONNX file: a field is of another type")
        return fields

    def _single(self, number: int, wire: int) -> Field | None:
        fields = self._all(number, wire)
        if len(fields) > 1:
            raise OnnxFormatError("the file is not a valid ONNX file: a single field occurs twice", "export again")
        return fields[0] if fields else None

    def _repeated(self, number: int, wire: int) -> memoryview | bytes:
        fields = self._fields.get(number, [])
        if any(field.wire not in (wire, BYTES) for field in fields):
            raise OnnxFormatError("the file is not a valid ONNX file: a field is of another type")
        return fields[0].payload if len(fields) == 1 else b"".join(field.payload for field in fields)


def decode_varints(payload: memoryview | bytes, dtype: np.dtype, allowance: Allowance) -> np.ndarray:
    """Consecutive varints as `dtype`, decoded in blocks to limit memory.

    Raises:
        OnnxFormatError: the last one is incomplete, or one is too long or does not fit `dtype`.
    """
    allowance.spend_varint_bytes(len(payload))
    stored = np.frombuffer(payload, np.uint8)
    values = np.empty(_count_ends(stored), dtype)
    at = filled = 0
    while at < stored.size:
        block = stored[at : at + BLOCK_BYTES]
        ends = np.flatnonzero(block < 0x80)
        if not ends.size:
            raise OnnxFormatError("the ONNX file ends too early: inside a number")
        part = _decode_block(block, ends)
        part = part if dtype == np.uint64 else part.view(np.int64)
        values[filled : filled + part.size] = part.astype(dtype)
        if not np.array_equal(values[filled : filled + part.size], part):
            raise OnnxFormatError(f"the ONNX file has an integer that does not fit {dtype.name}")
        at += int(ends[-1]) + 1
        filled += part.size
    return values


def _count_ends(stored: np.ndarray) -> int:
    blocks = range(0, stored.size, BLOCK_BYTES)
    return sum(int(np.count_nonzero(stored[at : at + BLOCK_BYTES] < 0x80)) for at in blocks)


def _decode_block(block: np.ndarray, ends: np.ndarray) -> np.ndarray:
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    longest = int(lengths.max())
    if longest > VARINT_LIMIT_BYTES or (longest == VARINT_LIMIT_BYTES and block[ends[lengths == longest]].max() > 1):
        raise OnnxFormatError("the file is not a valid ONNX file: a number is too long", "export again")
    values = np.zeros(ends.size, np.uint64)
    for index in range(longest):
        reached = lengths > index
        digits = (block[starts[reached] + index] & 0x7F).astype(np.uint64)
        values[reached] |= digits << np.uint64(7 * index)
    return values


def _split(message: memoryview, allowance: Allowance) -> dict[int, list[Field]]:
    fields: dict[int, list[Field]] = {}
    at = 0
    while at < len(message):
        allowance.spend_fields(1)
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        start, at = _extent(message, at, wire)
        if number == 0 or at > len(message):
            problem = "the ONNX file ends too early" if number else "the file is not a valid ONNX file"
            raise OnnxFormatError(problem)
        fields.setdefault(number, []).append(Field(wire, message[start:at]))
    return fields


def _extent(message: memoryview, at: int, wire: int) -> tuple[int, int]:
    """Start and end of a field's payload, given the end of its key."""
    if wire == VARINT:
        return at, _varint(message, at)[1]
    if wire == BYTES:
        length, at = _varint(message, at)
        return at, at + length
    if wire in FIXED_BYTES:
        return at, at + FIXED_BYTES[wire]
    raise OnnxFormatError("the file is not a valid ONNX file")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """An unsigned integer of 64 bits, and the offset after it."""
    value = 0
    for index in range(VARINT_LIMIT_BYTES):
        if at >= len(message):
            raise OnnxFormatError("the ONNX file ends too early")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if value >> 64:
                break
            return value, at
    raise OnnxFormatError("the file is not a valid ONNX file: a number is too long", "export again")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _name(payload: memoryview) -> str:
    """A name that may be printed: valid UTF-8, of bounded length, without control characters."""
    if len(payload) > MAX_NAME_BYTES:
        raise OnnxFormatError(f"the ONNX file has a name of {len(payload)} bytes", f"at most {MAX_NAME_BYTES}")
    try:
        name = bytes(payload).decode()
    except UnicodeDecodeError:
        raise OnnxFormatError("the ONNX file has a name that is not text") from None
    if not name.isprintable():
        raise OnnxFormatError(f"the ONNX file has a name with control characters: {name!r}", "export again")
    return name
