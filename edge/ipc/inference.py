"""What the policy looked at and what came of it, one record per inference: policy -> recorder."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from sefa_edge.edge.ipc.records import Kind, seal, unseal
from sefa_edge.edge.ipc.transport import RecordError

FrameStamps: TypeAlias = "tuple[tuple[int, int], ...]"
"""(sequence, capture_ns) of each frame, oldest first."""


@dataclass(frozen=True, slots=True, eq=False)
class Inference:
    """One inference: joint_deg float32 [n_obs, n], noise and output float32 [T, n].

    `frames` is camera by camera in the card's order. `output` is what the engine gave; the times are the chunk's.
    """

    chunk_id: int
    observed_ns: int
    first_step_ns: int
    step_period_ns: int
    inference_ns: int
    frames: tuple[FrameStamps, ...]
    joint_deg: np.ndarray
    noise: np.ndarray
    output: np.ndarray

    def pack(self) -> bytes:
        (n_obs, n), horizon = self.joint_deg.shape, len(self.noise)
        head = _HEAD.pack(
            self.chunk_id, self.observed_ns, self.first_step_ns, self.step_period_ns, self.inference_ns,
            len(self.frames), n_obs, horizon, n,
        )  # fmt: skip
        stamps = np.array(self.frames, "<i8").tobytes()
        arrays = (self.joint_deg, self.noise, self.output)
        return seal(Kind.INFERENCE, b"".join((head, stamps, *(a.astype("<f4").tobytes() for a in arrays))))

    @classmethod
    def unpack(cls, record: bytes) -> Inference:
        """Raises RecordError."""
        if len(record) < 8 + _HEAD.size:
            raise RecordError(f"an inference of {len(record)} bytes has no head")
        chunk_id, observed_ns, first_ns, period_ns, inference_ns, *shape = _HEAD.unpack_from(record, 8)
        cameras, n_obs, horizon, n = shape
        stamps, joints, steps = cameras * n_obs * 2, n_obs * n, horizon * n
        body = unseal(record, Kind.INFERENCE, _HEAD.size + 8 * stamps + 4 * (joints + 2 * steps))
        frames = np.frombuffer(body, "<i8", stamps, _HEAD.size).reshape(cameras, n_obs, 2).tolist()
        floats = np.frombuffer(body, "<f4", joints + 2 * steps, _HEAD.size + 8 * stamps)
        noise, output = floats[joints:].reshape(2, horizon, n)
        named = tuple(tuple((sequence, stamp) for sequence, stamp in camera) for camera in frames)
        joint_deg = floats[:joints].reshape(n_obs, n)
        return cls(chunk_id, observed_ns, first_ns, period_ns, inference_ns, named, joint_deg, noise, output)


_HEAD = struct.Struct("<qqqqqBBHH4x")
