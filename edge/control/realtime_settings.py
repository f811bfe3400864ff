"""What the control process requests from the operating system. Without numpy: the command line imports the defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sefa_edge.profiles.quantities import REALTIME_PRIORITY, SPIN_US


@dataclass(frozen=True, slots=True)
class RealtimeSettings:
    """Priority, core and busy waiting of the control loop."""

    priority: Annotated[int, REALTIME_PRIORITY] = 55
    """SCHED_FIFO priority 1..99; 0: do not request it. 55 is above all other processes of a run and of a desktop, below
    the kernel's threads for timers and USB on PREEMPT_RT."""
    cpu: int | None = None
    """Core to run on; None: the highest of those that this process may use."""
    spin_us: Annotated[int, SPIN_US] = 300
    """Spin for this many microseconds before each tick."""


DEFAULT_REALTIME = RealtimeSettings()
