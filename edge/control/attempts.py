"""Requests to the arm outside the rhythm of the loop are repeated: one disturbed packet is no refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sefa_edge.firmware_bridge.host.errors import ArmDisconnected, ArmFault, ArmInterrupted

ATTEMPTS = 5
"""How often a request outside the rhythm of the loop is made before its failure counts."""

T = TypeVar("T")


def with_retries(request: Callable[[], T], attempts: int = ATTEMPTS) -> T:
    """The answer to a request that may be repeated. Raises ArmFault when no attempt succeeds."""
    for _ in range(attempts - 1):
        try:
            return request()
        except (ArmDisconnected, ArmInterrupted):
            raise
        except ArmFault:
            continue
    return request()
