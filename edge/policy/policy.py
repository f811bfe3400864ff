"""From an observation to an action chunk: history, joints at the capture times, noise, inference."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sefa_edge.edge.cameras.camera import Frame
from sefa_edge.edge.engines.engine import Engine, EngineError
from sefa_edge.edge.ipc.policy_records import ActionChunk
from sefa_edge.edge.ipc.records import JointSample
from sefa_edge.edge.policy.noise import make_noise
from sefa_edge.edge.policy.noise_modes import NoiseMode
from sefa_edge.profiles.units import period_ns, s_to_ns

JOINT_HISTORY_NS = s_to_ns(2.0)


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """The policy's input: n_obs frames per camera, oldest first, and joint_deg float32 [n_obs, n].

    `observed_ns` is the capture time of the newest frame; the joints are interpolated to the capture times.
    """

    observed_ns: int
    frames: Mapping[str, Sequence[Frame]]
    joint_deg: np.ndarray
    frame_gap_ns: int = 0
    """Largest distance of a frame's capture time from the time that the card requires, over frames and cameras."""
    joint_gap_ns: int = 0
    """Largest distance of a frame's capture time from the nearest joint sample, over frames."""


class Policy:
    """An engine with its noise. The same observations and seed produce the same chunks."""

    def __init__(self, engine: Engine, noise: NoiseMode = "per-chunk") -> None:
        self._engine = engine
        self._timing = engine.card.timing
        self._shape = (self._timing.horizon, len(engine.card.joints))
        self._step_ns = period_ns(self._timing.policy_rate_hz)
        self._noise = make_noise(noise, self._shape, self._step_ns)
        self._chunks = 0

    def start_episode(self, seed: int) -> None:
        """Restart the noise from `seed`."""
        self._noise.start_episode(seed)

    def plan(self, observation: Observation) -> ActionChunk:
        """One inference. Chunk ids keep rising across episodes.

        Raises EngineError when the chunk's shape differs from the card's, and whatever the engine raises.
        """
        started_ns = time.monotonic_ns()
        images = {name: np.stack([f.image for f in frames]) for name, frames in observation.frames.items()}
        first_step_ns = observation.observed_ns + self._timing.first_step_offset * self._step_ns
        joint_deg = self._engine.infer(images, observation.joint_deg, self._noise.draw(first_step_ns)).copy()
        if joint_deg.shape != self._shape:
            raise EngineError(f"the chunk has shape {joint_deg.shape}, its card says {self._shape}", "export it again")
        self._chunks += 1
        return ActionChunk(
            chunk_id=self._chunks,
            observed_ns=observation.observed_ns,
            first_step_ns=first_step_ns,
            step_period_ns=self._step_ns,
            joint_deg=joint_deg,
            inference_ns=time.monotonic_ns() - started_ns,
        )


class JointHistory:
    """The measured joints of the last seconds, interpolated to any time in them."""

    def __init__(self) -> None:
        self._samples: deque[JointSample] = deque()

    @property
    def newest_ns(self) -> int | None:
        return self._samples[-1].stamp_ns if self._samples else None

    def add(self, sample: JointSample) -> None:
        """Add a sample. One that is not newer than the last is ignored."""
        if self._samples and sample.stamp_ns <= self._samples[-1].stamp_ns:
            return
        self._samples.append(sample)
        while sample.stamp_ns - self._samples[0].stamp_ns > JOINT_HISTORY_NS:
            self._samples.popleft()

    def at(self, stamps_ns: Sequence[int]) -> np.ndarray:
        """Joints float32 [len(stamps_ns), n], linear between samples, constant beyond the first and the last.

        Raises:
            ValueError: there are no samples.
        """
        return np.array([_between(*self._around(stamp_ns), stamp_ns) for stamp_ns in stamps_ns], np.float32)

    def gap_ns(self, stamps_ns: Sequence[int]) -> int:
        """Largest distance from one of these times to its nearest sample. Raises ValueError as `at`."""
        return max(min(abs(sample.stamp_ns - stamp_ns) for sample in self._around(stamp_ns)) for stamp_ns in stamps_ns)

    def _around(self, stamp_ns: int) -> tuple[JointSample, JointSample]:
        """The samples before and after a time; the same one twice where there is only one.

        Searches from the newest backwards, because a frame is usually recent.
        """
        after = None
        for sample in reversed(self._samples):
            if sample.stamp_ns <= stamp_ns:
                return sample, after or sample
            after = sample
        if after is None:
            raise ValueError("no joint samples")
        return after, after


