"""Smallest and largest of the recent values, at constant cost per value."""

from __future__ import annotations

from collections import deque


class SlidingRange:
    """Values with ascending time stamps; `drop_before` drops old ones."""

    def __init__(self) -> None:
        self._falling: deque[tuple[int, float]] = deque()
        self._rising: deque[tuple[int, float]] = deque()

    def add(self, stamp_ns: int, value: float) -> None:
        falling, rising = self._falling, self._rising
        while falling and falling[-1][1] <= value:
            falling.pop()
        falling.append((stamp_ns, value))
        while rising and rising[-1][1] >= value:
            rising.pop()
        rising.append((stamp_ns, value))

    def drop_before(self, stamp_ns: int) -> None:
        """Drop the values that are older."""
        for values in (self._falling, self._rising):
            while values and values[0][0] < stamp_ns:
                values.popleft()

    def clear(self) -> None:
        self._falling.clear()
        self._rising.clear()

    @property
    def highest(self) -> float:
        return self._falling[0][1] if self._falling else float("-inf")

    @property
    def lowest(self) -> float:
        return self._rising[0][1] if self._rising else float("inf")
