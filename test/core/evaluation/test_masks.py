"""Masks of a network while it trains and of a segmenter: what they are, and at which size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sgnet_core import Intrinsics, SGNet
from sgnet_core.data.images import read_rgb
from sgnet_core.data.loading import collate
from sgnet_core.data.sample import Sample
from sgnet_core.data.transforms import flip
from sgnet_core.evaluation.metrics import ConfusionMatrix
from sgnet_core.evaluation.predict import (
    at_input_height,
    predict_masks,
    prediction_sheet,
    run_batch,
)
from sgnet_core.evaluation.segmenter_masks import segmenter_masks
from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.ops.resize import resize_maps
from sgnet_core.training.validation import score
from small_segmenter import make

pytestmark = pytest.mark.usefixtures("small_networks")


def frame(seed: int, height: int = 48, width: int = 66, classes: int = 6) -> Sample:
    """Coarse random colors, depth and labels; the principal point is far from the middle."""
    rng = np.random.default_rng(seed)
    blocks = np.ones((8, 8), np.uint8)

    def coarse(values: np.ndarray) -> np.ndarray:
        return np.kron(values, blocks)[:height, :width]

    rgb = np.dstack([coarse(rng.integers(0, 256, (9, 9), np.uint8)) for _ in range(3)])
    depth = coarse(rng.uniform(0.5, 6, (9, 9)).astype(np.float32))
    depth[rng.random(depth.shape) < 0.1] = 0
    labels = coarse(rng.integers(0, classes, (9, 9)).astype(np.uint8))
    labels[:, :3] = 255
    return Sample(
        rgb, depth.astype(np.float32), labels, Intrinsics(50, 52, 20.3, 30.1, width, height)
    )


def masks(model: SGNet, samples: Sequence[Sample], **options: object) -> list[np.ndarray]:
    segmenter = Segmenter(model, "cpu")
    return [mask for _, mask, _ in segmenter_masks(segmenter, samples, **options)]  # type: ignore[arg-type]


def different(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the pixels that differ; rounding moves those where two classes are equal."""
    assert a.shape == b.shape
    return float((a != b).mean())


@pytest.mark.parametrize("height", [None, 40], ids=["own size", "input height"])
def test_masks_while_training_are_those_of_the_segmenter(height: int | None) -> None:
    model = make("points", input_height=height)
    samples = [frame(seed) for seed in range(3)]
    expected = masks(model, samples)
    for (_, mask), other in zip(predict_masks(model, samples, batch=2), expected, strict=True):
        assert len(np.unique(mask)) > 1
        assert different(mask, other) < 0.002


def test_scales_and_flip_change_the_masks() -> None:
    model, samples = make("points"), [frame(0)]
    [plain] = masks(model, samples)
    assert different(plain, masks(model, samples, scales=(0.8, 1.0, 2.0))[0]) > 0.01
    assert different(plain, masks(model, samples, flip=True)[0]) > 0.01


@pytest.mark.parametrize("spatial", ["depth", "points", "hha"])
def test_the_mean_with_the_mirror_image_is_the_same_for_the_mirror_image(spatial: str) -> None:
    """Only where colors, depth and camera are mirrored together are both sets of views one."""
    model, sample = make(spatial), frame(3)
    [straight] = masks(model, [sample], flip=True, scales=(1.0, 1.5))
    [reversed_] = masks(model, [flip(sample)], flip=True, scales=(1.0, 1.5))
    assert different(straight, reversed_[:, ::-1]) < 0.002
    [alone] = masks(model, [sample])
    [other] = masks(model, [flip(sample)])
    assert different(alone, other[:, ::-1]) > 0.01, "without it, the network is not symmetric"


def test_a_batch_at_the_input_height_has_the_camera_of_its_size() -> None:
    sample = frame(5)
    batch = at_input_height(collate([sample]), 20)
    assert batch.rgb.shape[2:] == batch.depth.shape[2:] == (20, 32)
    torch.testing.assert_close(batch.intrinsics, sample.intrinsics.resized(32, 20).parameters())
    assert batch.labels.shape == (1, 48, 66), "scores are taken at the labels' own size"
    assert set(np.unique(batch.depth)) <= set(np.unique(sample.depth)), "no depth was invented"


def test_evaluation_is_at_the_size_of_the_labels() -> None:
    model, sample = make("points"), frame(2)
    wide = replace(sample, labels=sample.labels.repeat(2, axis=0).repeat(2, axis=1))
    small = replace(sample, labels=sample.labels[::2, ::2])
    confusion = ConfusionMatrix(6)
    with torch.inference_mode():
        logits = run_batch(model, collate([sample])).logits
    for one, mask in predict_masks(model, [sample, wide, small]):
        height, width = one.labels.shape
        expected = resize_maps(logits, (height, width)).argmax(dim=1)[0].numpy()
        assert different(mask, expected) < 0.002
        confusion.update(one.labels, mask)
    total = score(model, [sample, wide, small], 8, lambda: False)
    assert total is not None
    np.testing.assert_array_equal(total.counts, confusion.counts)
    assert total.pixels == sum(int((s.labels != 255).sum()) for s in (sample, wide, small))


def test_batches_give_what_single_frames_give() -> None:
    model, samples = make("points", input_height=40), [frame(seed) for seed in range(3)]
    together, apart = ([m for _, m in predict_masks(model, samples, batch=n)] for n in (8, 1))
    assert all(different(a, b) < 0.002 for a, b in zip(together, apart, strict=True))


def test_evaluation_leaves_the_mode_of_the_network() -> None:
    model = make("points").train()
    assert score(model, [frame(0)], 8, lambda: False) is not None
    assert model.training
    assert score(model, [frame(0)] * 3, 1, lambda: True) is None, "broken off"
    assert model.training


def test_the_sheet_shows_prediction_and_truth(tmp_path: Path) -> None:
    model, samples = make("points"), [frame(0), frame(1)]
    prediction_sheet(model, samples, tmp_path / "sheet.png")
    sheet = read_rgb(tmp_path / "sheet.png")
    assert sheet.shape == (96, 4 * 66, 3)
    np.testing.assert_array_equal(sheet[:48, :66], samples[0].rgb)
    # Gray is depth, white what is farther than all but a twentieth of it, whatever the scene.
    far = replace(samples[0], depth=samples[0].depth * 50)
    prediction_sheet(model, [far, samples[1]], tmp_path / "far.png")
    gray = sheet[:48, 66:132]
    np.testing.assert_array_equal(read_rgb(tmp_path / "far.png")[:48, 66:132], gray)
    nearest, farthest = (f(samples[0].depth[samples[0].depth > 0]) for f in (np.min, np.max))
    assert (gray[samples[0].depth == farthest] == 255).all()
    assert 0 < gray[samples[0].depth == nearest].max() < 255 * nearest / farthest * 1.5
