from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgnet_ros.node.cadence import Cadence


def ticking(period_s: float, count: int = 6) -> tuple[Cadence, float]:
    """A cadence after some events, and when the last of them was."""
    cadence = Cadence()
    for i in range(count):
        cadence.tick(100 + i * period_s)
    return cadence, 100 + (count - 1) * period_s


@pytest.mark.parametrize(
    ("passed_s", "wait_s"),
    [
        (0.0, 0.0),
        (0.05, 0.0),
        (0.074, 0.0),
        (0.08, 0.0325),
        (0.1, 0.0125),
        (0.11, 0.0025),
        (0.2, 0),
    ],
)
def test_only_a_frame_due_within_a_quarter_of_the_period_is_waited_for(
    passed_s: float, wait_s: float
) -> None:
    cadence, last_s = ticking(0.1)
    assert cadence.wait_s(last_s, last_s + passed_s) == pytest.approx(wait_s)


@pytest.mark.parametrize("events", [0, 1])
def test_without_a_known_period_there_is_no_wait(events: int) -> None:
    cadence = Cadence()
    for _ in range(events):
        cadence.tick(5.0)
    assert cadence.wait_s(5.0, 5.0) == cadence.wait_s(5.0, 5.1) == 0


@given(st.floats(0.001, 10), st.floats(0, 30))
def test_the_wait_never_exceeds_three_eighths_of_the_period(period: float, passed: float) -> None:
    cadence, last_s = ticking(period)
    assert 0 <= cadence.wait_s(last_s, last_s + passed) <= 0.376 * period


def test_a_pause_of_the_camera_does_not_change_the_period() -> None:
    cadence, last_s = ticking(0.1)
    resumed_s = last_s + 60
    cadence.tick(resumed_s)
    assert cadence.wait_s(resumed_s, resumed_s + 0.09) == pytest.approx(0.0225)
