"""The launch file brings the node to active and leaves nothing behind.

Needs launch and launch_ros, which a ROS 2 distribution has and the wheels have not.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="no ROS 2 here")
# by its submodules: the checkout's folder launch/ passes for an empty package
pytest.importorskip("launch.actions", reason="launch is not among the ROS 2 wheels")
pytest.importorskip("launch_ros.actions", reason="launch_ros is not among the ROS 2 wheels")
pytest.importorskip("launch_testing.launch_test", reason="launch_testing is not here")

import rclpy
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor

from launches import ended, interrupt

ROOT = Path(__file__).resolve().parents[2]


def processes_of_session(session: int) -> list[str]:
    """Command lines of the processes that are still there from a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except (OSError, ValueError):  # it has ended meanwhile
            continue
    return found


def state_of(node_name: str, timeout_s: float) -> int:
    """Ask a lifecycle node for its state once it is there."""
    context = Context()
    rclpy.init(context=context)
    executor = SingleThreadedExecutor(context=context)
    node = rclpy.create_node("launch_test_observer", context=context)
    executor.add_node(node)
    try:
        client = node.create_client(GetState, f"{node_name}/get_state")
        assert client.wait_for_service(timeout_sec=timeout_s), f"{node_name} is not there"
        future = client.call_async(GetState.Request())
        executor.spin_until_future_complete(future, timeout_sec=timeout_s)
        return future.result().current_state.id
    finally:
        node.destroy_node()
        executor.shutdown()
        rclpy.shutdown(context=context)


def test_launch_file_brings_the_node_to_active_and_labels_are_right() -> None:
    file = Path(__file__).with_name("launch_test_sgnet.py")
    process = subprocess.Popen(
        [sys.executable, "-m", "launch_testing.launch_test", str(file)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    output, _ = process.communicate()

    assert process.returncode == 0, output
    assert "process has finished cleanly" in output
    assert processes_of_session(process.pid) == []


def test_ctrl_c_ends_a_node_that_waits_for_its_lifecycle_manager(
    start_launch: Callable[..., subprocess.Popen[str]],
) -> None:
    process = start_launch("sgnet", "autostart:=false")
    with ended(process):
        state = state_of("sgnet", timeout_s=300.0)
        output = interrupt(process)

    assert state == State.PRIMARY_STATE_UNCONFIGURED
    assert "process has finished cleanly" in output
    assert process.returncode == 0, output
    assert processes_of_session(process.pid) == []
