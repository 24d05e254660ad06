"""Losses between driver and node are recognized by gaps in the stamps, and nothing else is."""

from __future__ import annotations

import random
from typing import Any

import pytest

from robots import Scene, stamped
from sgnet_ros.node.losses import LossWatch

PERIOD = 33_333_333


def watch(stamps: list[int]) -> LossWatch:
    watched = LossWatch()
    for stamp in stamps:
        watched.note(stamp)
    return watched


def jittered(indices: list[int], jitter: float = 0.05) -> list[int]:
    generator = random.Random(5)
    return [round((1000 + i + generator.uniform(-jitter, jitter)) * PERIOD) for i in indices]


@pytest.mark.parametrize("share", [0.15, 0.5, 0.7])
def test_scattered_gaps_are_reported_as_losses_with_their_numbers(share: float) -> None:
    generator = random.Random(3)
    sent = [i for i in range(600) if generator.random() >= share]
    found = watch(jittered(sent)).losses()
    assert found is not None
    assert found.received == 60
    assert found.sent == sent[-1] - sent[-61]
    assert found.rate_hz == pytest.approx(30, rel=0.05)


@pytest.mark.parametrize(
    "stamps",
    [
        jittered(list(range(200))),
        jittered([i for i in range(200) if i % 40]),  # one of 40
        jittered([*range(40), *range(40, 120, 2)]),  # another rate, as in the dark
        jittered([*range(40), *range(400, 440)]),  # a pause
        jittered(list(range(200)), jitter=0.45),  # no steady rate
        jittered(list(range(50))),  # too few
        [0] * 200,  # no stamps
    ],
)
def test_other_gaps_are_not_reported_as_losses(stamps: list[int]) -> None:
    assert watch(stamps).losses() is None


def test_the_node_says_once_which_variable_the_driver_needs(run_node: Any, robot: Any) -> None:
    running = run_node("depth")
    rgb, _ = Scene(480, 640).messages()
    robot.spin_until(lambda: robot.rgb.get_subscription_count() > 0)

    def warnings() -> list[str]:
        return [m.msg for m in robot.log if "did not arrive" in m.msg]

    indices = [i for i in range(100_000) if i % 3]

    def send_some() -> bool:
        for _ in range(3):
            stamp = (10_000 + indices.pop(0)) * PERIOD
            robot.rgb.publish(stamped(rgb, stamp))
            robot.spin_for(0.02)
        return bool(warnings())

    robot.spin_until(send_some)
    (text,) = warnings()
    assert "/rgb/image_raw" in text and "30.0 Hz" in text
    assert "_DEFAULT_PROFILES_FILE=" in text and "config/fastdds" in text
    for _ in range(40):
        send_some()
    robot.spin_for(1.0)
    assert len(warnings()) == 1
    running.stop()
