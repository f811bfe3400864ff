"""Two engines on the same observations and the same noise: what they do, and how long it takes them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np

from sefa_edge.edge.camera import resize_to_policy
from sefa_edge.edge.engine import Engine
from sefa_edge.edge.pictures import decode_png
from sefa_edge.profiles.card import PolicyCard
from sefa_edge.profiles.dataset import RecordedDataset
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.progress import Progress
from sefa_edge.profiles.windows import Choice, choose_frames, history, noises, read_windows

BLOCK = 32
"""Observations held in memory at once, and the ones that calls are timed with."""
WARM_UP_CALLS, TIMED_CALLS = 20, 200


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What both engines are given: pictures uint8 [n_obs, H, W, 3], joints float32 [n_obs, n], noise float32 [T, n]."""

    images: Mapping[str, np.ndarray]
    joint_deg: np.ndarray
    noise: np.ndarray

    def infer(self, engine: Engine) -> np.ndarray:
        return engine.infer(self.images, self.joint_deg, self.noise)


@dataclass(frozen=True, slots=True, eq=False)
class Recordings:
    """The held-out observations of a dataset, as an engine with this card takes them."""

    dataset: RecordedDataset
    card: PolicyCard
    frames: np.ndarray
    seed: int

    def __iter__(self) -> Iterator[Sample]:
        timing, cameras = self.card.timing, self.card.cameras
        noise = noises(len(self.frames), timing.horizon, len(self.card.joints), self.seed)
        steps = history(self.dataset, self.frames, timing.n_obs_steps, timing.observation_spacing_steps)
        for first in range(0, len(steps), BLOCK):
            windows = read_windows(self.dataset, steps[first : first + BLOCK], [c.name for c in cameras], decode_png)
            for index in range(len(windows)):
                images = {
                    c.name: np.stack([resize_to_policy(p, c.height, c.width) for p in windows.images[c.name][index]])
                    for c in cameras
                }
                yield Sample(images, windows.joint_deg[index], noise[first + index])


def check_cards_agree(reference: PolicyCard, candidate: PolicyCard) -> None:
    """Refuse to compare engines that take or give different things.

    Raises:
        InputError: names the first difference.
    """
    for what, of_card in (
        ("joints", lambda card: [(joint.name, joint.unit, joint.zero) for joint in card.joints]),
        ("cameras", lambda card: [(c.name, c.height, c.width, c.resize) for c in card.cameras]),
        ("observations", lambda card: (card.timing.n_obs_steps, card.timing.observation_spacing_steps)),
        ("horizon", lambda card: card.timing.horizon),
        ("rate and first step", lambda card: (card.timing.policy_rate_hz, card.timing.first_step_offset)),
    ):
        if of_card(reference) != of_card(candidate):
            raise InputError(
                f"the engines differ in {what}: {of_card(reference)} and {of_card(candidate)}",
                "compare two engines of one policy",
            )


def held_out_recordings(dataset: RecordedDataset, card: PolicyCard, choice: Choice) -> Recordings:
    """The observations of `choice`, if the dataset shows what the engine takes.

    Raises:
        InputError: other joints, a camera that is missing, another rate for a policy that looks back, one episode.
    """
    info, timing = dataset.info, card.timing
    if info.joint_names != card.joint_names:
        raise InputError(
            f"dataset joints: {' '.join(info.joint_names)}; engine joints: {' '.join(card.joint_names)}",
            "give a dataset of the arm that the engine was made for",
        )
    missing = [camera.name for camera in card.cameras if camera.name not in info.cameras]
    if missing:
        raise InputError(f"{dataset.folder} has no camera '{missing[0]}'", f"it has {', '.join(info.cameras)}")
    if timing.n_obs_steps > 1 and info.rate_hz != timing.policy_rate_hz:
        raise InputError(
            f"the dataset runs at {info.rate_hz:g} Hz, the engine at {timing.policy_rate_hz:g} Hz",
            "the engine looks back in time: give a dataset of its own rate",
        )
    return Recordings(dataset, card, choose_frames(dataset.episode, choice), choice.seed)


def compare(recordings: Recordings, reference: Engine, candidate: Engine) -> tuple[np.ndarray, np.ndarray]:
    """Chunks float32 [N, T, n] of both engines."""
    shape = (len(recordings.frames), *recordings.card.chunk_tensor.shape)
    chunks = np.empty(shape, np.float32), np.empty(shape, np.float32)
    with Progress("comparing", len(recordings.frames), sys.stderr) as progress:
        for index, sample in enumerate(recordings):
            for of_engine, engine in zip(chunks, (reference, candidate), strict=True):
                of_engine[index] = sample.infer(engine)
            progress.update(index + 1)
    return chunks


def time_in_turn(recordings: Recordings, reference: Engine, candidate: Engine) -> tuple[np.ndarray, np.ndarray]:
    """Durations int64 [calls] of both engines, called in turn so that what slows the machine slows both."""
    samples = list(islice(recordings, BLOCK))
    durations_ns = np.empty((2, WARM_UP_CALLS + TIMED_CALLS), np.int64)
    with Progress("timing", durations_ns.shape[1], sys.stderr) as progress:
        for call in range(durations_ns.shape[1]):
            turn = ((0, reference), (1, candidate))
            for row, engine in turn if call % 2 else reversed(turn):
                started_ns = time.perf_counter_ns()
                samples[call % len(samples)].infer(engine)
                durations_ns[row, call] = time.perf_counter_ns() - started_ns
            progress.update(call + 1)
    return durations_ns[0, WARM_UP_CALLS:], durations_ns[1, WARM_UP_CALLS:]
