from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sgnet_core import Intrinsics, SGNet, create_model
from sgnet_core.geometry.hha import hha
from sgnet_core.geometry.holes import fill_holes
from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.models.model_file import save_model
from small_segmenter import DEPTH, NORM, RGB, fixed, frame, make

pytestmark = pytest.mark.usefixtures("small_networks")


def plain_scores(
    model: SGNet, rgb: npt.NDArray[np.uint8], spatial: npt.NDArray[np.float32]
) -> Tensor:
    """(C, H, W): the network and the upsampling, spelled out."""
    image = (rgb.astype(np.float64) - [10, 20, 30]) / [2, 4, 5]
    with torch.inference_mode():
        logits = model(
            torch.from_numpy(image.transpose(2, 0, 1)[None]).float(), torch.from_numpy(spatial)
        ).logits
        size = rgb.shape[:2]
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=True)[0]


def assert_labels(labels: npt.NDArray[np.uint8], scores: Tensor) -> None:
    """The best class everywhere, but where two are equal to 1e-4; and no mask of one class."""
    first, second = scores.topk(2, dim=0).values
    clear = (first - second > 1e-4).numpy()
    assert clear.mean() > 0.99
    assert np.array_equal(labels[clear], scores.argmax(0).numpy()[clear])


@pytest.mark.parametrize("size", [(48, 64), (37, 51), (33, 1), (1, 70)])
def test_labels_are_those_of_network_upsampling_and_argmax(size: tuple[int, int]) -> None:
    model = make()
    rgb, depth = frame(*size)
    prediction = Segmenter(model, "cpu").segment(rgb, depth, confidence=True, scores=True)
    scores = plain_scores(model, rgb, depth[None, None])
    assert prediction.scores is not None
    assert prediction.scores.dtype == np.float32
    np.testing.assert_allclose(prediction.scores, scores.numpy(), atol=1e-4)
    assert np.array_equal(prediction.labels, prediction.scores.argmax(0))
    probability = scores.softmax(0).amax(0).numpy() * 255
    assert prediction.confidence is not None
    assert np.abs(prediction.confidence - probability).max() <= 0.55
    without_scores = Segmenter(model, "cpu").segment(rgb, depth)
    assert_labels(without_scores.labels, scores)
    if min(size) > 1:
        assert len(np.unique(prediction.labels)) > 1
    assert without_scores.scores is None
    assert without_scores.confidence is None
    assert without_scores.overlay is None


def test_one_pixel_is_labeled() -> None:
    model = make()
    rgb, depth = np.array([[[200, 3, 90]]], np.uint8), np.array([[1.5]], np.float32)
    prediction = Segmenter(model, "cpu").segment(rgb, depth)
    best = plain_scores(model, rgb, depth[None, None]).argmax(0)
    assert prediction.labels.tolist() == best.tolist()


def test_golden_mask_confidence_and_overlay() -> None:
    """Two classes whose scores cross in the middle of a 2 x 5 image, from left to right."""
    segmenter = fixed([[[1.0, 0.0]], [[0.0, 1.0]], *[[[-100.0, -100.0]]] * 4])
    rgb = np.full((2, 5, 3), 100, np.uint8)
    prediction = segmenter.segment(
        rgb, np.ones((2, 5), np.float32), confidence=True, scores=True, overlay=0.2
    )
    assert prediction.labels.tolist() == [[0, 0, 0, 1, 1]] * 2
    # 255·σ(1), 255·σ(1/2), 255·σ(0) and mirrored
    assert prediction.confidence is not None
    assert prediction.confidence.tolist() == [[186, 159, 128, 159, 186]] * 2
    assert prediction.scores is not None
    assert prediction.scores.shape == (6, 2, 5)
    np.testing.assert_allclose(prediction.scores[0], [[1, 0.75, 0.5, 0.25, 0]] * 2)
    # 0.8·100 + 0.2·(0, 255, 0) and 0.8·100 + 0.2·(50, 254, 1)
    assert prediction.overlay is not None
    assert prediction.overlay[0].tolist() == [[80, 131, 80]] * 3 + [[90, 131, 80]] * 2
    assert set(prediction.stages_ms) == {"preprocess", "network", "postprocess"}
    assert all(ms > 0 for ms in prediction.stages_ms.values())


CROSSING = [[[1.0, 0.0]], [[0.0, 1.0]], *[[[-100.0, -100.0]]] * 4]
"""Scores of a 2 x 5 image: labels 0 0 0 1 1, confidence 186 159 128 159 186 in every row."""


