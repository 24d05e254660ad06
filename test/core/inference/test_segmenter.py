from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sgnet_core import SGNet, create_model
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
            image.permute(2, 0, 1)[None], torch.from_numpy(depth[row[:, None], column][None, None])
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
    Segmenter(make(), device).segment(RGB, DEPTH)  # what the libraries need once stays
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
    clear = first - second > 0.5  # the CPU resizes bytes, and scores of up to 92 are rounded
    assert clear.mean() > 0.95
    assert np.array_equal(found.labels[clear], expected.labels[clear])


def test_a_path_in_the_home_folder_is_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save_model(make(), tmp_path / "m.safetensors")
    assert Segmenter("~/m.safetensors", "cpu").info.name == make().info.name
