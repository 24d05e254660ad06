"""Scores against scikit-learn, against a count by hand, and at the edges."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgnet_core.evaluation.metrics import NO_DEPTH, ConfusionMatrix, Scores

CLASSES = 6


def maps(seed: int, classes: list[int], unlabeled: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """A truth that holds ``classes`` and 255, a prediction that is right about half the time."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(classes, (24, 31)).astype(np.uint8)
    guess = rng.integers(0, CLASSES, truth.shape).astype(np.uint8)
    predicted = np.where(rng.random(truth.shape) < 0.5, truth, guess)
    truth[rng.random(truth.shape) < unlabeled] = 255
    return truth, predicted


def scored(truth: np.ndarray, predicted: np.ndarray) -> ConfusionMatrix:
    confusion = ConfusionMatrix(CLASSES)
    confusion.update(truth, predicted)
    return confusion


def counted(truth: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """The definitions, pixel by pixel and set by set."""
    pairs = [
        (int(t), int(p)) for t, p in zip(truth.ravel(), predicted.ravel(), strict=True) if t != 255
    ]
    counts = np.zeros((CLASSES, CLASSES), int)
    for t, p in pairs:
        counts[t, p] += 1
    known = truth != 255
    iou, recall = np.full(CLASSES, np.nan), np.full(CLASSES, np.nan)
    for c in range(CLASSES):
        is_true, is_predicted = (truth == c) & known, (predicted == c) & known
        if is_true.any():
            both = (is_true & is_predicted).sum()
            iou[c] = both / (is_true | is_predicted).sum()
            recall[c] = both / is_true.sum()
    return {
        "counts": counts,
        "iou": iou,
        "recall": recall,
        "accuracy": np.array(np.mean([t == p for t, p in pairs])),
    }


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sets(st.integers(0, CLASSES - 1), min_size=1))
def test_scores_are_their_definitions(seed: int, classes: set[int]) -> None:
    truth, predicted = maps(seed, sorted(classes))
    confusion, expected = scored(truth, predicted), counted(truth, predicted)
    np.testing.assert_array_equal(confusion.counts, expected["counts"])
    np.testing.assert_allclose(confusion.class_iou, expected["iou"])
    np.testing.assert_allclose(confusion.class_accuracy, expected["recall"])
    assert confusion.pixel_accuracy == pytest.approx(float(expected["accuracy"]))
    assert confusion.miou == pytest.approx(np.nanmean(expected["iou"]))
    assert confusion.mean_accuracy == pytest.approx(np.nanmean(expected["recall"]))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [list(range(CLASSES)), [0, 2, 5]], ids=["all", "some"])
def test_scores_agree_with_scikit_learn(seed: int, classes: list[int]) -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the reference")
    truth, predicted = maps(seed, classes)
    confusion = scored(truth, predicted)
    known = truth != 255
    t, p = truth[known], predicted[known]
    np.testing.assert_array_equal(
        confusion.counts, sklearn_metrics.confusion_matrix(t, p, labels=range(CLASSES))
    )
    assert confusion.pixel_accuracy == pytest.approx(sklearn_metrics.accuracy_score(t, p))
    iou = sklearn_metrics.jaccard_score(t, p, labels=classes, average=None)
    np.testing.assert_allclose(confusion.class_iou[classes], iou)
    recall = sklearn_metrics.recall_score(t, p, labels=classes, average=None)
    np.testing.assert_allclose(confusion.class_accuracy[classes], recall)
    assert confusion.miou == pytest.approx(
        sklearn_metrics.jaccard_score(t, p, labels=classes, average="macro")
    )
    assert confusion.mean_accuracy == pytest.approx(
        sklearn_metrics.recall_score(t, p, labels=classes, average="macro")
    )


def test_absent_classes_are_absent_not_zero() -> None:
    truth = np.array([[0, 0, 1, 1]], np.uint8)
    predicted = np.array([[0, 2, 1, 1]], np.uint8)
    confusion = scored(truth, predicted)
    # Class 2 is predicted but never true: it counts against class 0, and has no score itself.
    np.testing.assert_array_equal(np.isnan(confusion.class_iou), [0, 0, 1, 1, 1, 1])
    assert confusion.class_iou[:2].tolist() == [0.5, 1.0]
    assert confusion.miou == 0.75


def test_unlabeled_pixels_do_not_count() -> None:
    truth = np.array([[1, 255, 255]], np.uint8)
    assert scored(truth, np.array([[1, 0, 3]], np.uint8)).counts.sum() == 1


