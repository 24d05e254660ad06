"""A segmenter hands the network a frame in the units, the range and the size of its model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sgnet_core import Intrinsics
from sgnet_core.geometry.hha import hha
from sgnet_core.geometry.holes import fill_holes
from sgnet_core.inference.segmenter import Segmenter
from small_segmenter import NORM, frame, make

pytestmark = pytest.mark.usefixtures("small_networks")


def test_a_frame_is_normalized_in_the_models_channel_order() -> None:
    rgb = np.array([[[12, 24, 40], [10, 20, 30]]], np.uint8)
    depth = np.ones((1, 2), np.float32)
    image, spatial = Segmenter(make(), "cpu").preprocess(rgb, depth)
    assert image[0].tolist() == [[[1, 0]], [[1, 0]], [[2, 0]]]
    assert spatial is not None
    assert spatial.tolist() == [[[[1, 1]]]]
    bgr = replace(NORM, mean=(30.0, 20.0, 10.0), std=(5.0, 4.0, 2.0), order="bgr")
    image, _ = Segmenter(make(normalization=bgr), "cpu").preprocess(rgb, depth)
    assert image[0].tolist() == [[[2, 0]], [[1, 0]], [[1, 0]]]


def test_depth_without_a_measurement_is_zero_whatever_it_was() -> None:
    segmenter = Segmenter(make(), "cpu")
    rgb = np.zeros((1, 6, 3), np.uint8)
    depth = np.array([[1.5, np.nan, np.inf, -np.inf, -2, 0]])
    for dtype in (np.float32, np.float64, ">f4"):
        spatial = segmenter.preprocess(rgb, depth.astype(dtype))[1]
        assert spatial is not None
        assert spatial.tolist() == [[[[1.5, 0, 0, 0, 0, 0]]]]


@pytest.mark.parametrize("dtype", ["uint16", ">u2", "int32", "uint8"])
def test_integer_depth_is_scaled_to_meters(dtype: str) -> None:
    depth = np.array([[0, 1, 250]]).astype(dtype)
    spatial = Segmenter(make(), "cpu").preprocess(np.zeros((1, 3, 3), np.uint8), depth)[1]
    assert spatial is not None
    np.testing.assert_allclose(spatial.numpy(), [[[[0, 0.001, 0.25]]]], rtol=1e-6)


def test_large_uint16_depth_keeps_its_sign() -> None:
    depth = np.array([[65_534, 40_000]], np.uint16)
    spatial = Segmenter(make(), "cpu").preprocess(
        np.zeros((1, 2, 3), np.uint8), depth, depth_scale=1e-4
    )[1]
    assert spatial is not None
    np.testing.assert_allclose(spatial.numpy(), [[[[6.5534, 4]]]], rtol=1e-6)


def test_65535_in_integer_depth_is_no_measurement() -> None:
    segmenter = Segmenter(make(), "cpu")
    depth = np.array([[0, 1000, 65535]], np.uint16)
    np.testing.assert_allclose(segmenter.meters(depth).numpy(), [[0, 1, 0]])
    meters = np.array([[65535.0]], np.float32)
    assert segmenter.meters(meters).tolist() == [[65535.0]], "floating-point numbers are meters"


@pytest.mark.parametrize("missing", [0, -1, np.nan, np.inf, -np.inf, 0.2, 5.1, 3e38])
def test_the_models_range_and_policy_decide_what_depth_is(missing: float) -> None:
    """The network gets the same, whichever way "no measurement" is written."""
    segmenter = Segmenter(make(depth_range=(0.25, 5.0)), "cpu")
    rgb, depth = frame(40, 56)
    depth = np.clip(depth, 0.3, 4.9)
    depth[10:20, 20:40] = missing
    _, spatial = segmenter.preprocess(rgb, depth)
    assert spatial is not None
    there = np.ones(depth.shape, bool)
    there[10:20, 20:40] = False
    np.testing.assert_array_equal(spatial[0, 0].numpy(), np.where(there, depth, 0))
    segmenter = Segmenter(make(depth_range=(0.25, 5.0), holes="nearest"), "cpu")
    _, filled = segmenter.preprocess(rgb, depth)
    assert filled is not None
    np.testing.assert_array_equal(filled[0, 0, 10:20, 20], depth[10:20, 19])
    _, asked = segmenter.preprocess(rgb, depth, holes="none")
    assert asked is not None
    assert torch.equal(asked, spatial)


@pytest.mark.parametrize("policy", ["nearest", "joint_bilateral"])
@pytest.mark.parametrize("input_height", [None, 24])
def test_holes_are_filled_before_the_network_sees_them(
    policy: Any, input_height: int | None
) -> None:
    segmenter = Segmenter(make(input_height=input_height), "cpu")
    rgb, depth = frame(48, 64)
    depth[5:20, 9:33] = np.nan
    image, raw = segmenter.preprocess(rgb, depth)
    same_image, spatial = segmenter.preprocess(rgb, depth, holes=policy)
    assert raw is not None and spatial is not None
    torch.testing.assert_close(same_image, image)
    color = image * torch.tensor([2.0, 4, 5]).view(3, 1, 1) + torch.tensor([10.0, 20, 30]).view(
        3, 1, 1
    )
    filled = fill_holes(raw, policy, color)
    assert (raw == 0).any() and (spatial > 0).all()
    torch.testing.assert_close(spatial, filled, rtol=1e-3, atol=1e-3)
    expected = segmenter.segment(rgb, depth, holes=policy, scores=True).scores
    assert expected is not None
    assert not np.array_equal(expected, segmenter.segment(rgb, depth, scores=True).scores)


def test_a_given_up_reaches_the_network() -> None:
    segmenter = Segmenter(make("hha"), "cpu")
    camera = Intrinsics(50, 50, 28, 20, 56, 40)
    rgb, depth = frame(40, 56)
    meters = torch.from_numpy(depth)[None, None]
    up = (0.1, -0.8, -0.3)
    _, spatial = segmenter.preprocess(rgb, depth, camera, up=up)
    assert spatial is not None
    expected = hha(meters, camera.parameters(), torch.tensor([up]))
    torch.testing.assert_close(spatial, expected)
    assert not torch.equal(spatial, hha(meters, camera.parameters()))


def test_frames_are_resized_to_the_models_height_with_their_intrinsics() -> None:
    segmenter = Segmenter(make("points", input_height=24), "cpu")
    rgb, depth = frame(48, 65)
    depth[:] = np.where(np.arange(65) // 2 % 2, 2.0, 0.0)  # columns of holes, columns of 2 m
    image, spatial = segmenter.preprocess(rgb, depth, Intrinsics(50, 60, 30, 20, 65, 48))
    assert image.shape == (1, 3, 24, 32)  # 32.5 columns, rounded
    smooth = np.asarray(Image.fromarray(rgb).resize((32, 24), Image.Resampling.BILINEAR))
    expected = (smooth.astype(np.float32) - [10, 20, 30]) / [2, 4, 5]
    np.testing.assert_allclose(image[0].permute(1, 2, 0).numpy(), expected, atol=0.51)
    # The nearest column of each, by hand; nothing between a hole and 2 m.
    column = np.floor((np.arange(32) + 0.5) * 65 / 32).astype(int)
    z = np.where(column // 2 % 2, 2.0, 0.0)
    assert 0.3 < (z == 0).mean() < 0.7
    # The camera of the small image: edges stay edges.
    fx, cx = 50 * 32 / 65, (30 + 0.5) * 32 / 65 - 0.5
    fy, cy = 60 / 2, (20 + 0.5) / 2 - 0.5
    u, v = np.arange(32), np.arange(24)[:, None]
    points = np.stack([(u - cx) / fx * z + 0 * v, (v - cy) / fy * z, z + 0 * v])
    assert spatial is not None
    np.testing.assert_allclose(spatial[0].numpy(), points, atol=1e-5)


def test_an_input_height_takes_the_place_of_the_models() -> None:
    model = make(input_height=24)
    rgb, depth = frame(40, 56)
    for rows, size in ((None, (24, 32)), (80, (80, 128)), (0, (40, 56))):
        segmenter = Segmenter(model, "cpu", input_height=rows)
        assert tuple(segmenter.resized(rgb, depth)[0].shape[2:]) == size
    assert model.info.input_height == 24, "the caller's network stays as it is"
    with pytest.raises(ValueError, match="input_height must not be negative, got -1"):
        Segmenter(model, "cpu", input_height=-1)


def test_depth_on_the_device_is_taken_as_it_is() -> None:
    segmenter = Segmenter(make(), "cpu")
    rgb, depth = frame(40, 56)
    meters = segmenter.meters(np.rint(depth * 1000).astype(np.uint16))
    assert meters.dtype == torch.float32
    np.testing.assert_allclose(meters.numpy(), depth, atol=6e-4)
    expected = segmenter.segment(rgb, meters.numpy(), scores=True)
    got = segmenter.segment(rgb, meters, scores=True)
    np.testing.assert_array_equal(got.scores, expected.scores)
    assert segmenter.meters(meters) is meters
    for bad in (meters[None], meters.double(), meters > 0):
        with pytest.raises(ValueError, match="depth must be"):
            segmenter.segment(rgb, bad)
    with pytest.raises(ValueError, match="registered"):
        segmenter.segment(rgb, meters[:-1])
