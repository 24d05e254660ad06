"""The README names the existing topics and variants."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from sgnet_core.models.sgnet import MODELS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OF_ROS = {"/clock", "/parameter_events", "/rosout", "/tf", "/tf_static", "~/transition_event"}


def policy_topics(direction: str) -> set[str]:
    """Read the topics that the node's security policy allows, which a test compares with the node.

    Args:
        direction: "publish" or "subscribe".
    """
    tree = ElementTree.parse(ROOT / "config" / "sros2_policy.xml")
    found = tree.findall(f".//topics[@{direction}='ALLOW']/topic")
    names = {re.sub("/compressed(Depth)?$", "", topic.text or "") for topic in found}
    return names - OF_ROS


def table_topics(head: str) -> set[str]:
    """Read the first column of the README's table with this head."""
    rows = README.split(f"| {head}", 1)[1].split("\n\n", 1)[0]
    return set(re.findall(r"^\| `([^`]+)`", rows, flags=re.MULTILINE))


def test_the_table_of_inputs_has_the_topics_that_the_node_subscribes_to() -> None:
    assert {f"/{name}" for name in table_topics("subscribes to")} == policy_topics("subscribe")


def test_the_table_of_outputs_has_the_topics_that_the_node_publishes() -> None:
    published = {name.replace("~", "/sgnet") for name in policy_topics("publish")}
    assert table_topics("publishes") == published


def test_the_table_of_models_has_every_variant() -> None:
    rows = README.split("| name | backbone", 1)[1].split("\n\n", 1)[0]
    named = set(re.findall(r"`(sgnet_\w+)`", rows))
    assert named == {name for name in MODELS if name.startswith("sgnet_")}
