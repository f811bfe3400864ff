"""Repeats the inferences of a recorded run on the recorded pictures, joints and noise."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from sefa_edge.edge.engines.engine import Engine
from sefa_edge.edge.ipc.policy_records import ActionChunk, FrameStamp, Inference
from sefa_edge.edge.ipc.record_json import from_json
from sefa_edge.edge.pictures import decode_picture
from sefa_edge.edge.recording.recorded_run import RecordedRun
from sefa_edge.edge.recording.topics import CHUNK, INFERENCE, Picture, picture_topic
from sefa_edge.edge.tools.replay.comparison import Comparison, first_difference
from sefa_edge.profiles.errors import InputError

Key = tuple[str, int, int]
"""Camera, sequence, capture_ns: identifies a picture."""


def replay_policy(run: RecordedRun, engine: Engine) -> Comparison:
    """Repeat all inferences. Pictures are decoded once, in order, and dropped as soon as no inference needs them.

    Raises:
        InputError: invalid messages, or an engine whose shapes differ from the recorded one's.
    """
    replay = PolicyReplay(run, engine)
    pictures = {picture_topic(camera.name) for camera in run.card.cameras}
    for stored in run.messages(frozenset(pictures)):
        replay.add(from_json(stored.content, Picture, stored.topic))
    return replay.finish()


class PolicyReplay:
    """Runs each inference as soon as all its pictures have been added."""

    def __init__(self, run: RecordedRun, engine: Engine) -> None:
        self._engine, self._joints = engine, len(run.arm.joints)
        self._cameras = [camera.name for camera in run.card.cameras]
        self._inferences: dict[int, Inference] = {}
        self._received: dict[int, ActionChunk] = {}
        for stored in run.messages(frozenset({INFERENCE, CHUNK})):
            if stored.topic == CHUNK:
                chunk = from_json(stored.content, ActionChunk, CHUNK, n=self._joints)
                self._received[chunk.chunk_id] = chunk
            else:
                inference = from_json(stored.content, Inference, INFERENCE, n=self._joints)
                self._inferences[inference.chunk_id] = inference
        self._missing = {chunk_id: set(map(self._key, i.frames)) for chunk_id, i in self._inferences.items()}
        self._wanted: defaultdict[Key, set[int]] = defaultdict(set)
        for chunk_id, keys in self._missing.items():
            for key in keys:
                self._wanted[key].add(chunk_id)
        self._images: dict[Key, np.ndarray] = {}
        self._differences: dict[int, str] = {}

    def add(self, picture: Picture) -> None:
        """Add a picture, and run the inferences that it completes."""
        key = (picture.frame_id, picture.sequence, picture.capture_ns)
        waiting = self._wanted.get(key, set())
        if not waiting:
            return
        self._images[key] = decode_picture(picture.data)
        for chunk_id in sorted(waiting):
            self._missing[chunk_id].discard(key)
            if not self._missing[chunk_id]:
                self._infer(self._inferences[chunk_id])

    def finish(self) -> Comparison:
        """The result, in the order of the chunks."""
        comparison = Comparison()
        for chunk_id in sorted(self._inferences):
            if chunk_id in self._differences:
                comparison.note(self._differences[chunk_id])
            else:
                comparison.not_comparable.append(f"chunk {chunk_id}: one of its pictures is lost")
        return comparison

    def _infer(self, inference: Inference) -> None:
        keys = [self._key(frame) for frame in inference.frames]
        images = {name: np.stack([self._images[key] for key in keys if key[0] == name]) for name in self._cameras}
        output = self._engine.infer(images, inference.joint_deg, inference.noise)
        self._differences[inference.chunk_id] = self._difference(inference, output)
        for key in keys:
            self._wanted[key].discard(inference.chunk_id)
            if not self._wanted[key]:
                self._images.pop(key, None)

    def _difference(self, inference: Inference, output: np.ndarray) -> str:
        name, recorded = f"chunk {inference.chunk_id}", inference.output
        if recorded.shape != output.shape:
            return f"{name}: the recorded chunk has shape {recorded.shape}, the engine returns {output.shape}"
        wrong = np.argwhere(_bits(recorded) != _bits(output))
        if len(wrong):
            step, joint = wrong[0].tolist()
            return f"{name}: step {step}, joint {joint} is {recorded[step, joint]}, recomputed {output[step, joint]}"
        received = self._received.get(inference.chunk_id)
        if received is None:  # overtaken by a newer one
            return ""
        sent = ActionChunk(
            inference.chunk_id, inference.observed_ns, inference.first_step_ns, inference.step_period_ns,
            inference.output, inference.inference_ns,
        )  # fmt: skip
        found = first_difference(sent, received)
        return (
            f"{name}: its {found.field} differs between what the policy sent and what control received" if found else ""
        )

    def _key(self, frame: FrameStamp) -> Key:
        if frame.camera >= len(self._cameras):
            raise InputError(f"a message of {INFERENCE} names camera {frame.camera}", "was it recorded with this card?")
        return self._cameras[frame.camera], frame.sequence, frame.capture_ns


def _bits(values: np.ndarray) -> np.ndarray:
    """The bit patterns of float32 values, with all NaNs made equal."""
    return np.where(np.isnan(values), np.float32(np.nan), values).astype(np.float32).view(np.uint32)
