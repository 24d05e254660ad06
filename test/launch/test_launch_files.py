"""Every launch file: its arguments, its errors, and the processes that it starts."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="no ROS 2 here")
# by its submodules: the checkout's folder launch/ passes for an empty package
pytest.importorskip("launch.actions", reason="launch is not among the ROS 2 wheels")
pytest.importorskip("launch_ros.actions", reason="launch_ros is not among the ROS 2 wheels")

from launch import LaunchContext
from launch.actions import DeclareLaunchArgument

from sgnet_core import Intrinsics, create_model
from sgnet_core.data.datasets.folder import camera_values
from sgnet_core.data.datasets.folder_writer import write_json
from sgnet_core.data.images import write_png
from sgnet_core.models.model_file import save_model
from sgnet_ros.demo.__main__ import parse_arguments as demo_arguments
from sgnet_ros.messages.camera_model import is_rectified
from sgnet_ros.node.parameters import Settings
from sgnet_ros.replay_eval.__main__ import parse_arguments as replay_arguments
from sgnet_ros.system.launching import options

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path.name.removesuffix(".launch.py") for path in ROOT.glob("launch/*.launch.py"))
Start = Callable[..., "subprocess.Popen[str]"]


def load(name: str) -> Any:
    """A launch file as a module."""
    path = ROOT / "launch" / f"{name}.launch.py"
    spec = importlib.util.spec_from_file_location(f"{name}_launch", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def arguments(name: str) -> dict[str, DeclareLaunchArgument]:
    entities = load(name).generate_launch_description().entities
    return {e.name: e for e in entities if isinstance(e, DeclareLaunchArgument)}


def context(name: str, **given: str) -> LaunchContext:
    """Return a context in which the launch file's arguments are declared."""
    made = LaunchContext()
    made.launch_configurations.update(given)
    for argument in arguments(name).values():
        argument.execute(made)
    return made


def test_the_tested_launch_files_are_all() -> None:
    assert FILES == ["demo", "replay_eval", "sgnet"]


@pytest.mark.parametrize("name", FILES)
def test_launching_needs_no_pytorch(name: str) -> None:
    """`ros2 launch` is the distribution's Python, not that of the node."""
    code = (
        "import sys; sys.modules['torch'] = None; from launch.launch_description_sources import *; "
        f"get_launch_description_from_python_launch_file('launch/{name}.launch.py')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", FILES)
def test_every_argument_is_described(name: str) -> None:
    for argument in arguments(name).values():
        assert argument.description != "no description given", argument.name
        assert len(argument.description) > 10, argument.name


@pytest.mark.parametrize(
    "camera, topics",
    {
        "realsense": "/camera/camera/{color,aligned_depth_to_color,color}",
        "orbbec": "/camera/{color,depth,color}",
        "azure_kinect": "/{rgb,depth_to_rgb,rgb}",
        "oak": "/oak/{rgb,stereo,rgb}",
        "custom": "{rgb,depth,rgb}",
    }.items(),
)
def test_presets_set_the_topics_and_single_topics_override_them(camera: str, topics: str) -> None:
    module = load("sgnet")
    base, _, names = topics.rstrip("}").partition("{")
    rgb, depth, info = (f"{base}{name}" for name in names.split(","))
    found = dict(module.remappings(context("sgnet", camera=camera), module.CAMERAS[camera]))
    assert found["rgb/image_raw"] == f"{rgb}/image_raw"
    assert found["depth/image_raw"] == f"{depth}/image_raw"
    assert found["rgb/camera_info"] == f"{info}/camera_info"
    assert found["depth/camera_info"] == f"{depth}/camera_info"
    assert found["rgb/image_raw/compressed"] == f"{rgb}/image_raw/compressed"

    given = context("sgnet", camera=camera, depth_topic="/mine")
    found = dict(module.remappings(given, module.CAMERAS[camera]))
    assert (found["rgb/image_raw"], found["depth/image_raw"]) == (f"{rgb}/image_raw", "/mine")
    assert found["depth/image_raw/compressedDepth"] == "/mine/compressedDepth"


