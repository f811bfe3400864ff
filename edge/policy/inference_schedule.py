"""When the next inference begins: every `execute_steps`, or earlier if the arm would otherwise run out of steps.

    chunk 7 begins         chunk 8 begins: its period is over, or, if that comes first,
      |---- inference ----|       |     just enough steps of chunk 7 are left to cover an inference
      o   o   o   o   o   o   o   o   o   o
                                  |<---- expected inference + margin ---->|

An engine that takes longer than the period starts again as soon as it has finished. The expected duration is the 99th
percentile of the last hundred inferences, including building the observation and sending the chunk.
"""

from __future__ import annotations

import math
from collections import deque

from sefa_edge.profiles.card import TimingSpec
from sefa_edge.profiles.units import ms_to_ns, period_ns

MARGIN_NS = ms_to_ns(20)
"""Time from the end of an inference to the tick that plays its chunk: a socket transfer and a control period."""

WINDOW = 100
PERCENTILE = 0.99


class DurationEstimate:
    """A high percentile of the last durations: the longest, or in a full window the second longest."""

    def __init__(self) -> None:
        self._newest: deque[int] = deque(maxlen=WINDOW)

    def add(self, duration_ns: int) -> None:
        self._newest.append(duration_ns)

    @property
    def high_ns(self) -> int:
        """Zero before the first measurement."""
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
        """Expected duration of the next inference; one in a hundred takes longer."""
        return self._estimate.high_ns

    def start(self, now_ns: int) -> None:
        """An episode begins: the first inference is due at once. The measured durations are kept."""
        self.due_ns = now_ns

    def begin(self, now_ns: int) -> None:
        """An inference begins."""
        self._begun_ns = now_ns

    def postpone(self, now_ns: int, delay_ns: int) -> None:
        """The inference could not begin, for lack of fresh input. The delay does not count as skipped steps."""
        self.due_ns = now_ns + delay_ns

    def end(self, now_ns: int, plan_end_ns: int) -> None:
        """An inference has ended; the last step of its chunk is due at `plan_end_ns`."""
        duration_ns = now_ns - self._begun_ns
        self._estimate.add(duration_ns)
        self.overlong += duration_ns > self._period_ns
        regular_ns = self.due_ns + self._period_ns
        self.skipped_steps += max(0, now_ns - regular_ns) // self._step_ns
        needed_ns = plan_end_ns - self.expected_ns - MARGIN_NS
        self.due_ns = max(now_ns, min(regular_ns, needed_ns))
