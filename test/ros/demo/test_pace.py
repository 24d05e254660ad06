"""Size and rate of the demo."""

from __future__ import annotations

import pytest

from sgnet_ros.demo.run import pick, rounded


def test_size_and_rate_fit_the_device() -> None:
    large, small = (640, 480), (320, 240)
    assert pick([(large, 10.0)], 3) == (large, 10)
    assert pick([(large, 1.0), (small, 4.0)], 3) == (small, 4)
    assert pick([(large, 0.5), (small, 0.6)], 3) == (large, 0.5)  # little to gain
    assert pick([(large, 0.5), (small, 2.0)], 3) == (small, 2)


@pytest.mark.parametrize("rate, shown", [(29.97, 29.0), (1.619, 1.6), (0.0538, 0.053), (3.0, 3.0)])
def test_rates_are_rounded_down_to_two_digits(rate: float, shown: float) -> None:
    assert rounded(rate) == shown
