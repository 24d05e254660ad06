"""The SROS 2 policy allows what the node does, and nothing that it doesn't."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from sgnet_ros.environment import share_file

# What not every node has: inputs by parameter, messages and services by distribution
OPTIONAL = {
    "subscribe": {"/clock", "/parameter_events", "/tf_static"}
    | {"/rgb/image_raw/compressed", "/depth/image_raw/compressedDepth"},
    "publish": {"/sgnet/label_info"},
    "reply": {"/sgnet/get_type_description"},
}


@pytest.fixture(scope="module")
def allowed() -> dict[str, set[str]]:
    """Full names by what is allowed: subscribe, publish, reply."""
    root = ElementTree.parse(share_file("config/sros2_policy.xml")).getroot()
    (profile,) = root.iter("profile")
    assert (profile.get("ns"), profile.get("node")) == ("/", "sgnet")
    found: dict[str, set[str]] = {}
    for group in profile:
        ((what, verdict),) = group.attrib.items()
        assert verdict == "ALLOW"
        names = [str(entry.text) for entry in group]
        assert len(names) == len(set(names))
        found[what] = {name.replace("~", "/sgnet") for name in names}
    return found


def test_the_policy_is_what_the_node_needs(run_node: Any, allowed: dict[str, set[str]]) -> None:
    running = run_node("depth")
    for what, ask in (
        ("subscribe", running.node.get_subscriber_names_and_types_by_node),
        ("publish", running.node.get_publisher_names_and_types_by_node),
        ("reply", running.node.get_service_names_and_types_by_node),
    ):
        used = {name for name, _ in ask("sgnet", "/")}
        assert used <= allowed[what], "a node in the enclave could not start"
        assert allowed[what] - used <= OPTIONAL[what]
    del ask
    running.stop()
