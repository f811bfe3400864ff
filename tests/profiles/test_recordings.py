"""Recordings as a policy sees them: image size, history, repeatable noise; and datasets that do not fit the policy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sefa_edge.edge.pictures import decode_picture
from sefa_edge.edge.tools.demonstrations.dataset_writer import DatasetInfo, DatasetWriter, Episode
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.recording.dataset import RecordedDataset, open_dataset
from sefa_edge.profiles.recording.recordings import BLOCK, PolicyInputs, Recordings, check_shows
from sefa_edge.profiles.resize import resize_to_policy

NAMES = ("shoulder_pan", "gripper")
INPUTS = PolicyInputs(NAMES, {"front": (12, 16)}, 10.0, 2, 1, 4)
FRAMES = 20


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> RecordedDataset:
    folder = tmp_path_factory.mktemp("recordings") / "lift"
    writer = DatasetWriter(folder, DatasetInfo("lift", "so101_follower", 10, NAMES, {"front": (24, 32)}))
    for seed in range(2):
        rng, episode = np.random.default_rng(seed), Episode()
        for frame in range(FRAMES):
            image = rng.integers(0, 256, (24, 32, 3), np.uint8)
            episode.append(np.full(2, 100 * seed + frame), np.zeros(2), {"front": image})
        writer.add(episode)
    writer.close()
    return open_dataset(folder)


def test_images_are_resized_to_the_policys_size(dataset: RecordedDataset) -> None:
    frames = np.arange(2 * FRAMES)
    original = dataset.pictures("front", frames, decode_picture)
    samples = list(Recordings(dataset, INPUTS, frames, 0, decode_picture))
    assert len(samples) == len(frames) > BLOCK  # more than one block
    for sample, picture in zip(samples, original, strict=True):
        assert sample.images["front"].shape == (2, 12, 16, 3)
        np.testing.assert_array_equal(sample.images["front"][-1], resize_to_policy(picture, 12, 16))


def test_history_stays_in_its_episode(dataset: RecordedDataset) -> None:
    samples = list(Recordings(dataset, INPUTS, np.array([0, 5, FRAMES]), 0, decode_picture))
    assert [sample.joint_deg[:, 0].tolist() for sample in samples] == [[0, 0], [4, 5], [100, 100]]


def test_noise_repeats_with_the_seed_and_differs_between_samples(dataset: RecordedDataset) -> None:
    frames = np.array([3, 3])

    def noises(seed: int) -> np.ndarray:
        return np.stack([sample.noise for sample in Recordings(dataset, INPUTS, frames, seed, decode_picture)])

    np.testing.assert_array_equal(noises(1), noises(1))
    assert (noises(1)[0] != noises(1)[1]).all()
    assert (noises(1) != noises(2)).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"joint_names": ("gripper", "shoulder_pan")}, "dataset joints: shoulder_pan gripper"),
        ({"cameras": {"wrist": (12, 16)}}, "no camera 'wrist'"),
        ({"rate_hz": 30.0}, "runs at 10 Hz, the policy at 30 Hz"),
    ],
)
def test_a_dataset_that_does_not_fit_the_policy_is_refused(
    dataset: RecordedDataset, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_shows(dataset, replace(INPUTS, **changes))  # pyright: ignore[reportArgumentType]
    check_shows(dataset, replace(INPUTS, rate_hz=30.0, n_obs_steps=1))  # without history any rate is accepted
