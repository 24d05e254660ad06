"""Missing depth: left, filled from the nearest measurement, or guided by color."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgnet_core.data.rooms import Rooms
from sgnet_core.geometry.holes import fill_holes

POLICIES = ("none", "nearest", "joint_bilateral")


def gray(depth: torch.Tensor) -> torch.Tensor:
    return torch.full((len(depth), 3, *depth.shape[2:]), 90, dtype=torch.uint8)


@given(
    st.integers(0, 10_000),
    st.integers(1, 30),
    st.integers(1, 30),
    st.sampled_from([0.02, 0.2, 0.7, 0.97, 1.0]),
)
@settings(max_examples=60)
def test_nearest_is_the_nearest(seed: int, height: int, width: int, holes: float) -> None:
    rng = np.random.default_rng(seed)
    # Every measurement is unlike the others, so that a filled value names its source.
    depth = 1 + rng.permutation(2 * height * width).reshape(2, 1, height, width) / 4096
    missing = rng.random(depth.shape) < holes
    depth[missing] = 0
    filled = fill_holes(torch.from_numpy(depth), "nearest").numpy()
    np.testing.assert_array_equal(filled[~missing], depth[~missing])
    for image, before in zip(filled[:, 0], depth[:, 0], strict=True):
        sources = np.argwhere(before > 0)
        if len(sources) == 0:
            assert (image == 0).all()
            continue
        for v, u in np.argwhere(before == 0):
            found = np.argwhere(before == image[v, u])[0]
            least = ((sources - (v, u)) ** 2).sum(1).min()
            assert ((found - (v, u)) ** 2).sum() == least


def test_bilateral_filling_stops_at_the_edge_in_color() -> None:
    """A dark box at 1 m before a bright wall at 3 m; the hole covers the border of both."""
    depth = torch.full((1, 1, 40, 60), 3.0)
    depth[..., :30] = 1.0
    rgb = torch.full((1, 3, 40, 60), 220, dtype=torch.uint8)
    rgb[..., :30] = 40
    holed = depth.clone()
    holed[..., 8:33, 26:31] = 0  # not in the middle: nearest lets the wall reach into the box
    filled = fill_holes(holed, "joint_bilateral", rgb)
    torch.testing.assert_close(filled, depth)
    nearest = fill_holes(holed, "nearest")
    assert (nearest[..., 12:29, 29] == 3).all()


def test_bilateral_filling_without_color_edges_averages_what_is_around() -> None:
    depth = torch.full((1, 1, 1, 5), 2.0)
    depth[..., 3:] = 4.0
    depth[..., 2] = 0
    filled = fill_holes(depth, "joint_bilateral", gray(depth))
    assert filled[0, 0, 0, 2].item() == pytest.approx(3.0, abs=1e-6)


def test_bilateral_weights_fall_with_the_distance() -> None:
    depth = torch.zeros(1, 1, 1, 4)
    depth[..., 0], depth[..., 2] = 2.0, 4.0  # 1 is missing: 1 pixel from both; 3: 3 and 1 away
    filled = fill_holes(depth, "joint_bilateral", gray(depth))[0, 0, 0]
    assert filled[1].item() == pytest.approx(3.0, abs=1e-6)
    near, far = math.exp(-1 / 8), math.exp(-9 / 8)
    assert filled[3].item() == pytest.approx((4 * near + 2 * far) / (near + far), abs=1e-5)


@pytest.mark.parametrize("policy", POLICIES)
def test_measurements_are_kept_and_empty_images_stay_empty(policy: str) -> None:
    generator = torch.Generator().manual_seed(0)
    depth = torch.rand(3, 1, 33, 47, generator=generator) + 0.5
    missing = torch.rand(depth.shape, generator=generator) < 0.4
    depth[missing] = math.nan
    depth[1] = math.inf  # nothing measured in this one
    filled = fill_holes(depth, policy, gray(depth))
    there = depth.isfinite()
    assert torch.equal(filled[there], depth[there])
    assert (filled[1] == 0).all()
    for i in (0, 2):
        if policy == "none":
            assert torch.equal(filled[i] == 0, missing[i])
        else:
            measured = depth[i][there[i]]
            assert filled[i].min() >= measured.min() - 1e-6
            assert filled[i].max() <= measured.max() + 1e-6


@pytest.mark.parametrize("policy", POLICIES)
def test_a_batch_is_filled_like_its_images(policy: str) -> None:
    generator = torch.Generator().manual_seed(1)
    depth = torch.rand(3, 1, 21, 35, generator=generator) + 0.5
    depth[torch.rand(depth.shape, generator=generator) < 0.6] = 0
    rgb = torch.randint(0, 256, (3, 3, 21, 35), generator=generator, dtype=torch.uint8)
    together = fill_holes(depth, policy, rgb)
    for i in range(3):
        torch.testing.assert_close(
            together[i : i + 1], fill_holes(depth[i : i + 1], policy, rgb[i : i + 1])
        )


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (5, 5)])
def test_any_size_works(policy: str, size: tuple[int, int]) -> None:
    depth = torch.zeros(1, 1, *size)
    assert (fill_holes(depth, policy, gray(depth)) == 0).all()
    depth[..., 0, 0] = 1.5
    filled = fill_holes(depth, policy, gray(depth))
    torch.testing.assert_close(filled, depth if policy == "none" else torch.full_like(depth, 1.5))


@pytest.mark.parametrize("policy", ["nearest", "joint_bilateral"])
def test_gradients_flow_to_the_measurements_alone(policy: str) -> None:
    depth = torch.zeros(1, 1, 9, 11)
    depth[..., 2:4, 3:6] = torch.tensor([1.0, 2.0, 3.0])
    depth.requires_grad_()
    fill_holes(depth, policy, gray(depth)).sum().backward()
    assert depth.grad is not None
    assert (depth.grad[depth == 0] == 0).all()
    # Every filled value is a mean of measurements: the weights of all pixels add up to one each.
    assert depth.grad.sum().item() == pytest.approx(99, rel=1e-5)


@pytest.mark.parametrize("policy", ["nearest", "joint_bilateral"])
def test_rooms_are_filled_with_about_the_true_depth(policy: str) -> None:
    sample = Rooms(seed=4_100, length=2, size=(120, 160))[1]
    assert sample.depth_exact is not None
    depth = torch.from_numpy(sample.depth)[None, None]
    rgb = torch.from_numpy(sample.rgb).permute(2, 0, 1)[None]
    filled = fill_holes(depth, policy, rgb)[0, 0].numpy()
    holes = sample.depth == 0
    assert 0.02 < holes.mean() < 0.9
    relative = np.abs(filled - sample.depth_exact)[holes] / sample.depth_exact[holes]
    assert np.median(relative) < 0.05


def test_an_unknown_policy_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="none, nearest, joint_bilateral; got 'telea'"):
        fill_holes(torch.ones(1, 1, 2, 2), "telea")  # type: ignore[arg-type]


def test_color_is_needed_where_it_guides() -> None:
    with pytest.raises(ValueError, match="color image"):
        fill_holes(torch.ones(1, 1, 2, 2), "joint_bilateral")
    with pytest.raises(ValueError, match=r"got \(1, 3, 4, 4\)"):
        fill_holes(torch.ones(1, 1, 2, 2), "joint_bilateral", torch.ones(1, 3, 4, 4))
