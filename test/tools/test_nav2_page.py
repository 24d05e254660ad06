"""The YAML on the page about Nav2 parses, and names classes and topics that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sgnet_core.models.labels import NYU40
from sgnet_ros.node.parameters import PARAMETERS
from sgnet_ros.system.camera_presets import CAMERAS
from sgnet_ros.system.names import OUTPUTS

yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra train")
PAGE = Path(__file__).parents[2] / "docs" / "nav2.md"


def blocks() -> list[Any]:
    text = PAGE.read_text(encoding="utf-8")
    return [
        yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    ]


def entries(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Walk through nested dictionaries."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from entries(inner, name)
    else:
        yield key, value


def test_every_block_configures_a_costmap_whose_plugins_it_describes() -> None:
    costmaps = [block["local_costmap"] for block in blocks() if "local_costmap" in block]
    assert costmaps
    for costmap in costmaps:
        parameters = costmap["local_costmap"]["ros__parameters"]
        for name in parameters["plugins"]:
            if name != "inflation_layer":
                layer = parameters[name]
                assert re.fullmatch(r"\w+(::|/)\w+", layer["plugin"])
                for source in layer["observation_sources"].split():
                    assert isinstance(layer[source], dict)


def test_topics_are_outputs_of_the_node() -> None:
    topics = [v for b in blocks() for k, v in entries(b) if k.endswith("topic")]
    assert topics
    known = {f"/sgnet/{name}" for name in (*OUTPUTS, "label_info")}
    assert set(topics) <= known


def test_classes_are_of_nyu40_and_each_has_one_cost() -> None:
    for block in blocks():
        names = [name for key, value in entries(block) if key == "classes" for name in value]
        assert len(set(names)) == len(names)
        assert set(names) <= set(NYU40.names)


def test_the_launch_file_has_the_topics_of_the_preset() -> None:
    (entry,) = [entry for block in blocks() for entry in block.get("launch", ())]
    node = entry["node"]
    inputs = ("rgb/image_raw", "depth/image_raw", "rgb/camera_info", "depth/camera_info")
    remapped = {remap["from"]: remap["to"] for remap in node["remap"]}
    assert remapped == dict(zip(inputs, CAMERAS["realsense"][:4], strict=True))
    assert all(p["name"] in PARAMETERS for p in node["param"] if "name" in p)