def test_updates_add_up() -> None:
    together, apart = ConfusionMatrix(CLASSES), ConfusionMatrix(CLASSES)
    pieces = [maps(seed, list(range(CLASSES))) for seed in range(3)]
    for truth, predicted in pieces:
        apart.update(truth, predicted)
    together.update(*(np.concatenate(stack) for stack in zip(*pieces, strict=True)))
    np.testing.assert_array_equal(apart.counts, together.counts)


def test_without_a_labeled_pixel_there_is_no_score() -> None:
    empty = ConfusionMatrix(CLASSES)
    empty.update(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8))
    assert np.isnan([empty.pixel_accuracy, empty.mean_accuracy, empty.miou]).all()


def test_impossible_ids_and_shapes_are_refused() -> None:
    confusion = ConfusionMatrix(CLASSES)
    good = np.zeros((2, 2), np.uint8)
    with pytest.raises(ValueError, match="outside 0"):
        confusion.update(good + CLASSES, good)
    with pytest.raises(ValueError, match="outside 0"):
        confusion.update(good, good + 255)
    with pytest.raises(ValueError, match="truth is"):
        confusion.update(good, np.zeros((2, 3), np.uint8))
    assert not confusion.counts.any()


METERS = np.array(
    [0, -1, np.nan, np.inf, 1e-4, 0.5, 1.999, 2.0, 3.5, 4.0, 60.0, 2000.0], np.float32
)
BANDS = [NO_DEPTH] * 5 + ["0-2 m"] * 2 + ["2-4 m"] * 2 + ["4+ m"] * 2 + [NO_DEPTH]


@pytest.mark.parametrize("seed", range(3))
def test_distance_bands_agree_with_scikit_learn_on_their_pixels(seed: int) -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the reference")
    truth, predicted = maps(seed, [0, 2, 3, 5])
    chosen = np.random.default_rng(seed).integers(0, len(METERS), truth.shape)
    scores = Scores(CLASSES)
    frame = scores.add(truth, predicted, METERS[chosen])
    for name, confusion in scores.by_distance.items():
        inside = (np.array(BANDS)[chosen] == name) & (truth != 255)
        expected = sklearn_metrics.confusion_matrix(
            truth[inside], predicted[inside], labels=range(CLASSES)
        )
        assert expected.any(), "every band occurs"
        np.testing.assert_array_equal(confusion.counts, expected)
    whole = scored(truth, predicted)
    np.testing.assert_array_equal(scores.total.counts, whole.counts)
    np.testing.assert_array_equal(frame.counts, whole.counts)


def test_depth_of_another_size_is_taken_at_the_nearest_pixel() -> None:
    truth = np.array([[0, 0, 1, 1], [0, 0, 1, 1]], np.uint8)
    scores = Scores(CLASSES)
    scores.add(truth, truth, np.array([[1.0, 3.0]], np.float32))
    near, far = scores.by_distance["0-2 m"], scores.by_distance["2-4 m"]
    assert (near.counts[0, 0], far.counts[1, 1]) == (4, 4)
    assert near.pixels == far.pixels == 4


def test_a_frame_that_is_refused_leaves_the_scores_alone() -> None:
    scores = Scores(CLASSES)
    good, depth = np.zeros((1, 2), np.uint8), np.array([[1.0, 3.0]], np.float32)
    with pytest.raises(ValueError, match="outside 0"):
        scores.add(good, np.array([[0, CLASSES]], np.uint8), depth)
    with pytest.raises(ValueError, match="truth is"):
        scores.add(good, good.T, depth)
    assert (scores.frames, scores.total.pixels) == (0, 0)
    assert all(band.pixels == 0 for band in scores.by_distance.values())


def test_figures_are_strict_json_in_which_what_is_absent_is_null() -> None:
    scores = Scores(CLASSES)
    truth = np.array([[0, 0, 1, 255]], np.uint8)
    scores.add(truth, np.array([[0, 1, 1, 1]], np.uint8), np.ones((1, 4), np.float32))
    figures = json.loads(json.dumps(scores.figures(), allow_nan=False))
    assert figures["per_class_iou"] == [0.5, 0.5, None, None, None, None]
    assert figures["pixel_accuracy"] == pytest.approx(2 / 3)
    assert figures["mean_accuracy"] == 0.75
    assert figures["miou"] == 0.5
    assert figures["confusion"] == scores.total.counts.tolist()
    assert figures["frames"] == 1
    assert list(figures["by_distance"]) == ["0-2 m", "2-4 m", "4+ m", "no depth"]
    assert figures["by_distance"]["0-2 m"]["miou"] == 0.5
    assert figures["by_distance"]["0-2 m"]["pixels"] == 3
    empty = {"pixel_accuracy": None, "mean_accuracy": None, "miou": None, "pixels": 0}
    assert figures["by_distance"]["4+ m"] == empty
