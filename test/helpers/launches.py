"""Processes that `ros2 launch` starts, and a node that looks at theirs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator

import rclpy
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.client import Client
from rclpy.node import Node


def interrupt(process: subprocess.Popen[str]) -> str:
    """Send a Ctrl-C to the launch and its processes, as the terminal does; return the output."""
    os.killpg(process.pid, signal.SIGINT)
    return process.communicate()[0]


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """Kill the launch and its processes at the end unless it has ended."""
    try:
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def observed(process: subprocess.Popen[str]) -> Iterator[Node]:
    """Yield a node beside those of the launch; all end together."""
    with ended(process):
        rclpy.init()
        node = rclpy.create_node("launch_test_observer")
        try:
            yield node
        finally:
            node.destroy_node()
            rclpy.shutdown()


def is_active(node: Node, client: Client) -> bool:
    """Ask a lifecycle node whether it is active; False if it does not answer."""
    if not client.wait_for_service(timeout_sec=1.0):
        return False
    future = client.call_async(GetState.Request())
    rclpy.spin_until_future_complete(node, future, timeout_sec=60.0)
    answer = future.result()
    return bool(answer) and answer.current_state.id == State.PRIMARY_STATE_ACTIVE
