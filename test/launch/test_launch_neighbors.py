"""The launch file in a pushed namespace, included beside another node, as in a robot's bringup."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="no ROS 2 here")
# by its submodules: the checkout's folder launch/ passes for an empty package
pytest.importorskip("launch.actions", reason="launch is not among the ROS 2 wheels")
pytest.importorskip("launch_ros.actions", reason="launch_ros is not among the ROS 2 wheels")

from lifecycle_msgs.srv import GetState

from launches import interrupt, is_active, observed
from waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]

BRINGUP = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import ExecuteProcess, GroupAction, IncludeLaunchDescription, TimerAction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import PushRosNamespace

node = IncludeLaunchDescription(
    PythonLaunchDescriptionSource("launch/sgnet.launch.py"),
    launch_arguments={"camera": "custom", "device": "cpu", "backend": "torch"}.items(),
)
before, after = (
    ExecuteProcess(cmd=[sys.executable, "-c", sys.argv[1], name, sys.argv[2]])
    for name in ("before", "after")
)
service = LaunchService()
service.include_launch_description(LaunchDescription([
    before,
    GroupAction([PushRosNamespace("fleet/robot"), node]),
    TimerAction(period=1.0, actions=[after]),
]))
sys.exit(service.run())
"""

NEIGHBOR = """
import json, os, sys
from pathlib import Path
import rclpy
Path(sys.argv[2], sys.argv[1] + ".json").write_text(json.dumps(dict(os.environ)))
rclpy.init()
rclpy.spin(rclpy.create_node("neighbor_" + sys.argv[1]))
"""


def test_a_pushed_namespace_holds_the_node_and_its_neighbors_keep_what_they_have(
    tmp_path: Path,
) -> None:
    given = {name: value for name, value in os.environ.items() if "PROFILES_FILE" not in name}
    process = subprocess.Popen(
        [sys.executable, "-c", BRINGUP, NEIGHBOR, str(tmp_path)],
        cwd=ROOT,
        env=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with observed(process) as node:
        client = node.create_client(GetState, "/fleet/robot/sgnet/get_state")
        active = False
        names: set[str] = set()
        neighbors = {"neighbor_before", "neighbor_after"}

        def look() -> None:
            nonlocal active, names
            assert process.poll() is None, (active, names)
            names = set(node.get_node_names())
            active = is_active(node, client)

        wait_until(lambda: active and neighbors <= names, look)
        inputs = ("rgb/image_raw", "depth/image_raw", "rgb/camera_info")
        topics = [f"/fleet/robot/{name}" for name in inputs]
        assert {t: node.count_subscribers(t) for t in topics} == dict.fromkeys(topics, 1)
        assert node.count_publishers("/fleet/robot/sgnet/labels") == 1
        output = interrupt(process)
    before, after = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("before", "after"))
    changed = {name for name in before.keys() | after if before.get(name) != after.get(name)}
    assert changed <= {"AMENT_PREFIX_PATH"}, output
