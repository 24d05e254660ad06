"""The launch file with several cameras: one process, a node in each namespace, all active."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("rclpy", reason="no ROS 2 here")
# by its submodules: the checkout's folder launch/ passes for an empty package
pytest.importorskip("launch.actions", reason="launch is not among the ROS 2 wheels")
pytest.importorskip("launch_ros.actions", reason="launch_ros is not among the ROS 2 wheels")

from lifecycle_msgs.srv import GetState

from launches import interrupt, is_active, observed
from waiting import wait_until


def test_every_camera_has_a_node_of_its_own(start_launch: Any) -> None:
    arguments = ("namespace:=robot", "rgb_topic:=color/image_raw")
    process = start_launch("sgnet", "cameras:=[front, rear]", *arguments)
    with observed(process) as node:
        clients = {
            name: node.create_client(GetState, f"/robot/{name}/sgnet/get_state")
            for name in ("front", "rear")
        }
        active: set[str] = set()

        def ask() -> None:
            assert process.poll() is None
            active.update(name for name, client in clients.items() if is_active(node, client))

        wait_until(lambda: active == set(clients), ask)
        topics = [
            f"/robot/{name}/{topic}"
            for name in clients
            for topic in ("color/image_raw", "depth/image_raw", "rgb/camera_info")
        ]
        assert {t: node.count_subscribers(t) for t in topics} == dict.fromkeys(topics, 1)
        output = interrupt(process)
    assert process.returncode == 0, output
    assert "process has finished cleanly" in output


def test_an_absolute_topic_is_refused(start_launch: Any) -> None:
    process = start_launch("sgnet", "cameras:=front rear", "depth_topic:=/camera/depth/image_raw")
    output, _ = process.communicate()
    assert process.returncode != 0
    assert "depth_topic must be relative" in output
