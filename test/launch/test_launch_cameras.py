"""The launch file with several cameras: one process, a node in each namespace, all active."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="no ROS 2 here")
# by its submodules: the checkout's folder launch/ passes for an empty package
pytest.importorskip("launch.actions", reason="launch is not among the ROS 2 wheels")
pytest.importorskip("launch_ros.actions", reason="launch_ros is not among the ROS 2 wheels")

import rclpy
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState

from waiting import wait_until


def test_every_camera_has_a_node_of_its_own(start_launch: Any) -> None:
    arguments = ("namespace:=robot", "rgb_topic:=color/image_raw")
    process = start_launch("sgnet", "cameras:=[front, rear]", *arguments)
    rclpy.init()
    node = rclpy.create_node("launch_cameras_test")
    try:
        clients = {
            name: node.create_client(GetState, f"/robot/{name}/sgnet/get_state")
            for name in ("front", "rear")
        }
        active: set[str] = set()

        def ask() -> None:
            assert process.poll() is None
            for name, client in clients.items():
                if client.wait_for_service(timeout_sec=1.0):
                    future = client.call_async(GetState.Request())
                    rclpy.spin_until_future_complete(node, future, timeout_sec=60.0)
                    state = future.result()
                    if state and state.current_state.id == State.PRIMARY_STATE_ACTIVE:
                        active.add(name)

        wait_until(lambda: active == set(clients), ask)
        topics = [
            f"/robot/{name}/{topic}"
            for name in clients
            for topic in ("color/image_raw", "depth/image_raw", "rgb/camera_info")
        ]
        assert {t: node.count_subscribers(t) for t in topics} == dict.fromkeys(topics, 1)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate()
    finally:
        node.destroy_node()
        rclpy.shutdown()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode == 0, output
    assert "process has finished cleanly" in output


def test_an_absolute_topic_is_refused(start_launch: Any) -> None:
    process = start_launch("sgnet", "cameras:=front rear", "depth_topic:=/camera/depth/image_raw")
    output, _ = process.communicate()
    assert process.returncode != 0
    assert "depth_topic must be relative" in output
