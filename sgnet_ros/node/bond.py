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
    """One side of a bond; the other is nav2_lifecycle_manager, or nobody.

    As nav2's nodes do, it is on the topic ``bond`` in the node's namespace, with the node's name as
    its id. Heartbeats come from a thread of bondpy. Where nobody answers, they end after 10 s.

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
        """Break the bond in good order; the manager hears it at once."""
        bond, node = self._bond, self._node
        bond.break_bond()
        bond.pub.wait_for_all_acked(Duration(seconds=_FAREWELL_S))  # or its end would be lost
        bond.shutdown()
        bond.heartbeat_timer.cancel()
        bond.disconnect_timer.cancel()
        # bondpy destroys them without telling the node.
        node.destroy_subscription(bond.sub)
        node.destroy_publisher(bond.pub)
        # bondpy declares it when heartbeats stay away, and fails where it is declared already.
        switch = bondpy.Constants.DISABLE_HEARTBEAT_TIMEOUT_PARAM
        if node.has_parameter(switch):
            node.undeclare_parameter(switch)


def offer_bond(node: Node, managed: bool) -> Bond | None:
    """Return a bond of an active node; None where bondpy is not installed.

    Args:
        node: node that has just been activated.
        managed: log what a manager has to be told where there is no bond.
    """
    if bondpy is not None:
        return Bond(node)
    if managed:
        node.get_logger().info(
            "no bond, because bondpy is not installed: nav2_lifecycle_manager needs "
            "bond_timeout: 0.0 for this node, or install ros-$ROS_DISTRO-bondpy"
        )
    return None
