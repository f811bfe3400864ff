"""The noise that consecutive chunks share."""

from __future__ import annotations

import numpy as np
import pytest

from sefa_edge.edge.policy.noise import make_noise
from sefa_edge.edge.policy.noise_modes import NOISE_MODES, NoiseMode

STEP_NS, SHAPE = 100, (6, 3)


def draws(mode: NoiseMode, seed: int, *steps: float) -> list[np.ndarray]:
    noise = make_noise(mode, SHAPE, STEP_NS)
    noise.start_episode(seed)
    return [noise.draw(10_000 + round(step * STEP_NS)).copy() for step in steps]


@pytest.mark.parametrize("mode", NOISE_MODES)
def test_seed_and_times_give_the_noise(mode: NoiseMode) -> None:
    first, again = draws(mode, 3, 0, 2, 9), draws(mode, 3, 0, 2, 9)
    np.testing.assert_array_equal(first, again)
    assert all(drawn.shape == SHAPE and drawn.dtype == np.float32 for drawn in first)


def test_per_chunk_is_the_generator_of_the_seed() -> None:
    random = np.random.default_rng(5)
    for drawn in draws("per-chunk", 5, 0, 4):
        np.testing.assert_array_equal(drawn, random.standard_normal(SHAPE, np.float32))


def test_fixed_noise_depends_on_neither_seed_nor_time() -> None:
    first, second = draws("fixed", 1, 0, 4)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, draws("fixed", 2, 0)[0])


def test_shared_rows_belong_to_time_steps() -> None:
    first, same, later, between, far = draws("shared", 1, 0, 0, 4, 5.2, 40)
    np.testing.assert_array_equal(first, same)
    np.testing.assert_array_equal(later[:2], first[4:])
    np.testing.assert_array_equal(between[:5], later[1:])
    assert not np.isin(far, between).any()
    assert not np.isin(later[2:], first).any()


def test_shared_differs_between_episodes_and_begins_each_anew() -> None:
    noise = make_noise("shared", SHAPE, STEP_NS)
    noise.start_episode(1)
    first = noise.draw(50_000)
    noise.start_episode(2)
    other = noise.draw(90_000)
    noise.start_episode(1)
    np.testing.assert_array_equal(noise.draw(70_000), first)
    assert not np.isin(other, first).any()


def test_every_chunk_of_shared_noise_is_standard_normal() -> None:
    noise = make_noise("shared", (16, 6), STEP_NS)
    noise.start_episode(0)
    drawn = np.array([noise.draw(chunk * 4 * STEP_NS) for chunk in range(2000)])
    np.testing.assert_allclose(drawn.mean(axis=0), 0, atol=0.15)
    np.testing.assert_allclose(drawn.std(axis=0), 1, atol=0.15)
