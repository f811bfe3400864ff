"""Checks the conditions for acting on a frame: fresh, changing, lit, and captured together with the others.

This module does no input or output: it receives every frame's descriptor and the time, and returns what is wrong. The
policy process reports it to control.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.policy_records import Trouble
from sefa_edge.edge.ipc.transport import FrameDescriptor
from sefa_edge.profiles.units import NS_PER_S, ms_to_ns, ns_to_ms, s_to_ns

MAY_STAND_STILL = frozenset({"sim", "images", "file", "run"})
"""Kinds of cameras whose frames may repeat or be black without a fault: nothing moves, or there is no sensor."""
DEFAULT_MAX_SKEW_MS = 50.0
FROZEN_MS = 1000.0
DARK_MS = 500.0
FIRST_PICTURE_NS = s_to_ns(3.0)
"""How long an episode waits for the first frame of a camera; control waits for 5 s."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a camera may repeat the same image, or deliver dark ones. None: without limit."""

    frozen_ns: int | None = None
    dark_ns: int | None = None


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """The limits for the frames of a run."""

    max_age_ns: int
    max_skew_ns: int
    """Maximum difference between the capture times of the cameras' newest frames."""
    patience: Mapping[str, Patience]
    """By camera name; has an entry for every camera of the run."""


class CameraWatch:
    """Checks the cameras of a run, from `start` on."""

    def __init__(self, limits: WatchLimits) -> None:
        self.limits = limits
        self._newest: dict[str, FrameDescriptor] = {}
        self.start(0)

    def start(self, now_ns: int) -> None:
        """An episode begins at `now_ns`: earlier frames are ignored, and the first ones may be late."""
        self._start_ns = self._together_ns = now_ns
        self._newest = {name: newest for name, newest in self._newest.items() if newest.capture_ns >= now_ns}

    def add(self, camera: str, descriptor: FrameDescriptor) -> None:
        """Add a frame of a camera."""
        if descriptor.capture_ns < self._start_ns:
            return
        is_first = camera not in self._newest
        self._newest[camera] = descriptor
        if is_first or self.together:
            self._together_ns = max(self._together_ns, descriptor.capture_ns)

    @property
    def together(self) -> bool:
        """Whether the newest frames of all cameras were captured at the same time, within the limit."""
        return len(self._newest) == len(self.limits.patience) and self._skew_ns() <= self.limits.max_skew_ns

    def trouble(self, now_ns: int) -> Trouble | None:
        """The first condition that is violated, if any."""
        for camera in self.limits.patience:
            if found := self._stale(camera, now_ns):
                return found
        for camera, patience in self.limits.patience.items():
            if found := self._blind(camera, patience):
                return found
        return self._apart(now_ns)

    def _stale(self, camera: str, now_ns: int) -> Trouble | None:
        newest = self._newest.get(camera)
        age_ns = now_ns - (self._start_ns if newest is None else newest.capture_ns)
        limit_ns = self.limits.max_age_ns
        if age_ns <= (max(limit_ns, FIRST_PICTURE_NS) if newest is None else limit_ns):
            return None
        detail = f"no picture for {_seconds(age_ns)}" if newest is None else f"{_seconds(age_ns)} old"
        return Trouble(Fault.CAMERA_STALE, f"{camera}, {detail}")

    def _blind(self, camera: str, patience: Patience) -> Trouble | None:
        newest = self._newest.get(camera)
        if newest is None:
            return None
        if patience.dark_ns is not None and newest.dark_ns >= patience.dark_ns:
            return Trouble(Fault.CAMERA_DARK, f"{camera}, for {_seconds(newest.dark_ns)}")
        if patience.frozen_ns is not None and newest.still_ns >= patience.frozen_ns:
            return Trouble(Fault.CAMERA_FROZEN, f"{camera}, for {_seconds(newest.still_ns)}")
        return None

    def _apart(self, now_ns: int) -> Trouble | None:
        """A single late frame is tolerated; a skew that lasts longer than the maximum age of a frame is a fault."""
        if self.together or len(self._newest) < len(self.limits.patience):
            return None
        if now_ns - self._together_ns <= self.limits.max_age_ns:
            return None
        late = min(self._newest, key=lambda camera: self._newest[camera].capture_ns)
        return Trouble(Fault.CAMERA_SKEW, f"{late}, {ns_to_ms(self._skew_ns()):.0f} ms behind")

    def _skew_ns(self) -> int:
        stamps = [descriptor.capture_ns for descriptor in self._newest.values()]
        return max(stamps) - min(stamps)


def patience_for(kind: str, frozen_ms: float | None, dark_ms: float | None) -> Patience:
    """The limits that the user set (0: none), or the defaults for this kind of camera."""
    stands_still = kind in MAY_STAND_STILL
    return Patience(
        _limit_ns(frozen_ms, 0.0 if stands_still else FROZEN_MS),
        _limit_ns(dark_ms, 0.0 if stands_still else DARK_MS),
    )


def _limit_ns(asked_ms: float | None, default_ms: float) -> int | None:
    return ms_to_ns(default_ms if asked_ms is None else asked_ms) or None


def _seconds(duration_ns: int) -> str:
    return f"{duration_ns / NS_PER_S:.2f} s"
