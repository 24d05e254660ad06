"""One node for all tests of a module, and its counters as a test finds them."""

from __future__ import annotations

from typing import Any

import pytest
from sgnet_msgs.msg import FrameStats

from robots import Scene, say_each_once
from sgnet_ros.node.lifecycle import SGNetNode


@pytest.fixture(scope="module")
def shared_node(run_node: Any, shared_robot: Any) -> SGNetNode:
    """One node for all tests of this module."""
    node = run_node("depth").node
    shared_robot.send_until(lambda: shared_robot.stats, Scene().messages())
    return node


class Before:
    """The counters of the shared node as a test finds them."""

    def __init__(self, stats: FrameStats) -> None:
        self._stats = stats

    def since(self, stats: FrameStats, counter: str) -> int:
        return getattr(stats, counter) - getattr(self._stats, counter)

    def drops(self, stats: FrameStats) -> dict[str, int]:
        old = dict(zip(self._stats.drop_causes, self._stats.drops, strict=True))
        new = dict(zip(stats.drop_causes, stats.drops, strict=True))
        return {cause: n - old.get(cause, 0) for cause, n in new.items() if n > old.get(cause, 0)}


@pytest.fixture
def before(shared_node: SGNetNode, robot: Any, scene: Any) -> Before:
    """Return counts of the shared node, which warns of each thing once in this test."""
    say_each_once(shared_node)
    before = Before(robot.segment(*scene.messages())[1])
    robot.forget()
    return before
