"""Which cores the processes of a run are pinned to."""

from __future__ import annotations


def split_cores(cores: set[int], wanted: int | None = None) -> tuple[frozenset[int], frozenset[int]]:
    """A core for control (`wanted`, else the highest) and those for all other processes; empty where there is only one
    core: nothing is pinned then."""
    if len(cores) < 2:
        return frozenset(), frozenset()
    control = max(cores) if wanted is None else wanted
    return frozenset({control}), frozenset(cores - {control})