@pytest.mark.parametrize(
    ("camera", "rgb", "depth", "info"),
    [
        (
            "zed",
            "/zed/zed_node/rgb/color/rect/image",
            "/zed/zed_node/depth/depth_registered",
            "/zed/zed_node/rgb/color/rect/camera_info",
        ),
        ("gazebo", "/rgbd_camera/image", "/rgbd_camera/depth_image", "/rgbd_camera/camera_info"),
        ("isaac_sim", "/rgb", "/depth", "/camera_info"),
    ],
)
def test_presets_of_other_names_set_the_topics(
    camera: str, rgb: str, depth: str, info: str
) -> None:
    module = load("sgnet")
    found = dict(module.remappings(context("sgnet", camera=camera), module.CAMERAS[camera]))
    assert found["rgb/image_raw"] == rgb
    assert found["depth/image_raw"] == depth
    assert found["rgb/camera_info"] == info
    assert is_rectified(rgb) == (camera == "zed")


def test_parameters_are_the_nodes_and_are_checked() -> None:
    module = load("sgnet")
    assert {*vars(Settings()), "params_file", "namespace"} <= set(arguments("sgnet"))
    given = {"device": "cuda:1", "slop": "0.05", "model": "my.onnx"}
    assert module.overrides(context("sgnet", **given)) == {**given, "slop": 0.05}
    assert module.overrides(context("sgnet")) == {}
    given = {"outputs": "[labels, overlay]", "backend": "onnx", "overlay_alpha": "1"}
    expected = {"outputs": ["labels", "overlay"], "backend": "onnx", "overlay_alpha": 1.0}
    assert module.overrides(context("sgnet", **given)) == expected
    for text in ("labels map", "[]"):
        with pytest.raises(ValueError, match=r"outputs is one or more of labels, .*, not"):
            module.overrides(context("sgnet", outputs=text))
    with pytest.raises(ValueError, match="slop is a number, not 'soon'"):
        module.overrides(context("sgnet", slop="soon"))
    with pytest.raises(ValueError, match="device is auto, cpu, cuda or cuda:N, not 'gpu'"):
        module.overrides(context("sgnet", device="gpu"))


def test_launch_files_pass_options_that_the_commands_have(tmp_path: Path) -> None:
    replay = load("replay_eval")
    given = dict.fromkeys(replay.OPTIONS, "0.5")
    words = options(context("replay_eval", bag="x", **given), ["rate", "jobs", *replay.OPTIONS])
    parsed = vars(replay_arguments([str(tmp_path), *words]))
    assert {name: str(parsed[name]) for name in replay.OPTIONS} == given
    assert (parsed["rate"], parsed["jobs"]) == ("lossless", 1)

    demo = load("demo")
    given = {name: "320x240" if name == "size" else "2.0" for name in demo.OPTIONS}
    words = options(context("demo", **given), ["source", "out", "device", *demo.OPTIONS])
    parsed = vars(demo_arguments(words))
    assert {**{n: str(parsed[n]) for n in demo.OPTIONS}, "size": "320x240"} == given
    assert parsed["size"] == (320, 240)
    assert (parsed["source"], str(parsed["out"])) == ("rooms", "out/demo")


