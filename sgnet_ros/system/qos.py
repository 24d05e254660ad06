"""Quality of service of the topics that this package publishes or subscribes to."""

from __future__ import annotations

from rclpy.qos import (
    QoSDurabilityPolicy,
    QoSPolicyKind,
    QoSProfile,
    QoSReliabilityPolicy,
)
from rclpy.qos_overriding_options import QoSOverridingOptions


def latched(depth: int = 1) -> QoSProfile:
    """Return a reliable, transient-local profile: late subscribers get the last messages."""
    return QoSProfile(
        depth=depth,
        reliability=QoSReliabilityPolicy.RELIABLE,
        durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
    )


def best_effort(depth: int = 10) -> QoSProfile:
    """Return a best-effort, volatile profile: a subscription matches every publisher."""
    return QoSProfile(depth=depth, reliability=QoSReliabilityPolicy.BEST_EFFORT)


def reliable(depth: int) -> QoSProfile:
    """Return a reliable, volatile profile: a publisher matches every volatile subscriber."""
    return QoSProfile(depth=depth, reliability=QoSReliabilityPolicy.RELIABLE)


def overridable() -> QoSOverridingOptions:
    """Return options that let the parameters ``qos_overrides.TOPIC...`` change a topic's QoS."""
    return QoSOverridingOptions(
        policy_kinds=(
            QoSPolicyKind.HISTORY,
            QoSPolicyKind.DEPTH,
            QoSPolicyKind.RELIABILITY,
            QoSPolicyKind.DURABILITY,
        )
    )
