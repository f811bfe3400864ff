"""Sends one record per inference to the recorder."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sefa_edge.edge.engines.engine import Engine
from sefa_edge.edge.ipc.policy_records import ActionChunk, FrameStamp, Inference
from sefa_edge.edge.ipc.sinks import Sink
from sefa_edge.edge.policy.policy import Observation
from sefa_edge.profiles.card import PolicyCard


class TappedEngine:
    """An `Engine` that keeps a copy of its last noise and output."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.noise = self.output = np.empty((0, len(engine.card.joints)), np.float32)

    @property
    def card(self) -> PolicyCard:
        return self._engine.card

    def infer(self, images: Mapping[str, np.ndarray], joint_deg: np.ndarray, noise: np.ndarray) -> np.ndarray:
        chunk = self._engine.infer(images, joint_deg, noise)
        self.noise, self.output = noise.copy(), chunk.copy()
        return chunk

    def close(self) -> None:
        self._engine.close()


class PolicyTap:
    """Sends the input and output of each inference to the recorder."""

    def __init__(self, engine: TappedEngine, sink: Sink) -> None:
        self._engine, self._sink = engine, sink
        self._cameras = [camera.name for camera in engine.card.cameras]

    def record(self, observation: Observation, chunk: ActionChunk) -> None:
        """Call after each inference."""
        frames = tuple(
            FrameStamp(camera, frame.sequence, frame.capture_ns)
            for camera, name in enumerate(self._cameras)
            for frame in observation.frames[name]
        )
        inference = Inference(
            chunk.chunk_id, chunk.observed_ns, chunk.first_step_ns, chunk.step_period_ns, chunk.inference_ns,
            frames, observation.joint_deg, self._engine.noise, self._engine.output,
        )  # fmt: skip
        self._sink.put(inference.pack())
