"""The recipes name topics and arguments that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sgnet_ros.system.camera_presets import CAMERAS
from sgnet_ros.system.names import OUTPUTS

yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra train")
PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")


def test_topics_of_the_node_are_its_outputs() -> None:
    topics = set(re.findall(r"/sgnet/([a-z_]+)", PAGE))
    assert {"labels", "points", "obstacles"} <= topics <= set(OUTPUTS)


def test_hydra_gets_labels_color_depth_and_calibration_of_one_camera() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    *remaps, include = yaml.safe_load(block)["launch"]
    camera = CAMERAS["realsense"]
    assert {each["set_remap"]["from"]: each["set_remap"]["to"] for each in remaps} == {
        "hydra/input/left_cam/semantic/image_raw": "/sgnet/labels",
        "hydra/input/left_cam/rgb/image_raw": camera.rgb,
        "hydra/input/left_cam/rgb/camera_info": camera.camera_info,
        "hydra/input/left_cam/depth_registered/image_rect": camera.depth,
    }
    given = {each["name"]: each["value"] for each in include["include"]["arg"]}
    assert given["labelspace_path"].endswith("label_space/nyu40_label_space.yaml")
    assert given["sensor_frame"] == camera.frame


def test_rtabmap_gets_the_images_of_one_camera() -> None:
    camera = CAMERAS["realsense"]
    for argument, topic in (
        ("rgb_topic", camera.rgb),
        ("depth_topic", camera.depth),
        ("camera_info_topic", camera.camera_info),
    ):
        assert f"{argument}:={topic} " in PAGE
