"""sgnet_msgs/ClassMap as a label set."""

from __future__ import annotations

from typing import Any

from sgnet_core.models.labels import LabelSet


def label_set_of(message: Any) -> LabelSet:
    """Return the label set that a ClassMap message describes."""
    colors = tuple((round(c.r * 255), round(c.g * 255), round(c.b * 255)) for c in message.colors)
    return LabelSet(message.label_set, tuple(message.names), colors)
