"""Bond to nav2's lifecycle manager: heartbeats from activation to deactivation."""

from __future__ import annotations

import importlib
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node

try:
    bondpy: Any = importlib.import_module("bondpy.bondpy")
except ImportError:
    bondpy = None

_PERIOD_S = 0.1  # as nav2's own nodes
_FAREWELL_S = 0.5  # longest wait for the message that the node is inactive


class Bond:
    """The node's side of a bond with nav2_lifecycle_manager.

    As in nav2's nodes, the topic is ``bond`` in the node's namespace, and the bond's id is the
    node's name. A thread of bondpy sends the heartbeats. Without an answer, they end after 10 s.

    Args:
        node: node that is active as long as the bond is kept.

    Raises:
        RuntimeError: bondpy is not installed.
    """

    def __init__(self, node: Node) -> None:
        if bondpy is None:
            raise RuntimeError("bondpy is not installed")
        self._node = node
        self._bond = bondpy.Bond(node, "bond", node.get_name())
        self._bond.set_heartbeat_period(_PERIOD_S)
        self._bond.start()

    def close(self) -> None:
        """Break the bond and inform the manager at once."""
        bond, node = self._bond, self._node
        bond.break_bond()
        bond.pub.wait_for_all_acked(Duration(seconds=_FAREWELL_S))  # or its end would be lost
        bond.shutdown()
        bond.heartbeat_timer.cancel()
        bond.disconnect_timer.cancel()
        # bondpy destroys them without telling the node.
        node.destroy_subscription(bond.sub)
        node.destroy_publisher(bond.pub)
        # bondpy declares this parameter when heartbeats are missing, and fails if it is declared
        # already.
        switch = bondpy.Constants.DISABLE_HEARTBEAT_TIMEOUT_PARAM
        if node.has_parameter(switch):
            node.undeclare_parameter(switch)


def offer_bond(node: Node, managed: bool) -> Bond | None:
    """Return a bond of an active node; None if bondpy is not installed.

    Args:
        node: node that has just been activated.
        managed: without bondpy, log how to configure the lifecycle manager.
    """
    if bondpy is not None:
        return Bond(node)
    if managed:
        node.get_logger().info(
            "no bond, because bondpy is not installed: set bond_timeout: 0.0 in "
            "nav2_lifecycle_manager, or install ros-$ROS_DISTRO-bondpy"
        )
    return None
