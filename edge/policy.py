"""From an observation to an action chunk: history, joints at the picture's time, seeded noise, inference."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sefa_edge.edge.cameras.camera import Frame
from sefa_edge.edge.chunks import ActionChunk
from sefa_edge.edge.engines.engine import Engine
from sefa_edge.edge.records import JointSample
from sefa_edge.profiles.units import period_ns, s_to_ns

JOINT_HISTORY_NS = s_to_ns(2.0)


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What the policy looks at: n_obs frames per camera, oldest first, and joint_deg float32 [n_obs, n].

    `observed_ns` is the capture time of the newest frame; the joints are those at the capture times.
    """

    observed_ns: int
    frames: Mapping[str, Sequence[Frame]]
    joint_deg: np.ndarray


class Policy:
    """An engine with its random numbers. The same observations and seed give the same chunks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._timing = engine.card.timing
        self._shape = (self._timing.horizon, len(engine.card.joints))
        self._step_ns = period_ns(self._timing.policy_rate_hz)
        self._chunks = 0
        self.start_episode(0)

    def start_episode(self, seed: int) -> None:
        """Begin the noise again from `seed`."""
        self._random = np.random.default_rng(seed)

    def plan(self, observation: Observation) -> ActionChunk:
        """One inference. Chunk ids rise for as long as this object lives, also across episodes."""
        started_ns = time.monotonic_ns()
        images = {name: np.stack([f.image for f in frames]) for name, frames in observation.frames.items()}
        noise = self._random.standard_normal(self._shape, np.float32)
        joint_deg = self._engine.infer(images, observation.joint_deg, noise).copy()
        self._chunks += 1
        return ActionChunk(
            chunk_id=self._chunks,
            observed_ns=observation.observed_ns,
            first_step_ns=observation.observed_ns + self._timing.first_step_offset * self._step_ns,
            step_period_ns=self._step_ns,
            joint_deg=joint_deg,
            inference_ns=time.monotonic_ns() - started_ns,
        )


class JointHistory:
    """The last seconds of measured joints, and the joints at any moment in them."""

    def __init__(self) -> None:
        self._samples: deque[JointSample] = deque()

    @property
    def newest_ns(self) -> int | None:
        return self._samples[-1].stamp_ns if self._samples else None

    def add(self, sample: JointSample) -> None:
        """Samples arrive in order of time; one that does not is ignored."""
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
        if not self._samples:
            raise ValueError("no joint samples")
        origin_ns = self._samples[0].stamp_ns  # keeps the floats small: 2**53 ns are only 104 days
        known = np.array([sample.stamp_ns - origin_ns for sample in self._samples], np.float64)
        wanted = np.array([stamp - origin_ns for stamp in stamps_ns], np.float64)
        joints = np.stack([sample.joint_deg for sample in self._samples])
        columns = [np.interp(wanted, known, joints[:, joint]) for joint in range(joints.shape[1])]
        return np.stack(columns, axis=1).astype(np.float32)


class FrameHistory:
    """The newest n_obs frames of each camera, one per policy step; the first one fills the past."""

    def __init__(self, cameras: Sequence[str], n_obs: int) -> None:
        self._n_obs = n_obs
        self._frames: dict[str, deque[Frame]] = {camera: deque(maxlen=n_obs) for camera in cameras}

    def clear(self) -> None:
        for frames in self._frames.values():
            frames.clear()

    def add(self, frame: Frame) -> None:
        frames = self._frames[frame.camera]
        frames.extend([frame] * (1 if frames else self._n_obs))

    @property
    def oldest_newest_ns(self) -> int | None:
        """Capture time of the camera that lags most; None while a camera has given no frame."""
        if not all(self._frames.values()):
            return None
        return min(frames[-1].capture_ns for frames in self._frames.values())

    def observe(self, joints: JointHistory) -> Observation:
        """The observation of now. Raises ValueError when a camera or the joints have given nothing yet."""
        if not all(self._frames.values()):
            raise ValueError("a camera has given no frame")
        columns = zip(*self._frames.values(), strict=True)
        stamps = [max(frame.capture_ns for frame in column) for column in columns]
        frames = {camera: tuple(frames) for camera, frames in self._frames.items()}
        return Observation(stamps[-1], frames, joints.at(stamps))
