"""Random disturbances on the wire, as shares of its traffic, reproducible by their seed.

bus.line = DisturbedLine(Disturbances(dropped=0.01, bit_errors=1e-5))
sefa-edge sim --disturb dropped=0.01,bit_errors=1e-5
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, fields, replace

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.quantities import FRACTION, SEED, NumberError, Quantity, Real, parse_real, parse_whole
from sefa_edge.profiles.shown import shown
from sefa_edge.profiles.units import ms_to_ns

QUANTITIES: dict[str, Quantity] = {"late_ms": Real("a time", 0.0, 1000.0, "ms"), "seed": SEED}
"""Fields that are not shares."""


@dataclass(frozen=True, slots=True)
class Disturbances:
    """Shares are 0..1, of bits or of answers. The default is a perfect line."""

    bit_errors: float = 0.0
    """Share of the bits of answers."""
    request_bit_errors: float = 0.0
    """Share of the bits that the host sends."""
    dropped: float = 0.0
    """Share of the answers of single servos."""
    duplicated: float = 0.0
    """Share of the answers of single servos."""
    late: float = 0.0
    """Share of the transactions that are late, by `late_ms`."""
    late_ms: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            try:
                QUANTITIES.get(name, FRACTION).check(value)
            except NumberError as error:
                raise InputError(f"{name}: {error}", f"write for example {name}=0.01") from None

    @classmethod
    def from_text(cls, text: str) -> Disturbances:
        """From `name=value,name=value`. Raises InputError."""
        known = {field.name: parse_whole if type(field.default) is int else parse_real for field in fields(cls)}
        found = cls()
        for entry in text.split(","):
            name, _, value = entry.strip().partition("=")
            if name not in known:
                raise InputError(f"'{name}' is not a disturbance", f"known: {', '.join(known)}")
            try:
                number = known[name](value)
            except NumberError:
                expected = QUANTITIES.get(name, FRACTION).range_text()
                raise InputError(
                    f"{name}: expected {expected}, got {shown(value)}", f"write for example {name}=0.01"
                ) from None
            found = replace(found, **{name: number})
        return found


class DisturbedLine:
    """Applies `Disturbances` to the bytes that it carries."""

    def __init__(self, disturbances: Disturbances) -> None:
        self._shares = disturbances
        self._random = random.Random(disturbances.seed)
        self._is_perfect = replace(disturbances, seed=0, late_ms=Disturbances().late_ms) == Disturbances()

    def request(self, data: bytes) -> bytes:
        """What the servos receive of the bytes from the host."""
        return self._flipped(data, self._shares.request_bit_errors)

    def answer(self, data: bytes) -> bytes:
        """What the host receives of one servo's answer: possibly nothing, or the answer twice."""
        if self._is_perfect:
            return data
        if self._occurs(self._shares.dropped):
            return b""
        received = self._flipped(data, self._shares.bit_errors)
        return received + received if self._occurs(self._shares.duplicated) else received

    def delay_ns(self) -> int:
        """Delay of one transaction's answer beyond its time on the wire."""
        return ms_to_ns(self._shares.late_ms) if self._occurs(self._shares.late) else 0

    def _occurs(self, share: float) -> bool:
        return share > 0 and self._random.random() < share

    def _flipped(self, data: bytes, share: float) -> bytes:
        if share <= 0:
            return data
        flipped = bytearray(data)
        for bit in range(8 * len(data)):
            if self._random.random() < share:
                flipped[bit >> 3] ^= 1 << (bit & 7)
        return bytes(flipped)
