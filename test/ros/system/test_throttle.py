from __future__ import annotations

from clocks import Clock
from sgnet_ros.system.throttle import Throttle


def test_a_throttle_lets_one_of_each_kind_pass_per_interval() -> None:
    clock = Clock(0.0)
    throttle = Throttle(5.0, clock)
    passed = []
    for clock.now in (0.0, 1.0, 4.9, 5.0, 9.9, 10.0):
        passed.append((throttle.passes("a"), throttle.passes("b")))
    assert passed == [
        (True, True),
        (False, False),
        (False, False),
        (True, True),
        (False, False),
        (True, True),
    ]
