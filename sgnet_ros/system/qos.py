"""Quality of service of the topics that this package publishes or listens to."""

from __future__ import annotations

from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy


def latched(depth: int = 1) -> QoSProfile:
    """Return reliable, transient local: late subscribers get the last ``depth`` messages."""
    return QoSProfile(
        depth=depth,
        reliability=QoSReliabilityPolicy.RELIABLE,
        durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
    )


def best_effort(depth: int = 10) -> QoSProfile:
    """Return best effort, volatile: as a subscription it matches every publisher."""
    return QoSProfile(depth=depth, reliability=QoSReliabilityPolicy.BEST_EFFORT)