def _between(before: JointSample, after: JointSample, stamp_ns: int) -> np.ndarray:
    """Joints [n] at a time between two samples."""
    if before.stamp_ns >= stamp_ns or before is after:
        return before.joint_deg
    share = (stamp_ns - before.stamp_ns) / (after.stamp_ns - before.stamp_ns)
    here_deg = before.joint_deg.astype(np.float64)
    return here_deg + share * (after.joint_deg - here_deg)


class FrameHistory:
    """The frames of each camera, from which it selects the policy's input: n_obs frames, `spacing_ns` apart.

    They are selected by capture time, not by count, because a camera may be slow, fast or pause. The first frame of an
    episode also stands for the time before it, as in training.
    """

    def __init__(self, cameras: Sequence[str], n_obs: int, spacing_ns: int) -> None:
        self._n_obs, self._spacing_ns = n_obs, spacing_ns
        self._frames: dict[str, deque[Frame]] = {camera: deque() for camera in cameras}
        self._first_ns: dict[str, int] = {}

    def clear(self) -> None:
        self._first_ns.clear()
        for frames in self._frames.values():
            frames.clear()

    def add(self, frame: Frame) -> None:
        """Add a frame. One that is not newer than the camera's last is ignored."""
        frames = self._frames[frame.camera]
        if frames and frame.capture_ns <= frames[-1].capture_ns:
            return
        self._first_ns.setdefault(frame.camera, frame.capture_ns)
        frames.append(frame)
        # One spacing more than needed is kept, because another camera may lag.
        oldest_ns = frame.capture_ns - self._n_obs * self._spacing_ns if self._n_obs > 1 else frame.capture_ns
        while len(frames) > 1 and frames[1].capture_ns <= oldest_ns:
            frames.popleft()

    @property
    def oldest_newest_ns(self) -> int | None:
        """Oldest of the capture times of the cameras' newest frames; None while a camera has no frame."""
        if not all(self._frames.values()):
            return None
        return min(frames[-1].capture_ns for frames in self._frames.values())

    def observe(self, joints: JointHistory) -> Observation:
        """The current observation. Raises ValueError while a camera has no frame, or there are no joint samples."""
        if not all(self._frames.values()):
            raise ValueError("a camera has no frame")
        newest_ns = max(frames[-1].capture_ns for frames in self._frames.values())
        wanted = [newest_ns - steps * self._spacing_ns for steps in reversed(range(self._n_obs))]
        chosen = {camera: tuple(_nearest(kept, moment) for moment in wanted) for camera, kept in self._frames.items()}
        stamps = [max(frame.capture_ns for frame in column) for column in zip(*chosen.values(), strict=True)]
        return Observation(
            newest_ns, chosen, joints.at(stamps), self._gap_ns(chosen, wanted[:-1]), joints.gap_ns(stamps)
        )

    def _gap_ns(self, chosen: Mapping[str, Sequence[Frame]], wanted: Sequence[int]) -> int:
        """Largest difference of an older frame from its required time; the time before the first frame is not a gap."""
        return max(
            (
                abs(frame.capture_ns - max(moment, self._first_ns[camera]))
                for camera, frames in chosen.items()
                for frame, moment in zip(frames[:-1], wanted, strict=True)
            ),
            default=0,
        )


def _nearest(frames: Sequence[Frame], moment_ns: int) -> Frame:
    return min(frames, key=lambda frame: abs(frame.capture_ns - moment_ns))
