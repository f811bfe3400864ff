"""The inferences of a recorded run, made anew on the recorded pictures, joints and noise."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from sefa_edge.edge.engines.engine import Engine
from sefa_edge.edge.pictures import decode_picture
from sefa_edge.edge.recording.messages import (
    Chunk,
    FrameStamp,
    InferenceMessage,
    Picture,
    array_of,
    decode,
    png_of,
    rows_of,
)
from sefa_edge.edge.recording.names import CHUNK, INFERENCE, picture_topic
from sefa_edge.edge.recording.recorded_run import RecordedRun
from sefa_edge.edge.tools.replay.commands import Comparison
from sefa_edge.profiles.errors import InputError

Key = tuple[str, int, int]
"""Camera, sequence, capture_ns: one picture."""


def replay_policy(run: RecordedRun, engine: Engine) -> Comparison:
    """Pictures are decoded once, as they come, and forgotten when nobody needs them any more.

    Raises:
        InputError: messages that are none, or an engine of other shapes than the recorded one.
    """
    replay = PolicyReplay(run, engine)
    pictures = {picture_topic(camera.name) for camera in run.card.cameras}
    for stored in run.messages(frozenset(pictures)):
        replay.see(decode(stored.topic, stored.content, Picture))
    return replay.finish()


class PolicyReplay:
    """Makes each inference as soon as all its pictures have been seen."""

    def __init__(self, run: RecordedRun, engine: Engine) -> None:
        self._engine, self._joints = engine, len(run.arm.joints)
        self._cameras = [camera.name for camera in run.card.cameras]
        self._inferences: dict[int, InferenceMessage] = {}
        self._received: dict[int, Chunk] = {}
        for stored in run.messages(frozenset({INFERENCE, CHUNK})):
            if stored.topic == CHUNK:
                chunk = decode(CHUNK, stored.content, Chunk)
                self._received[chunk.chunk_id] = chunk
            else:
                inference = decode(INFERENCE, stored.content, InferenceMessage)
                self._inferences[inference.chunk_id] = inference
        self._missing = {chunk_id: set(map(_key, i.frames)) for chunk_id, i in self._inferences.items()}
        self._wanted: defaultdict[Key, set[int]] = defaultdict(set)
        for chunk_id, keys in self._missing.items():
            for key in keys:
                self._wanted[key].add(chunk_id)
        self._images: dict[Key, np.ndarray] = {}
        self._differences: dict[int, str] = {}

    def see(self, picture: Picture) -> None:
        """Take in one picture, and make the inferences that it completes."""
        key = (picture.frame_id, picture.sequence, picture.capture_ns)
        waiting = self._wanted.get(key, set())
        if not waiting:
            return
        self._images[key] = decode_picture(png_of(picture))
        for chunk_id in sorted(waiting):
            self._missing[chunk_id].discard(key)
            if not self._missing[chunk_id]:
                self._infer(self._inferences[chunk_id])

    def finish(self) -> Comparison:
        """What came of it, in the order of the chunks."""
        comparison = Comparison()
        for chunk_id in sorted(self._inferences):
            if chunk_id in self._differences:
                comparison.note(self._differences[chunk_id])
            else:
                comparison.not_comparable.append(f"chunk {chunk_id}: a picture that it was made of is lost")
        return comparison

    def _infer(self, inference: InferenceMessage) -> None:
        images = {
            name: np.stack([self._images[_key(frame)] for frame in inference.frames if frame.camera == name])
            for name in self._cameras
        }
        noise = array_of(inference.noise).astype(np.float32)
        if len(noise) % self._joints:
            raise InputError(f"the noise of chunk {inference.chunk_id} has {len(noise)} numbers", "recorded here?")
        output = self._engine.infer(images, rows_of(inference.observed, self._joints), noise.reshape(-1, self._joints))
        self._differences[inference.chunk_id] = self._difference(inference, output)
        for key in map(_key, inference.frames):
            self._wanted[key].discard(inference.chunk_id)
            if not self._wanted[key]:
                self._images.pop(key, None)

    def _difference(self, inference: InferenceMessage, output: np.ndarray) -> str:
        name, recorded = f"chunk {inference.chunk_id}", rows_of(inference.steps, self._joints)
        if recorded.shape != output.shape:
            return f"{name}: {recorded.shape} numbers are recorded, the engine gives {output.shape}"
        wrong = np.argwhere(_bits(recorded) != _bits(output))
        if len(wrong):
            step, joint = wrong[0].tolist()
            return f"{name}: step {step}, joint {joint} is {recorded[step, joint]}, computed anew {output[step, joint]}"
        received = self._received.get(inference.chunk_id)
        if received is None:  # overtaken by a newer one
            return ""
        fields = [key for key in Chunk.model_fields if repr(getattr(received, key)) != repr(getattr(inference, key))]
        return f"{name}: its {fields[0]} reached control otherwise than the policy sent it" if fields else ""


def _key(frame: FrameStamp) -> Key:
    return frame.camera, frame.sequence, frame.capture_ns


def _bits(values: np.ndarray) -> np.ndarray:
    """Comparable bit for bit; every NaN is the same NaN."""
    return np.where(np.isnan(values), np.float32(np.nan), values).astype(np.float32).view(np.uint32)
