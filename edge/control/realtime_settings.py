"""What the control process asks the operating system for. Free of numpy: the command line reads the defaults here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sefa_edge.profiles.quantities import REALTIME_PRIORITY, SPIN_US


@dataclass(frozen=True, slots=True)
class RealtimeSettings:
    """Priority, core and busy waiting of the control loop."""

    priority: Annotated[int, REALTIME_PRIORITY] = 55
    """SCHED_FIFO priority 1..99; 0: do not ask for it. 55 is above everything of ours and of a desktop, below the
    kernel's own threads for timers and USB on PREEMPT_RT."""
    cpu: int | None = None
    """Core to stay on; None: the highest of those that this process may use."""
    spin_us: Annotated[int, SPIN_US] = 300
    """Wait actively for the last so many microseconds before each tick."""


DEFAULT_REALTIME = RealtimeSettings()
