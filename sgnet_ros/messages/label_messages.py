"""Label sets as messages: sgnet_msgs/ClassMap and vision_msgs/LabelInfo.

The module `sgnet_ros.messages.class_map` reads a ClassMap without ROS.
"""

from __future__ import annotations

import importlib
from typing import Any

from sgnet_msgs.msg import ClassMap
from std_msgs.msg import ColorRGBA

from sgnet_core.models.info import ModelInfo
from sgnet_core.models.labels import IGNORE_ID


def class_map(info: ModelInfo, stamp: object) -> ClassMap:
    """Return a model's label set as a message; its colors are in 0..1."""
    labels = info.labels
    message = ClassMap(
        model=info.name,
        label_set=labels.name,
        ids=list(labels.ids),
        names=list(labels.names),
        colors=[ColorRGBA(r=r / 255, g=g / 255, b=b / 255, a=1.0) for r, g, b in labels.colors],
        ignore_id=IGNORE_ID,
    )
    message.header.stamp = stamp
    return message


def label_info(info: ModelInfo, stamp: object) -> Any:
    """Return a model's label set as vision_msgs/LabelInfo, which must be installed.

    The id of unlabeled pixels is not in it: by that message's convention, it is the highest id of
    the image's type.
    """
    vision = vision_msgs()
    message = vision.LabelInfo(
        class_map=[
            vision.VisionClass(class_id=number, class_name=name)
            for number, name in zip(info.labels.ids, info.labels.names, strict=True)
        ]
    )
    message.header.stamp = stamp
    return message


def vision_msgs() -> Any:
    """Return the module ``vision_msgs.msg``, or None if it is not installed."""
    try:
        return importlib.import_module("vision_msgs.msg")
    except ImportError:
        return None
