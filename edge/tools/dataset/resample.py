"""Episodes of a recording, resampled to the policy's rate without looking ahead.

Frame k is at t(k) = t(0) + k / rate, where t(0) is the first tick in which the policy moved the arm. It contains what
was known then: the newest picture and reading not later than t(k). Its action is the goal in force at t(k + 1), that
is, the position to which the arm was sent until the next frame, as in `sefa-edge record`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from sefa_edge.edge.ipc.record_json import from_json
from sefa_edge.edge.ipc.records import NONE_NS, TickReport
from sefa_edge.edge.ipc.run_event import RunEvent, RunStage
from sefa_edge.edge.ipc.tick_trace import TickTrace
from sefa_edge.edge.ipc.vocabulary import Mode
from sefa_edge.edge.pictures import decode_picture
from sefa_edge.edge.recording.recorded_run import RecordedRun
from sefa_edge.edge.recording.topics import EVENT, TICK, Picture, picture_topic
from sefa_edge.edge.tools.demonstrations.dataset_writer import Episode
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.units import ms_to_ns, period_ns

MAX_AGE_NS = ms_to_ns(250)
"""A frame whose picture, reading or goal is older has a gap, and its episode is skipped."""


@dataclass(slots=True)
class Track:
    """Joints over time; `stamps_ns` are rising."""

    stamps_ns: list[int] = field(default_factory=list)
    joint_deg: list[np.ndarray] = field(default_factory=list)

    def add(self, stamp_ns: int, joint_deg: np.ndarray) -> None:
        if not self.stamps_ns or stamp_ns > self.stamps_ns[-1]:
            self.stamps_ns.append(stamp_ns)
            self.joint_deg.append(joint_deg)

    def at(self, stamp_ns: int) -> np.ndarray | None:
        """The newest entry not later than this; None when there is none, or it is too old."""
        index = int(np.searchsorted(np.array(self.stamps_ns, np.int64), stamp_ns, side="right")) - 1
        if index < 0 or stamp_ns - self.stamps_ns[index] > MAX_AGE_NS:
            return None
        return self.joint_deg[index]


@dataclass(slots=True)
class Take:
    """One episode while it is assembled."""

    episode: int
    outcome: str = "cut short"
    readings: Track = field(default_factory=Track)
    goals: Track = field(default_factory=Track)
    moved_ns: int | None = None
    """The time when the policy first moved the arm."""

    def frame_times(self, step_ns: int) -> list[int]:
        if self.moved_ns is None:
            return []
        return list(range(self.moved_ns, self.goals.stamps_ns[-1] - step_ns + 1, step_ns))


@dataclass(frozen=True, slots=True, eq=False)
class Resampled:
    """One episode of a run, or the reason why it is skipped."""

    number: int
    outcome: str
    episode: Episode | None
    skipped: str = ""


def resample(run: RecordedRun) -> Iterator[Resampled]:
    """Every episode of a run, in order. Raises InputError for invalid messages."""
    step_ns = period_ns(run.card.timing.policy_rate_hz)
    takes = _takes(run)
    times = [take.frame_times(step_ns) for take in takes]
    for take, moments, images in zip(takes, times, _pictures(run, times), strict=True):
        episode, gap = _episode(take, moments, images, step_ns)
        yield Resampled(take.episode, take.outcome, None if gap else episode, gap)


def _takes(run: RecordedRun) -> list[Take]:
    """The ticks of control, split into episodes."""
    takes: list[Take] = []
    is_open = False
    for stored in run.messages(frozenset({EVENT, TICK})):
        if stored.topic == EVENT:
            event = from_json(stored.content, RunEvent, EVENT)
            if event.stage is RunStage.EPISODE_BEGIN:
                takes.append(Take(event.episode))
            elif event.stage is RunStage.EPISODE_END and takes:
                takes[-1].outcome = event.text
            is_open = event.stage is RunStage.EPISODE_BEGIN
        elif is_open:
            _add(takes[-1], from_json(stored.content, TickTrace, TICK, n=len(run.arm.joints)))
    return takes


def _add(take: Take, trace: TickTrace) -> None:
    report = trace.report
    for reading in trace.readings:
        take.readings.add(reading.stamp_ns, _checked(report, reading.joint_deg))
    if report.mode is Mode.RUNNING and trace.goal is not None:
        take.goals.add(report.due_ns, _checked(report, trace.goal.joint_deg))
        if take.moved_ns is None and report.chunk_id != NONE_NS:
            take.moved_ns = report.due_ns


def _checked(report: TickReport, joint_deg: np.ndarray) -> np.ndarray:
    if not np.isfinite(joint_deg).all():
        raise InputError(f"tick {report.tick}: {joint_deg.tolist()} is not a pose of this arm", "was it recorded here?")
    return joint_deg.astype(np.float32)


class Moments:
    """Collects the picture of every camera for each frame time, and returns complete episodes in order."""

    def __init__(self, cameras: list[str], times: list[list[int]]) -> None:
        self._lengths = [len(moments) for moments in times]
        self._open = {camera: deque(moment for moments in times for moment in moments) for camera in cameras}
        self._newest: dict[str, Picture] = {}
        self._filled: dict[str, list[bytes | None]] = {camera: [] for camera in cameras}

    def add(self, camera: str, picture: Picture) -> None:
        """Add a picture: frame times before it get the previous one."""
        self.fill(camera, picture.capture_ns)
        self._newest[camera] = picture

    def fill(self, camera: str, until_ns: int | None) -> None:
        """Fill the frame times before `until_ns`, or all remaining ones when it is None."""
        moments, newest = self._open[camera], self._newest.get(camera)
        while moments and (until_ns is None or moments[0] < until_ns):
            moment = moments.popleft()
            fresh = newest is not None and moment - newest.capture_ns <= MAX_AGE_NS
            self._filled[camera].append(newest.data if newest is not None and fresh else None)

    def take(self) -> Iterator[dict[str, list[bytes | None]]]:
        """The episodes that are complete, which are then removed."""
        while self._lengths and all(len(column) >= self._lengths[0] for column in self._filled.values()):
            count = self._lengths.pop(0)
            yield {camera: column[:count] for camera, column in self._filled.items()}
            self._filled = {camera: column[count:] for camera, column in self._filled.items()}


def _pictures(run: RecordedRun, times: list[list[int]]) -> Iterator[dict[str, list[bytes | None]]]:
    """Per episode and camera, the PNG for every frame time. At most one episode is kept in memory."""
    names = {picture_topic(camera.name): camera.name for camera in run.card.cameras}
    moments = Moments(list(names.values()), times)
    for stored in run.messages(frozenset(names)):
        moments.add(names[stored.topic], from_json(stored.content, Picture, stored.topic))
        yield from moments.take()
    for name in names.values():
        moments.fill(name, None)
    yield from moments.take()


def _episode(
    take: Take, moments: list[int], images: dict[str, list[bytes | None]], step_ns: int
) -> tuple[Episode, str]:
    """The frames, and a description of the first gap."""
    episode = Episode()
    for index, moment in enumerate(moments):
        state, action = take.readings.at(moment), take.goals.at(moment + step_ns)
        pngs = {name: column[index] for name, column in images.items()}
        if state is None or action is None:
            return episode, f"no joints {(moment - moments[0]) / 1e9:.1f} s after its start"
        missing = [name for name, png in pngs.items() if png is None]
        if missing:
            return episode, f"no picture of {missing[0]} {(moment - moments[0]) / 1e9:.1f} s after its start"
        episode.append(state, action, {name: decode_picture(png) for name, png in pngs.items() if png is not None})
    return episode, "" if moments else "the policy did not move the arm for a whole step"