@pytest.mark.parametrize(
    ("options", "row"),
    [
        ({}, [0, 0, 0, 1, 1]),
        ({"min_confidence": 128 / 255}, [0, 0, 0, 1, 1]),
        ({"min_confidence": 129 / 255}, [0, 0, 255, 1, 1]),
        ({"min_confidence": 0.7}, [0, 255, 255, 255, 1]),
        ({"min_confidence": 1.0}, [255] * 5),
        ({"classes": [1, 5]}, [255, 255, 255, 1, 1]),
        ({"classes": []}, [255] * 5),
        ({"classes": {0}, "min_confidence": 0.6}, [0, 0, 255, 255, 255]),
    ],
)
@pytest.mark.parametrize("scales", [(1.0,), (1.0, 1.0)])
def test_pixels_of_other_classes_or_too_little_confidence_are_unlabeled(
    options: dict[str, Any], row: list[int], scales: tuple[float, ...]
) -> None:
    segmenter = fixed(CROSSING)
    rgb, depth = np.full((2, 5, 3), 100, np.uint8), np.ones((2, 5), np.float32)
    prediction = segmenter.segment(rgb, depth, scales=scales, overlay=0.2, **options)
    assert prediction.labels.dtype == np.uint8
    assert prediction.labels.tolist() == [row] * 2
    assert prediction.confidence is None
    assert prediction.overlay is not None
    colors = {0: [80, 131, 80], 1: [90, 131, 80], 255: [100, 100, 100]}
    assert prediction.overlay[0].tolist() == [colors[label] for label in row]
    with_confidence = segmenter.segment(rgb, depth, scales=scales, confidence=True, **options)
    assert with_confidence.labels.tolist() == [row] * 2
    assert with_confidence.confidence is not None
    assert with_confidence.confidence.tolist() == [[186, 159, 128, 159, 186]] * 2  # as it was


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


def test_large_uint16_depth_keeps_its_sign() -> None:
    depth = np.array([[65_534, 40_000]], np.uint16)
    spatial = Segmenter(make(), "cpu").preprocess(
        np.zeros((1, 2, 3), np.uint8), depth, depth_scale=1e-4
    )[1]
    assert spatial is not None
    np.testing.assert_allclose(spatial.numpy(), [[[[6.5534, 4]]]], rtol=1e-6)


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


def test_labels_of_a_resized_frame_have_the_images_size() -> None:
    model = make(input_height=32)
    rgb, depth = frame(75, 101)
    labels = Segmenter(model, "cpu").segment(rgb, depth).labels
    assert labels.shape == (75, 101)
    small = np.asarray(Image.fromarray(rgb).resize((32, 32), Image.Resampling.BILINEAR))
    row = np.floor((np.arange(32) + 0.5) * 75 / 32).astype(int)
    column = np.floor((np.arange(32) + 0.5) * 101 / 32).astype(int)
    with torch.inference_mode():
        image = (torch.from_numpy(small.astype(np.float32)) - torch.tensor(NORM.mean)) / (
            torch.tensor(NORM.std)
        )
        low = model(
            image.permute(2, 0, 1)[None],
            torch.from_numpy(depth[row[:, None], column][None, None]),
        ).logits
    scores = F.interpolate(low, size=(75, 101), mode="bilinear", align_corners=True)[0]
    first, second = scores.topk(2, dim=0).values
    clear = (first - second > 0.05).numpy()  # Pillow rounds bytes now and then another way
    assert clear.mean() > 0.8
    assert np.array_equal(labels[clear], scores.argmax(0).numpy()[clear])


def test_scores_of_several_scales_are_averaged_at_the_images_size() -> None:
    model = make()
    rgb, depth = frame(40, 50)
    prediction = Segmenter(model, "cpu").segment(rgb, depth, scales=(0.8, 1.0, 2.0), scores=True)
    image = (torch.from_numpy(rgb).double() - torch.tensor(NORM.mean)) / torch.tensor(NORM.std)
    image = image.permute(2, 0, 1)[None].float()
    total = torch.zeros(6, 40, 50)
    for height, width in ((32, 40), (40, 50), (80, 100)):
        size = {"size": (height, width), "mode": "bilinear", "align_corners": True}
        with torch.inference_mode():
            meters = F.interpolate(torch.from_numpy(depth)[None, None], **size)
            low = model(F.interpolate(image, **size), meters).logits
        total += F.interpolate(low, size=(40, 50), mode="bilinear", align_corners=True)[0]
    assert prediction.scores is not None
    np.testing.assert_allclose(prediction.scores, total / 3, atol=1e-4)
    assert np.array_equal(prediction.labels, prediction.scores.argmax(0))
    again = Segmenter(model, "cpu").segment(rgb, depth, scales=(0.8, 1.0, 2.0))
    assert again.scores is None
    assert np.array_equal(again.labels, prediction.labels)


