"""Retries of requests to the arm outside the periodic loop: one corrupted packet must not count as a failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sefa_edge.firmware_bridge.host.errors import ArmDisconnected, ArmFault, ArmInterrupted

ATTEMPTS = 5
"""How often a request outside the periodic loop is made before it has failed."""

T = TypeVar("T")


def with_retries(request: Callable[[], T], attempts: int = ATTEMPTS) -> T:
    """Return the answer to a request that may be repeated. Raises ArmFault when no attempt succeeds."""
    for _ in range(attempts - 1):
        try:
            return request()
        except (ArmDisconnected, ArmInterrupted):
            raise
        except ArmFault:
            continue
    return request()
