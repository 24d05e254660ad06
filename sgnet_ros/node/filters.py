"""The part of `message_filters` that the node uses, for machines where it isn't installed.

Import it the way the node does, and the same calls work with either::

    try:
        import message_filters as filters
    except ImportError:
        from sgnet_ros.node import filters
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile


class SimpleFilter:
    """Something that messages come out of."""

    def __init__(self) -> None:
        self.callbacks: dict[int, tuple[Callable[..., Any], tuple[Any, ...]]] = {}

    def registerCallback(self, cb: Callable[..., Any], *args: Any) -> int:
        """Has ``cb(*message, *args)`` called for every output; returns the connection's number."""
        connection = len(self.callbacks)
        self.callbacks[connection] = (cb, args)
        return connection

    def signalMessage(self, *message: Any) -> None:
        """Outputs a message to all callbacks, in the order of their registration."""
        for cb, args in self.callbacks.values():
            cb(*message, *args)


class Subscriber(SimpleFilter):
    """A subscription as a filter; ``sub`` is the subscription itself."""

    def __init__(
        self, node: Node, msg_type: type, topic: str, qos_profile: QoSProfile | int = 10
    ) -> None:
        super().__init__()
        self.sub = node.create_subscription(msg_type, topic, self.signalMessage, qos_profile)
