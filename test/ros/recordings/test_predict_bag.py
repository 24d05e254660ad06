"""`sgnet_core.predict` on recordings, where there is no ROS."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from sgnet_core import Intrinsics, create_model
from sgnet_core.data.images import read_labels
from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.models.info import ModelInfo
from sgnet_core.models.labels import LabelSet, bit_palette
from sgnet_core.models.model_file import save_model
from sgnet_core.predict import main

STORE = get_typestore(Stores.ROS2_JAZZY)
WIDTH, HEIGHT = 48, 36
CAMERA = Intrinsics(40, 41, 20.5, 18.5, WIDTH, HEIGHT)
RNG = np.random.default_rng(3)
RGB = RNG.integers(0, 256, (3, HEIGHT, WIDTH, 3), np.uint8)
DEPTH = RNG.integers(500, 5000, (3, HEIGHT, WIDTH)).astype(np.uint16)
NO_ROS = """
import sys
for name in ("rclpy", "sensor_msgs", "std_msgs", "builtin_interfaces", "sgnet_msgs"):
    sys.modules[name] = None  # importing it fails, as where it is not installed
from sgnet_core.predict import main
sys.exit(main(sys.argv[1:]))
"""


def message(kind: str, index: int, **fields: Any) -> Any:
    types = STORE.types
    stamp = types["builtin_interfaces/msg/Time"](index + 1, 0)
    header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="camera")
    return types[f"sensor_msgs/msg/{kind}"](header=header, height=HEIGHT, width=WIDTH, **fields)


def image(array: np.ndarray, encoding: str, index: int) -> Any:
    data = np.frombuffer(array.tobytes(), np.uint8)
    step = array.strides[0]
    return message("Image", index, encoding=encoding, is_bigendian=0, step=step, data=data)


def write_bag(
    path: Path,
    truncated: int | None = None,
    info: bool = True,
    lag_s: int = 0,
    depth_type: str = "16UC1",
) -> Path:
    """Write three frames, the color image of one of them cut off, depth stamped later."""
    k = CAMERA.matrix().ravel()
    roi = STORE.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    matrices = {"d": np.zeros(5), "k": k, "r": np.eye(3).ravel(), "p": np.zeros(12)}
    binning = {"binning_x": 0, "binning_y": 0, "roi": roi}
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topics = {
            topic: writer.add_connection(
                f"/camera/{topic}", f"sensor_msgs/msg/{kind}", typestore=STORE
            )
            for topic, kind in (
                ("color/image_raw", "Image"),
                ("color/camera_info", "CameraInfo"),
                ("aligned_depth_to_color/image_raw", "Image"),
            )
        }
        for index in range(3):
            color = image(RGB[index], "rgb8", index)
            if index == truncated:
                color.data = color.data[:100]
            camera = message(
                "CameraInfo", index, distortion_model="plumb_bob", **matrices, **binning
            )
            numbers = DEPTH[index].astype(np.float32 if depth_type == "32FC1" else np.uint16)
            depth = image(numbers, depth_type, index + lag_s)
            for connection, content in zip(topics.values(), (color, camera, depth), strict=True):
                if content is camera and not info:
                    continue
                data = STORE.serialize_cdr(content, connection.msgtype)
                writer.write(connection, (index + 1) * 10**9, data)
    return path


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = create_model("sgnet_lite", num_classes=4, spatial="points")
    model.info = ModelInfo("tiny", LabelSet("four", tuple("abcd"), bit_palette(4)))
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    save_model(model, path)
    return path


def test_a_recording_is_labeled_without_ros(tmp_path: Path, model_file: Path) -> None:
    bag = write_bag(tmp_path / "walk")
    options = ["--model", model_file, "--device", "cpu", "--ply", "--out", tmp_path / "out"]
    command = [sys.executable, "-c", NO_ROS, str(bag), *map(str, options)]
    subprocess.run(command, check=True)
    segmenter = Segmenter(model_file, "cpu")
    for index in range(3):
        written = read_labels(tmp_path / "out" / "labels" / f"walk_{index:06d}.png")
        expected = segmenter.segment(RGB[index], DEPTH[index], CAMERA).labels
        assert len(np.unique(expected)) > 1
        assert np.array_equal(written, expected)
        cloud = (tmp_path / "out" / "points" / f"walk_{index:06d}.ply").read_bytes()
        assert f"element vertex {WIDTH * HEIGHT}\n".encode() in cloud


def test_only_the_damaged_frame_is_left_out(
    tmp_path: Path, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / "walk", truncated=1)
    options = ["--model", str(model_file), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main([str(bag), *options]) == 1
    names = sorted(path.name for path in (tmp_path / "out" / "labels").iterdir())
    assert names == ["walk_000000.png", "walk_000002.png"]
    topic = "/camera/color/image_raw"
    error = capsys.readouterr().err
    assert f"left out: {bag}: {topic} at 2000000000 is damaged: data: truncated" in error


def test_a_model_without_geometry_needs_no_camera_info(tmp_path: Path, model_file: Path) -> None:
    bag = write_bag(tmp_path / "walk", info=False)
    torch.manual_seed(0)
    model = create_model("sgnet_lite", num_classes=4, spatial="depth")
    depth_model = tmp_path / "depth.safetensors"
    save_model(model, depth_model)
    options = [str(bag), "--device", "cpu", "--out", str(tmp_path / "out"), "--model"]
    assert main([*options, str(depth_model)]) == 0
    with pytest.raises(SystemExit) as stopped:
        main([*options, str(model_file)])
    assert stopped.value.code == 2
    intrinsics = [str(f) for f in (CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy)]
    assert main([*options, str(model_file), "--intrinsics", *intrinsics]) == 0
    expected = Segmenter(model_file, "cpu").segment(RGB[1], DEPTH[1], CAMERA).labels
    assert np.array_equal(read_labels(tmp_path / "out" / "labels" / "walk_000001.png"), expected)


def test_without_a_pair_the_status_is_2_and_says_why(
    tmp_path: Path, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / "walk", lag_s=100)
    with pytest.raises(SystemExit) as stopped:
        main([str(bag), "--model", str(model_file), "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "none of 3 color images on /camera/color/image_raw has one of 3 depth images" in error
    assert "98.000 s apart, and the first depth image is 100.000 s after" in error


def test_float_millimeters_are_named_with_topic_median_and_unit(
    tmp_path: Path, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / "walk", depth_type="32FC1")
    options = [str(bag), "--model", str(model_file), "--device", "cpu", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as stopped:
        main(options)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    topic = "/camera/aligned_depth_to_color/image_raw"
    assert f"images on {topic} have a median of {np.median(DEPTH[0]):.0f} m" in error
    assert "likely in millimeters: give predict or bag_export --depth-scale 0.001" in error
    assert main([*options, "--depth-scale", "0.001"]) == 0
    expected = Segmenter(model_file, "cpu").segment(RGB[1], DEPTH[1], CAMERA).labels
    assert np.array_equal(read_labels(tmp_path / "labels" / "walk_000001.png"), expected)
