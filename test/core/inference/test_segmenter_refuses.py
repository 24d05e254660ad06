"""Frames and models that a segmenter refuses, and its reasons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from sgnet_core import Intrinsics
from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.models.model_file import ModelFileError
from small_segmenter import DEPTH, RGB, fixed, frame, make

pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.mark.parametrize("up", [(0, 0, 0), (0, 1), (np.nan, 0, 1), (0, np.inf, 0)])
def test_an_up_that_is_no_direction_is_refused(up: tuple[float, ...]) -> None:
    rgb, depth = frame(40, 56)
    with pytest.raises(ValueError, match="up must be three finite numbers"):
        Segmenter(make(), "cpu").segment(rgb, depth, up=up)


@pytest.mark.parametrize(
    ("rgb", "depth", "words"),
    [
        (RGB, DEPTH[:5], "rgb is 8x6 but depth is 8x5"),
        (RGB, DEPTH.T, "rgb is 8x6 but depth is 6x8"),
        (RGB[..., 0], DEPTH, r"rgb must be .* got \(6, 8\) uint8"),
        (RGB.astype(np.float32), DEPTH, "rgb must be .* float32"),
        (np.zeros((6, 8, 4), np.uint8), DEPTH, r"rgb must be .* \(6, 8, 4\)"),
        (RGB[:0], DEPTH[:0], "rgb must be"),
        (RGB, DEPTH[..., None], "depth must be"),
        (RGB, DEPTH > 0, "depth must be .* bool"),
        (RGB.tolist(), DEPTH, "rgb must be an array, got list: convert it with np.asarray"),
        (None, DEPTH, "rgb must be an array, got NoneType"),
        (Image.fromarray(RGB), DEPTH, "rgb must be an array, got Image"),
        (RGB, None, "depth must be an array, got NoneType"),
    ],
)
def test_what_is_no_frame_is_refused(rgb: Any, depth: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fixed([[[0.0]]] * 6).segment(rgb, depth)


def test_3d_coordinates_need_the_intrinsics_of_this_image() -> None:
    segmenter = Segmenter(make("points"), "cpu")
    with pytest.raises(ValueError, match="needs the camera's intrinsics"):
        segmenter.segment(RGB, DEPTH)
    with pytest.raises(ValueError, match="for 9x6 images, but the frame is 8x6"):
        segmenter.segment(RGB, DEPTH, Intrinsics(5, 5, 4, 3, 9, 6))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"min_confidence": -0.1}, r"min_confidence must be in \[0, 1\], got -0.1"),
        ({"min_confidence": float("nan")}, "min_confidence must be in"),
        ({"classes": [0, 6]}, "classes must be ids from 0 to 5, got 6"),
        ({"classes": [-1]}, "classes must be ids from 0 to 5, got -1"),
    ],
)
def test_limits_that_no_pixel_can_meet_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fixed([[[0.0]]] * 6).segment(RGB, DEPTH, **options)


@pytest.mark.parametrize("scales", [(), (0.0,), (1.0, -1.0), (float("nan"),), (float("inf"),)])
def test_scales_must_be_positive(scales: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="scales must be positive"):
        fixed([[[0.0]]] * 6).segment(RGB, DEPTH, scales=scales)


def test_an_enlarged_strip_does_not_eat_the_memory() -> None:
    segmenter = Segmenter(make(input_height=480), "cpu")
    with pytest.raises(ValueError, match="20000x1 image is too large"):
        segmenter.segment(np.zeros((1, 20_000, 3), np.uint8), np.zeros((1, 20_000), np.float32))


def test_nan_scores_are_an_error_not_a_mask() -> None:
    with pytest.raises(RuntimeError, match="NaN"):
        fixed([[[float("nan")]]] + [[[0.0]]] * 5).segment(RGB, DEPTH)


def test_unknown_devices_precisions_and_files_are_refused(tmp_path: Any) -> None:
    model = make()
    with pytest.raises(ValueError, match="device is auto"):
        Segmenter(model, "abacus")
    with pytest.raises(ValueError, match="no device cuda:99"):
        Segmenter(model, "cuda:99")
    with pytest.raises(ValueError, match="precision must be one of"):
        Segmenter(model, "cpu", "fp8")
    with pytest.raises(ValueError, match="needs a GPU"):
        Segmenter(model, "cpu", "fp16")
    with pytest.raises(ModelFileError, match="none"):
        Segmenter(tmp_path / "none")
