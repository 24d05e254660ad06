"""The shipped views for RViz and Foxglove show existing topics."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from sgnet_msgs.msg import FrameStats

from sgnet_ros.system.names import OUTPUTS

yaml = pytest.importorskip("yaml", reason="comes with the extra `train`")

ROOT = Path(__file__).resolve().parents[3]


def nested(value: Any, key: str) -> list[Any]:
    """All values of a key, at any depth."""
    if isinstance(value, dict):
        own = [value[key]] if key in value else []
        return own + [found for inner in value.values() for found in nested(inner, key)]
    if isinstance(value, list):
        return [found for inner in value for found in nested(inner, key)]
    return []


def test_rviz_shows_camera_overlay_labels_and_the_semantic_cloud() -> None:
    content = yaml.safe_load((ROOT / "config/sgnet.rviz").read_text())
    displays = content["Visualization Manager"]["Displays"]
    topics = {d["Topic"]["Value"]: d["Class"].rpartition("/")[2] for d in displays}
    assert topics == {
        "/camera/camera/color/image_raw": "Image",
        "/sgnet/overlay": "Image",
        "/sgnet/labels": "Image",
        "/sgnet/color": "Image",
        "/sgnet/points": "PointCloud2",
    }
    shown = {t.removeprefix("/sgnet/") for t in topics if t.startswith("/sgnet/")}
    assert shown <= set(OUTPUTS)
    assert {d["Topic"]["Reliability Policy"] for d in displays} == {"Best Effort"}


def test_foxglove_shows_what_the_node_publishes_and_the_demos_bag_holds() -> None:
    layout = json.loads((ROOT / "config/foxglove.json").read_text())
    shown = set(nested(layout, "imageTopic")) | set(nested(layout, "topicPath"))
    fields = set()
    for value in nested(layout["configById"], "value"):
        topic, _, field = value.partition(".")
        shown.add(topic)
        fields.add(field)

    source = (ROOT / "sgnet_ros/demo/observer.py").read_text()
    recorded = set(re.findall(r'self\._bag\.add_topic\("([^"]+)"', source))
    assert shown <= recorded
    policy = ElementTree.parse(ROOT / "config/sros2_policy.xml")  # a test compares it with the node
    published = {topic.text for topic in policy.findall(".//topics[@publish='ALLOW']/topic")}
    assert {topic.replace("/sgnet/", "~/") for topic in shown} <= published
    assert fields <= set(FrameStats.get_fields_and_field_types())
    panels = set(re.findall(r'"([A-Z]\w+!\w+)"', json.dumps(layout["layout"])))
    assert panels == set(layout["configById"])
