"""An unused DDS domain is found."""

from __future__ import annotations

import rclpy
from rclpy.context import Context

from sgnet_ros.system.domains import free_domain


def test_a_domain_in_use_is_not_chosen() -> None:
    first = free_domain()
    context = Context()
    rclpy.init(context=context, domain_id=first)
    node = rclpy.create_node("occupant", context=context)
    second = free_domain()
    node.destroy_node()
    rclpy.shutdown(context=context)
    assert first != second
    assert {first, second} <= set(range(1, 101))
