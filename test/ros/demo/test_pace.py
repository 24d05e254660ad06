"""Size, rate and expected silences of the demo."""

from __future__ import annotations

import math

import pytest

from sgnet_ros.demo.run import is_expected, pick, rounded


def test_size_and_rate_fit_the_device() -> None:
    large, small = (640, 480), (320, 240)
    assert pick([(large, 10.0)], 3) == (large, 10)
    assert pick([(large, 1.0), (small, 4.0)], 3) == (small, 4)
    assert pick([(large, 0.5), (small, 0.6)], 3) == (large, 0.5)  # little to gain
    assert pick([(large, 0.5), (small, 2.0)], 3) == (small, 2)


@pytest.mark.parametrize("rate, shown", [(29.97, 29.0), (1.619, 1.6), (0.0538, 0.053), (3.0, 3.0)])
def test_rates_are_rounded_down_to_two_digits(rate: float, shown: float) -> None:
    assert rounded(rate) == shown


def test_a_silence_before_the_camera_plays_is_expected() -> None:
    silence = "[WARN] [1700000010.250000000] [sgnet]: no RGB-D pair for 3 s: nothing received"
    assert is_expected(silence, math.inf)  # while the rooms are drawn
    assert is_expected(silence, 1_700_000_009.0)  # it was read after the first frame had come
    assert not is_expected(silence, 1_700_000_001.0)  # the camera plays, and nothing is paired
    assert not is_expected("[ERROR] [1700000010.2] [sgnet]: something else", math.inf)
