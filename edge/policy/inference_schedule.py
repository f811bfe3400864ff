"""When the next inference begins: every `execute_steps`, and earlier where the arm would otherwise run out of plan.

    chunk 7 begun          chunk 8 begun: its period is over, or, whatever comes first,
      |---- inference ----|       |     the plan of chunk 7 ends after just the time that an inference takes
      o   o   o   o   o   o   o   o   o   o
                                  |<---- longest of late + margin ---->|

An engine that takes longer than the period is begun again as soon as it has ended. How long an inference takes is the
99th percentile of the last hundred, observation and sending included.
"""

from __future__ import annotations

import math
from collections import deque

from sefa_edge.profiles.card import TimingSpec
from sefa_edge.profiles.units import ms_to_ns, period_ns

MARGIN_NS = ms_to_ns(20)
"""What lies between the end of an inference and the tick that plays its chunk: a socket, a control period."""

WINDOW = 100
PERCENTILE = 0.99


class DurationEstimate:
    """A high percentile of the last durations: of few ones the longest, of a full window all but one count."""

    def __init__(self) -> None:
        self._newest: deque[int] = deque(maxlen=WINDOW)

    def add(self, duration_ns: int) -> None:
        self._newest.append(duration_ns)

    @property
    def high_ns(self) -> int:
        """Zero before anything was measured."""
        if not self._newest:
            return 0
        return sorted(self._newest)[math.ceil(PERCENTILE * len(self._newest)) - 1]


class InferenceSchedule:
    """The times of one policy's inferences. All times are nanoseconds of the loop's clock."""

    def __init__(self, timing: TimingSpec, execute_steps: int) -> None:
        self._step_ns = period_ns(timing.policy_rate_hz)
        self._period_ns = execute_steps * self._step_ns
        self._estimate = DurationEstimate()
        self._begun_ns = 0
        self.due_ns = 0
        """When the next inference begins."""
        self.skipped_steps = 0
        """Policy steps by which inferences began late."""
        self.overlong = 0
        """Inferences that took longer than their period."""

    @property
    def expected_ns(self) -> int:
        """How long the next inference takes at most, but for one in a hundred."""
        return self._estimate.high_ns

    def start(self, now_ns: int) -> None:
        """An episode begins: the first inference is due at once. What was learnt about durations stays."""
        self.due_ns = now_ns

    def begin(self, now_ns: int) -> None:
        """An inference begins."""
        self._begun_ns = now_ns

    def postpone(self, now_ns: int, delay_ns: int) -> None:
        """It could not begin: nothing new was seen. The time that passes is nobody's overrun."""
        self.due_ns = now_ns + delay_ns

    def end(self, now_ns: int, plan_end_ns: int) -> None:
        """An inference has ended; its plan reaches to `plan_end_ns`."""
        duration_ns = now_ns - self._begun_ns
        self._estimate.add(duration_ns)
        self.overlong += duration_ns > self._period_ns
        regular_ns = self.due_ns + self._period_ns
        self.skipped_steps += max(0, now_ns - regular_ns) // self._step_ns
        needed_ns = plan_end_ns - self.expected_ns - MARGIN_NS
        self.due_ns = max(now_ns, min(regular_ns, needed_ns))
