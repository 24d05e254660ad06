"""Implausible depth images are distinguished from plausible ones."""

from __future__ import annotations

import numpy as np
import pytest

from sgnet_ros.node.depth_check import depth_problem

RNG = np.random.default_rng(0)
METERS = RNG.uniform(0.4, 6.0, (120, 160)).astype(np.float32)


def test_depth_in_the_unit_of_its_encoding_is_no_problem() -> None:
    holes = METERS.copy()
    holes[:, :100] = np.nan
    marked = (METERS * 1000).astype(np.uint16)
    marked[:, :100] = 65535
    for depth in (METERS, holes, (METERS * 1000).astype(np.uint16), marked, METERS[:1, :3]):
        assert depth_problem(depth) == ""


def test_millimeters_in_32fc1_are_named_with_their_median() -> None:
    problem = depth_problem(METERS * 1000)
    median = int(problem.split("median is ")[1].split(" m")[0])
    assert abs(median - 3200) < 200
    assert "probably millimeters, but 32FC1 requires meters" in problem


def test_meters_in_16uc1_are_named() -> None:
    problem = depth_problem(METERS.round().astype(np.uint16))
    assert "the median is 3 mm" in problem
    assert "the unit is probably not millimeters" in problem


@pytest.mark.parametrize(
    ("depth", "words"),
    [
        (np.zeros((60, 80), np.uint16), "every pixel is 0 or 65535"),
        (np.full((60, 80), 65535, np.uint16), "every pixel is 0 or 65535"),
        (np.full((60, 80), np.nan, np.float32), "every pixel is 0, NaN or infinite"),
        (np.full((60, 80), np.inf, np.float32), "every pixel is 0, NaN or infinite"),
    ],
)
def test_an_image_without_a_measurement_is_named(depth: np.ndarray, words: str) -> None:
    assert depth_problem(depth).startswith(words)
