"""Runs two engines on the same observations and the same noise, and measures their durations."""

from __future__ import annotations

import sys
import time
from itertools import islice

import numpy as np

from sefa_edge.edge.engines.engine import Engine
from sefa_edge.edge.pictures import decode_picture
from sefa_edge.profiles.card import PolicyCard
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.progress import Progress
from sefa_edge.profiles.recording.dataset import RecordedDataset
from sefa_edge.profiles.recording.recordings import BLOCK, PolicyInputs, Recordings, Sample, check_shows
from sefa_edge.profiles.recording.windows import Choice, choose_frames

WARM_UP_CALLS, TIMED_CALLS = 20, 200


def check_cards_agree(reference: PolicyCard, candidate: PolicyCard) -> None:
    """Check that two engines have the same inputs and outputs.

    Raises:
        InputError: they differ; states the first difference.
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
    """The observations of `choice`, if the dataset has the engine's inputs.

    Raises:
        InputError: other joints, a missing camera, another rate for a policy with history, or only one episode.
    """
    timing = card.timing
    inputs = PolicyInputs(
        joint_names=card.joint_names,
        cameras={camera.name: (camera.height, camera.width) for camera in card.cameras},
        rate_hz=timing.policy_rate_hz,
        n_obs_steps=timing.n_obs_steps,
        observation_spacing_steps=timing.observation_spacing_steps,
        horizon=timing.horizon,
    )
    check_shows(dataset, inputs)
    return Recordings(dataset, inputs, choose_frames(dataset.episode, choice), choice.seed, decode_picture)


def infer(engine: Engine, sample: Sample) -> np.ndarray:
    """The engine's chunk float32 [T, n] for a sample, valid until its next call."""
    return engine.infer(sample.images, sample.joint_deg, sample.noise)


def compare(recordings: Recordings, reference: Engine, candidate: Engine) -> tuple[np.ndarray, np.ndarray]:
    """Chunks float32 [N, T, n] of both engines."""
    inputs = recordings.inputs
    shape = (len(recordings), inputs.horizon, len(inputs.joint_names))
    chunks = np.empty(shape, np.float32), np.empty(shape, np.float32)
    with Progress("comparing", len(recordings.frames), sys.stderr) as progress:
        for index, sample in enumerate(recordings):
            for of_engine, engine in zip(chunks, (reference, candidate), strict=True):
                of_engine[index] = infer(engine, sample)
            progress.update(index + 1)
    return chunks


def time_in_turn(recordings: Recordings, reference: Engine, candidate: Engine) -> tuple[np.ndarray, np.ndarray]:
    """Durations int64 [calls] of both engines, called alternately so that a slow machine slows both."""
    samples = list(islice(recordings, BLOCK))
    durations_ns = np.empty((2, WARM_UP_CALLS + TIMED_CALLS), np.int64)
    with Progress("timing", durations_ns.shape[1], sys.stderr) as progress:
        for call in range(durations_ns.shape[1]):
            turn = ((0, reference), (1, candidate))
            for row, engine in turn if call % 2 else reversed(turn):
                started_ns = time.perf_counter_ns()
                infer(engine, samples[call % len(samples)])
                durations_ns[row, call] = time.perf_counter_ns() - started_ns
            progress.update(call + 1)
    return durations_ns[0, WARM_UP_CALLS:], durations_ns[1, WARM_UP_CALLS:]
