"""Depth as a simulated sensor measures it."""

from __future__ import annotations

import numpy as np

from sgnet_core.data.depth_sensor import Sensed, dithered, sense
from sgnet_core.data.sample import Sample
from sgnet_core.data.transforms import Augmentation
from sgnet_core.geometry.intrinsics import Intrinsics

STEP = 0.04


def stepped_wall() -> Sample:
    """A slanted wall at 2 to 3 m, in steps of 4 cm, with a column without depth."""
    depth = np.tile(np.linspace(2, 3, 96, dtype=np.float32), (72, 1))
    depth = np.round(depth / STEP).astype(np.float32) * np.float32(STEP)
    depth[:, 10] = 0
    labels = np.zeros((72, 96), np.uint8)
    return Sample(
        np.zeros((72, 96, 3), np.uint8), depth, labels, Intrinsics(90, 90, 47.5, 35.5, 96, 72)
    )


def test_dither_stays_within_half_a_step_and_fills_it() -> None:
    depth = stepped_wall().depth
    spread = dithered(depth, STEP, np.random.default_rng(0))
    offset = (spread - depth)[depth > 0]
    assert np.abs(offset).max() <= STEP / 2 + 1e-6
    assert abs(offset.mean()) < STEP / 10
    assert len(np.unique(spread)) > 50 * len(np.unique(depth))
    assert (spread[:, 10] == 0).all()


def test_a_sensor_adds_holes_and_noise_that_grow_with_distance_and_fills_none() -> None:
    sample = stepped_wall()
    errors, holes = [], []
    for seed in range(40):
        measured = sense(sample, np.random.default_rng(seed))
        assert (measured[:, 10] == 0).all()
        there = measured > 0
        holes.append(1 - there[:, 11:].mean())
        if there[:, 11:].mean() > 0.5:
            errors.append(np.median(np.abs(measured - sample.depth)[there]))
    assert 0.02 < np.mean(holes) < 0.5
    assert min(holes) < 0.02 and max(holes) > 0.3
    assert 0.0005 < np.median(errors) < 0.05


def test_depth_with_known_truth_is_not_measured_twice() -> None:
    sample = stepped_wall()
    rooms = Sample(**{**vars(sample), "depth_exact": sample.depth})
    always = Augmentation(depth_sensor=1, depth_step=STEP)
    size = sample.labels.shape
    assert (always(rooms, size, np.random.default_rng(0)).depth == sample.depth).all()
    assert (always(sample, size, np.random.default_rng(0)).depth != sample.depth).any()


def test_a_sensed_data_set_gives_the_same_depth_at_every_reading() -> None:
    sample = stepped_wall()
    sensed = Sensed([sample] * 3, STEP)
    assert len(sensed) == 3
    first, second = sensed[0].depth, sensed[1].depth
    assert (sensed[0].depth == first).all() and (first != second).any()
    assert (first != sample.depth).any() and (first[:, 10] == 0).all()
    assert (sensed[0].labels == sample.labels).all()