def test_a_wrong_choice_is_refused_with_the_allowed_ones(start_launch: Start) -> None:
    process = start_launch("sgnet", "camera:=webcam")
    output, _ = process.communicate()
    assert process.returncode == 1
    assert "webcam" in output and "azure_kinect" in output


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few labeled frames; half of the truth is class 0, the rest unlabeled."""
    folder = tmp_path_factory.mktemp("frames")
    for i in range(3):
        rng = np.random.default_rng(i)
        images = {
            "rgb": rng.integers(0, 256, (48, 64, 3), np.uint8),
            "depth": rng.integers(500, 5000, (48, 64), np.uint16),
            "labels": np.repeat([[0, 255]], 48, 0).repeat(32, 1).astype(np.uint8),
        }
        for kind, image in images.items():
            (folder / kind).mkdir(exist_ok=True)
            write_png(folder / kind / f"{i}.png", image)
    camera = Intrinsics(60, 60, 31.5, 23.5, 64, 48)
    write_json(folder / "camera.json", camera_values(camera, 0.001))
    save_model(create_model("sgnet_lite", num_classes=5), folder / "model.safetensors")
    return folder


def test_replay_eval_ends_the_launch_and_a_missed_threshold_fails_it(
    frames: Path, start_launch: Start
) -> None:
    from sgnet_ros.bag_write import main as bag_write

    bag = frames.with_name(f"{frames.name}.mcap")
    assert bag_write([str(frames), str(bag)]) == 0
    out = frames.with_name(f"{frames.name}.json")
    process = start_launch(
        "replay_eval",
        *(f"bag:={bag}", f"model:={frames / 'model.safetensors'}", "device:=cpu"),
        *(f"json:={out}", "min_miou:=1.1"),
    )
    output, _ = process.communicate()
    assert process.returncode == 1, output
    assert "below --min-miou 1.1" in output
    assert "sgnet_ros.replay_eval ended with status 3" in output
    total = json.loads(out.read_text())["total"]
    assert (total["frames"], total["labeled"], total["dropped"]) == (3, 3, {})
    assert total["miou"] is not None


def test_demo_ends_the_launch_with_its_results(
    frames: Path, tmp_path: Path, start_launch: Start
) -> None:
    process = start_launch(
        "demo",
        *(f"source:={frames}", f"out:={tmp_path / 'out'}", "device:=cpu", "rate:=2"),
        f"model:={frames / 'model.safetensors'}",
    )
    output, _ = process.communicate()
    assert process.returncode == 0, output
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["pairs_sent"] == 3
    assert (tmp_path / "out" / "bag" / "metadata.yaml").is_file()


def test_rviz_shows_the_launched_node_and_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("sgnet")
    *_, shown = module.start_node(context("sgnet", rviz="true"))
    assert (shown.node_package, shown.node_executable) == ("rviz2", "rviz2")

    monkeypatch.setattr(module, "rviz", lambda *arguments: arguments)
    cases: dict[tuple[str, str], tuple[str, str, str | None]] = {
        ("oak", ""): ("/sgnet", "/oak/rgb/image_raw", "oak_rgb_camera_optical_frame"),
        ("custom", "/robot/"): ("/robot/sgnet", "/robot/rgb/image_raw", None),
        ("azure_kinect", "robot"): ("/robot/sgnet", "/rgb/image_raw", "rgb_camera_link"),
    }
    for (camera, namespace), expected in cases.items():
        given = context("sgnet", rviz="true", camera=camera, namespace=namespace)
        assert module.start_node(given)[-1] == expected


def test_the_launch_leaves_its_neighbors_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("sgnet")
    for variable in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        monkeypatch.setenv(variable, "")
    for profile, changes, for_the_node in (
        ("node", False, {}),
        ("none", False, {"SGNET_DDS_PROFILE": "none"}),
        ("launch", True, {}),
    ):
        before = dict(os.environ)
        given = context("sgnet", dds_profile=profile)
        module.start_node(given)
        changed = {name for name in os.environ if os.environ[name] != before.get(name)}
        assert changed - {"AMENT_PREFIX_PATH"} == (
            {"FASTRTPS_DEFAULT_PROFILES_FILE"} if changes else set()
        )
        assert module.environment(given) == for_the_node


def test_simulated_time_and_the_imu_are_arguments() -> None:
    module = load("sgnet")
    given = context("sgnet", use_sim_time="true", use_imu="true", queue_size="5", rectified="true")
    expected = {"use_sim_time": True, "use_imu": True, "queue_size": 5, "rectified": "true"}
    assert module.overrides(given) == expected
    names = dict(module.remappings(context("sgnet", imu_topic="/imu/data"), module.CAMERAS["oak"]))
    assert names["imu"] == "/imu/data"


def test_other_launch_files_may_pass_true_and_false_as_python_writes_them() -> None:
    """A value that is refused would end the launch of the whole robot."""
    module = load("sgnet")
    given = context("sgnet", use_sim_time="True", use_imu="True", always_run="False", rviz="False")
    expected = {"use_sim_time": True, "use_imu": True, "always_run": False}
    assert module.overrides(given) == expected
    assert len(module.start_node(context("sgnet", autostart="False", rviz="False"))) == 1
    assert len(module.start_node(context("sgnet", autostart="True", rviz="True"))) == 4
    assert load("demo").is_true(context("demo", rviz="True"), "rviz")


def test_rviz_follows_a_pushed_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("sgnet")
    monkeypatch.setattr(module, "rviz", lambda *arguments: arguments)
    for cameras, expected in (
        ("", ("/fleet/robot/sgnet", "/fleet/robot/rgb/image_raw", None)),
        ("front rear", ("/fleet/robot/front/sgnet", "/fleet/robot/front/rgb/image_raw")),
    ):
        given = context("sgnet", rviz="true", camera="custom", namespace="robot", cameras=cameras)
        given.launch_configurations["ros_namespace"] = "/fleet"
        assert module.start_node(given)[-1] == expected