def test_any_memory_layout_gives_the_same_labels() -> None:
    segmenter = Segmenter(make(), "cpu")
    rgb, depth = frame(40, 50)
    expected = segmenter.segment(rgb, depth).labels
    backwards = np.ascontiguousarray(rgb[::-1, :, ::-1])[::-1, :, ::-1]
    padded = np.zeros((40, 64), np.float32)
    padded[:, :50] = depth
    frozen = rgb.copy()
    frozen.setflags(write=False)
    for colors, meters in (
        (backwards, depth),
        (rgb, padded[:, :50]),
        (frozen, depth.astype(">f4")),
        (np.asfortranarray(rgb), depth.astype(np.float64)),
    ):
        assert np.array_equal(segmenter.segment(colors, meters).labels, expected)


def test_the_frame_is_left_alone() -> None:
    rgb, depth = frame(40, 50)
    before = rgb.copy(), depth.copy()
    Segmenter(make(), "cpu").segment(rgb, depth, overlay=1.0)
    assert np.array_equal(rgb, before[0])
    assert np.array_equal(depth, before[1])


def test_a_plain_network_needs_no_intrinsics() -> None:
    rgb, depth = frame(40, 50)
    torch.manual_seed(0)
    segmenter = Segmenter(create_model("plain_lite", num_classes=6), "cpu")
    labels = segmenter.segment(rgb, depth).labels
    assert np.array_equal(segmenter.segment(rgb, np.zeros_like(depth)).labels, labels)


def test_a_model_file_needs_nothing_else(tmp_path: Any) -> None:
    model = make(input_height=32)
    rgb, depth = frame(40, 50)
    save_model(model, tmp_path / "m.safetensors")
    segmenter = Segmenter(tmp_path / "m.safetensors", "cpu")
    segmenter.warm_up(40, 50)
    assert segmenter.info == model.info
    assert segmenter.labels.names == tuple("abcdef")
    expected = Segmenter(model, "cpu").segment(rgb, depth).labels
    assert np.array_equal(segmenter.segment(rgb, depth).labels, expected)


ON_DEVICES = pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
        ),
    ],
)


@ON_DEVICES
def test_unlabeled_pixels_are_those_below_the_threshold_of_this_call(device: str) -> None:
    segmenter = Segmenter(make(), device)
    rgb, depth = frame(40, 56)
    plain = segmenter.segment(rgb, depth, confidence=True).confidence
    assert plain is not None
    for minimum in np.quantile(plain, (0.5, 0.8, 0.6)) / 255:  # a GPU records at the second
        found = segmenter.segment(rgb, depth, confidence=True, min_confidence=minimum)
        assert found.confidence is not None
        doubtful = found.confidence < np.float32(255 * minimum)
        np.testing.assert_array_equal(found.labels == 255, doubtful)
        assert doubtful.any() and not doubtful.all()


@ON_DEVICES
def test_a_segmenter_goes_when_it_is_let_go(device: str) -> None:
    """Without the garbage collector, from which a node takes its heap out."""
    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    segmenter = Segmenter(make(), device)
    segmenter.segment(RGB, DEPTH)
    network = weakref.ref(segmenter.model)
    gc.disable()
    try:
        del segmenter
        assert network() is None
        assert before == (torch.cuda.memory_allocated() if device == "cuda" else 0)
    finally:
        gc.enable()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_gpu_labels_as_the_cpu_does(precision: str) -> None:
    model = make(input_height=48)
    rgb, depth = frame(75, 101)
    expected = Segmenter(model, "cpu").segment(rgb, depth, scores=True)
    found = Segmenter(model, "cuda", precision).segment(rgb, depth, confidence=True)
    assert expected.scores is not None
    first, second = np.sort(expected.scores, axis=0)[[-1, -2]]
    clear = first - second > 0.1
    assert np.array_equal(found.labels[clear], expected.labels[clear])


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


def test_65535_in_integer_depth_is_no_measurement() -> None:
    segmenter = Segmenter(make(), "cpu")
    depth = np.array([[0, 1000, 65535]], np.uint16)
    np.testing.assert_allclose(segmenter.meters(depth).numpy(), [[0, 1, 0]])
    meters = np.array([[65535.0]], np.float32)
    assert segmenter.meters(meters).tolist() == [[65535.0]], "floating-point numbers are meters"


def test_an_input_height_takes_the_place_of_the_models() -> None:
    model = make(input_height=24)
    rgb, depth = frame(40, 56)
    for rows, size in ((None, (24, 32)), (80, (80, 128)), (0, (40, 56))):
        segmenter = Segmenter(model, "cpu", input_height=rows)
        assert tuple(segmenter.resized(rgb, depth)[0].shape[2:]) == size
    assert model.info.input_height == 24, "the caller's network stays as it is"
    with pytest.raises(ValueError, match="input_height is a number of rows or 0, got -1"):
        Segmenter(model, "cpu", input_height=-1)


def test_a_path_in_the_home_folder_is_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save_model(make(), tmp_path / "m.safetensors")
    assert Segmenter("~/m.safetensors", "cpu").info.name == make().info.name
