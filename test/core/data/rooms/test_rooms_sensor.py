"""The depth sensor of procedural rooms: noise, quantization, range, and what it does not see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sgnet_core.data.rooms.sensor import measure_depth

Array = NDArray[np.float64]


def measured(
    depth: float | torch.Tensor, character: int, facing: float = 1.0, dropout: float = 0.0
) -> Array:
    """(60, 80) measured depth under one sensor character."""
    exact = torch.as_tensor(depth, dtype=torch.float32).expand(60, 80).contiguous()
    rng, noise = np.random.default_rng((1, character)), np.random.default_rng((2, character))
    plane, gaps = torch.full_like(exact, facing), torch.full_like(exact, dropout)
    return measure_depth(exact, plane, gaps, 300.0, rng, noise).numpy().astype(np.float64)


def test_depth_noise_grows_with_the_square_of_the_distance() -> None:
    spread = []
    for z in (0.8, 1.6, 3.2):
        errors = [m[m > 0] - z for m in (measured(z, c) for c in range(40))]
        spread.append(np.sqrt(np.mean(np.concatenate(errors) ** 2)))
    assert 3e-4 < spread[0] < 3e-3  # millimeters at arm's length
    assert spread[1] / spread[0] == pytest.approx(4, rel=0.15)
    assert spread[2] / spread[1] == pytest.approx(4, rel=0.15)


def test_depth_is_quantized_in_disparity_by_most_sensors() -> None:
    ramp = torch.linspace(0.8, 3.0, 60 * 80).view(60, 80)
    quantized = 0
    for character in range(60):
        m = measured(ramp, character)
        disparity = np.unique(1 / m[m > 0])
        if len(disparity) > 2000:
            continue
        quantized += 1
        gaps = np.diff(disparity)
        step, span = gaps[gaps > 1e-4].min(), np.ptp(disparity)
        step = span / round(span / step)  # float32 blurs a single gap
        assert 0.0008 * 0.99 < step < 0.0030 * 1.01
        ticks = disparity / step
        assert np.abs(ticks - ticks.round()).max() < 0.1
    assert quantized / 60 == pytest.approx(0.68, abs=0.2)


def test_depth_ends_at_the_range_limits() -> None:
    for character in range(30):
        assert not measured(0.24, character).any()
        assert not measured(12.1, character).any()
    assert np.mean([(measured(2.0, c) > 0).mean() for c in range(30)]) > 0.9


def test_grazing_and_glossy_surfaces_lose_depth() -> None:
    def holes(facing: float, dropout: float) -> float:
        return float(np.mean([(measured(2.0, c, facing, dropout) == 0).mean() for c in range(30)]))

    plain = holes(1.0, 0.0)
    assert holes(0.5, 0.0) == pytest.approx(plain, abs=0.01)
    assert holes(0.03, 0.0) > plain + 0.5
    assert plain + 0.1 < holes(1.0, 0.5) < holes(1.0, 0.9)
