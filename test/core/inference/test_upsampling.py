from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sgnet_core.inference import upsampling
from sgnet_core.inference.upsampling import best_by_cell, best_by_rows, best_labels

Best = Callable[..., tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]]


def by_rows(scores: torch.Tensor, size: tuple[int, int], confidence: bool) -> Any:
    labels, sure = best_by_rows(scores, size, confidence)
    return labels.numpy(), None if sure is None else sure.numpy()


BOTH = pytest.mark.parametrize("best", [best_by_cell, by_rows])

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


def plain(scores: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The definition, all classes at every pixel, in float64."""
    return F.interpolate(scores[None].double(), size=size, mode="bilinear", align_corners=True)[0]


@BOTH
def test_two_scores_divide_a_row_in_the_middle(best: Best) -> None:
    scores = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[0.4, 0.4]]])
    labels, sure = best(scores, (2, 7), True)
    assert labels.tolist() == [[0, 0, 0, 0, 1, 1, 1]] * 2  # equal in the middle: the lower id
    # Softmax of (1, 0, .4), (5/6, 1/6, .4), (2/3, 1/3, .4), (.5, .5, .4), and mirrored.
    expected = [
        round(255 * np.exp(a) / (np.exp(a) + np.exp(1 - a) + np.exp(0.4)))
        for a in (1, 5 / 6, 4 / 6, 3 / 6, 4 / 6, 5 / 6, 1)
    ]
    assert sure is not None
    assert sure.tolist() == [expected] * 2


@BOTH
def test_a_third_class_wins_where_two_others_cross(best: Best) -> None:
    """It is never the best at a corner, so leaving it out by the corners alone would be wrong."""
    scores = torch.tensor([[[10.0, 0.0]], [[0.0, 10.0]], [[6.0, 6.0]]])
    labels, _ = best(scores, (1, 11), False)
    assert labels.tolist() == [[0, 0, 0, 0, 0, 2, 1, 1, 1, 1, 1]]


@BOTH
@settings(max_examples=150)
@given(
    size=sizes,
    shape=st.tuples(st.integers(1, 12), st.integers(1, 9), st.integers(1, 9)),
    spread=st.sampled_from([0.0, 0.01, 1.0, 30.0]),
    seed=st.integers(0, 1000),
)
def test_labels_are_the_best_of_all_classes(
    best: Best, size: tuple[int, int], shape: tuple[int, int, int], spread: float, seed: int
) -> None:
    scores = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * spread
    labels, none = best(scores, size, False)
    with_confidence, sure = best(scores, size, True)
    values = plain(scores, size)
    taken = values.gather(0, torch.from_numpy(labels).long()[None])[0]
    assert (values.amax(0) - taken).max() <= 1e-5 * max(spread, 1e-3)
    assert none is None
    assert np.array_equal(labels, with_confidence)
    probability = values.softmax(0).amax(0).numpy() * 255
    assert sure is not None
    assert np.abs(sure - probability).max() <= 0.6  # half a step, and what is left out


@BOTH
def test_equal_scores_give_the_lowest_id(best: Best) -> None:
    scores = torch.full((4, 3, 3), 2.0)
    scores[0] = 1.0
    labels, sure = best(scores, (8, 5), True)
    assert (labels == 1).all()
    assert sure is not None
    assert (sure == round(255 / (3 + np.exp(-1)))).all()


def test_rows_in_parts_are_the_same_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(1))
    at_once = by_rows(scores, (23, 17), True)
    monkeypatch.setattr(upsampling, "VALUES_AT_ONCE", 5 * 17 * 3)
    for whole, parts in zip(at_once, by_rows(scores, (23, 17), True), strict=True):
        assert np.array_equal(whole, parts)


def test_cells_in_parts_are_the_same_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(1))
    at_once = best_by_cell(scores, (23, 17), True)
    monkeypatch.setattr(upsampling, "PIXELS_AT_ONCE", 1)
    for whole, parts in zip(at_once, best_by_cell(scores, (23, 17), True), strict=True):
        assert np.array_equal(whole, parts)


def test_the_scores_are_left_alone() -> None:
    scores = torch.randn(5, 4, 6)
    before = scores.clone()
    best_labels(scores, (9, 9), True)
    assert torch.equal(scores, before)
