"""What goes wrong on the wire, as a share of what passes over it; drawn with a seed, so that it goes wrong again.

bus.line = DisturbedLine(Disturbances(dropped=0.01, bit_errors=1e-5))
sefa-edge sim --disturb dropped=0.01,bit_errors=1e-5
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, fields, replace

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.quantities import FRACTION, SEED, NumberError, Quantity, Real, parse_real, parse_whole, shown
from sefa_edge.profiles.units import ms_to_ns

QUANTITIES: dict[str, Quantity] = {"late_ms": Real("a time", 0.0, 1000.0, "ms"), "seed": SEED}
"""What is not a share."""


@dataclass(frozen=True, slots=True)
class Disturbances:
    """Shares are 0..1, of bits or of answers. The default is a perfect line."""

    bit_errors: float = 0.0
    """Of the bits of answers."""
    request_bit_errors: float = 0.0
    """Of the bits that the host sends."""
    dropped: float = 0.0
    """Of the answers, servo by servo."""
    duplicated: float = 0.0
    """Of the answers, servo by servo."""
    late: float = 0.0
    """Of the transactions; `late_ms` is by how much."""
    late_ms: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            try:
                QUANTITIES.get(name, FRACTION).check(value)
            except NumberError as error:
                raise InputError(f"{name}: {error}", f"write for example {name}=0.01") from None

    @classmethod
    def from_words(cls, words: str) -> Disturbances:
        """Out of `name=value,name=value`. Raises InputError."""
        known = {field.name: parse_whole if type(field.default) is int else parse_real for field in fields(cls)}
        found = cls()
        for word in words.split(","):
            name, _, value = word.strip().partition("=")
            if name not in known:
                raise InputError(f"'{name}' is no disturbance", f"known: {', '.join(known)}")
            try:
                number = known[name](value)
            except NumberError:
                expected = QUANTITIES.get(name, FRACTION).range_words()
                raise InputError(
                    f"{name}: expected {expected}, got {shown(value)}", f"write for example {name}=0.01"
                ) from None
            found = replace(found, **{name: number})
        return found


class DisturbedLine:
    """Spoils what it carries, as `Disturbances` say."""

    def __init__(self, disturbances: Disturbances) -> None:
        self._shares = disturbances
        self._dice = random.Random(disturbances.seed)
        self._is_perfect = replace(disturbances, seed=0, late_ms=Disturbances().late_ms) == Disturbances()

    def request(self, data: bytes) -> bytes:
        """What the servos hear of what the host sends."""
        return self._flipped(data, self._shares.request_bit_errors)

    def answer(self, data: bytes) -> bytes:
        """What the host hears of one servo's answer: it may be nothing, or more than once."""
        if self._is_perfect:
            return data
        if self._happens(self._shares.dropped):
            return b""
        heard = self._flipped(data, self._shares.bit_errors)
        return heard + heard if self._happens(self._shares.duplicated) else heard

    def delay_ns(self) -> int:
        """How much later than its time on the wire one transaction's answer comes."""
        return ms_to_ns(self._shares.late_ms) if self._happens(self._shares.late) else 0

    def _happens(self, share: float) -> bool:
        return share > 0 and self._dice.random() < share

    def _flipped(self, data: bytes, share: float) -> bytes:
        if share <= 0:
            return data
        heard = bytearray(data)
        for bit in range(8 * len(data)):
            if self._dice.random() < share:
                heard[bit >> 3] ^= 1 << (bit & 7)
        return bytes(heard)
