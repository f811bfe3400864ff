"""The rectified flow and the selective alignment, as arithmetic."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sefa_edge.models.align import align, chunk_distance
from sefa_edge.models.flow import euler, flow_loss, interpolate

SHAPE = (5, 16, 6)


def test_path_goes_from_noise_to_chunk() -> None:
    noise, chunk = torch.randn(SHAPE), torch.randn(SHAPE)
    torch.testing.assert_close(interpolate(noise, chunk, torch.zeros(5)), noise)
    torch.testing.assert_close(interpolate(noise, chunk, torch.ones(5)), chunk)


def test_loss_is_zero_for_the_true_velocity_and_counts_every_error() -> None:
    noise, chunk, t = torch.randn(SHAPE), torch.randn(SHAPE), torch.rand(5)
    assert flow_loss(lambda x, t: chunk - noise, noise, chunk, t) == 0
    assert flow_loss(lambda x, t: chunk - noise + 2, noise, chunk, t).item() == pytest.approx(4, rel=1e-4)


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_euler_is_exact_on_straight_paths(steps: int) -> None:
    noise, chunk = torch.randn(SHAPE), torch.randn(SHAPE)
    torch.testing.assert_close(euler(lambda x, t: chunk - noise, noise, steps), chunk)


def test_euler_visits_the_start_of_each_step_and_never_the_end() -> None:
    times: list[float] = []

    def velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        times.append(float(t[0]))
        return torch.zeros_like(x)

    euler(velocity, torch.zeros(SHAPE), 4)
    assert times == [0.0, 0.25, 0.5, 0.75]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), quantile=st.floats(0, 1), count=st.integers(2, 60))
def test_alignment_moves_only_the_nearest_chunks(seed: int, quantile: float, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    demonstrated = torch.randn(count, 16, 6, generator=generator)
    generated = demonstrated + torch.rand(count, 1, 1, generator=generator)
    result = align(generated, demonstrated, quantile)
    torch.testing.assert_close(result.chunk[result.replaced], demonstrated[result.replaced])
    torch.testing.assert_close(result.chunk[~result.replaced], generated[~result.replaced])
    assert abs(result.replaced_fraction - quantile) <= 1 / count + 1e-6
    if result.replaced.any() and not result.replaced.all():
        assert result.distance[result.replaced].max() <= result.distance[~result.replaced].min()


def test_quantile_zero_is_plain_reflow_and_one_is_regression() -> None:
    generated, demonstrated = torch.randn(SHAPE), torch.randn(SHAPE)
    assert not align(generated, demonstrated, 0.0).replaced.any()
    assert align(generated, demonstrated, 1.0).replaced.all()


def test_distance_is_the_root_mean_square_of_a_chunk() -> None:
    generated = torch.zeros(SHAPE)
    torch.testing.assert_close(chunk_distance(generated, generated + 0.3), torch.full((5,), 0.3))
