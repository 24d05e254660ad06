"""Registration, lenses, transports and gravity are the node's own in a replay, by its labels.

The truth in each bag is what the model says of the frame as the node should see it; so the mean IoU
is 1 where the node does that, and only there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from bag_messages import MS, Maker, Messages
from sgnet_core.evaluation.metrics import ConfusionMatrix
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.geometry.lens import Camera, Lens
from sgnet_core.geometry.registration import DepthRegistration
from sgnet_core.inference.segmenter import Segmenter

START, COUNT = 1_700_000_000_000_000_000, 3
COLOR = Intrinsics(60.0, 60.0, 31.5, 23.5, 64, 48)
DEPTH = Intrinsics(42.0, 43.0, 27.0, 20.5, 56, 40)
LENSES = (-0.25, 0.06, 0.002, -0.001, 0.0), (0.12, -0.03, 0.0, 0.001, 0.0)
SHIFT, FORWARD, ANGLE = 0.04, 0.0123456, 0.05  # along x and z, about z

Pixels = npt.NDArray[Any]


def pictures(i: int) -> tuple[Pixels, Pixels]:
    """Return color (48, 64, 3) and the depth camera's own image (40, 56) in millimeters."""
    rng = np.random.default_rng(i)
    rgb = np.kron(rng.integers(0, 256, (6, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    depth = np.linspace(700, 2600, 56) + np.linspace(0, 900, 40)[:, None]
    depth += 400 * (np.kron(rng.random((5, 7)), np.ones((8, 8))) > 0.5)
    return rgb, depth.astype(np.uint16)


def info(make: Maker, camera: Intrinsics, stamp: int, frame: str, lens: tuple[float, ...]) -> Any:
    k = (camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0)
    message = make.info(stamp, k, frame)
    message.width, message.height = camera.width, camera.height
    setattr(message, "D" if make.ros == 1 else "d", np.array(lens))
    return message


def registered(depth: Pixels, lenses: tuple[tuple[float, ...], ...] = LENSES) -> Pixels:
    """Return (48, 64) float32 meters as the color camera sees depth in millimeters."""
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(ANGLE), -np.sin(ANGLE)], [np.sin(ANGLE), np.cos(ANGLE)]]
    pose[0, 3], pose[2, 3] = SHIFT, FORWARD
    rgb_lens, depth_lens = (Lens("plumb_bob", lens) for lens in lenses)
    register = DepthRegistration(Camera(DEPTH, depth_lens), Camera(COLOR, rgb_lens), pose)
    return register(torch.from_numpy(depth.astype(np.float32) * np.float32(0.001))).numpy()


@dataclass
class Recorded:
    """A bag whose truth is the model's answer to the right frame, and answers to wrong ones."""

    path: Path
    right: list[Pixels]
    wrong: dict[str, list[Pixels]]


def labels_of(segmenter: Segmenter, depths: list[Pixels], **kwargs: Any) -> list[Pixels]:
    return [
        segmenter.segment(pictures(i)[0], depth, COLOR, **kwargs).labels
        for i, depth in enumerate(depths)
    ]


def truth(make: Maker, masks: list[Pixels]) -> Messages:
    stamps = [START + i * 100 * MS for i in range(COUNT)]
    return [
        ("/truth/labels", stamp, make.image(mask, "mono8", stamp, "color"))
        for stamp, mask in zip(stamps, masks, strict=True)
    ]


def two_cameras(path: Path, segmenter: Segmenter, ros: int, unit_mm: float = 1.0) -> Recorded:
    """Write a bag whose depth is another camera's, with a lens for each.

    ROS 1's has the poses and units of librealsense's recorder, ROS 2's has /tf_static.
    """
    make, messages = Maker(ros), Messages()
    frames = ("0", "0") if ros == 1 else ("color", "/depth")
    place = ("/dev/sensor_1/Color_0", "/dev/sensor_0/Depth_0") if ros == 1 else ("/c", "/d")
    image = "image/data" if ros == 1 else "image"
    calibration = "info/camera_info" if ros == 1 else "camera_info"
    for i in range(COUNT):
        stamp, (rgb, depth) = START + i * 100 * MS, pictures(i)
        later, numbers = stamp + 30 * MS, (depth / unit_mm).astype(np.uint16)
        messages += [
            (f"{place[0]}/{image}", stamp, make.image(rgb, "rgb8", stamp, frames[0])),
            (f"{place[0]}/{calibration}", stamp, info(make, COLOR, stamp, frames[0], LENSES[0])),
            (f"{place[1]}/{image}", later, make.image(numbers, "16UC1", later, frames[1])),
            (f"{place[1]}/{calibration}", later, info(make, DEPTH, later, frames[1], LENSES[1])),
        ]
    still, moved = make.transform(0.0, 0.0), make.transform(SHIFT, ANGLE)
    moved.translation.z = FORWARD
    if ros == 1:
        messages += [(f"{place[0]}/tf/0", 1, moved), (f"{place[1]}/tf/0", 1, still)]
        float32 = make.types["std_msgs/msg/Float32"]
        units = "/dev/sensor_0/option/Depth Units/value"
        messages += [(units, 1, float32(unit_mm / 1000))]
    else:
        edges = [("rig", "depth", moved), ("rig", "color", still)]
        messages += [("/tf_static", 1, make.static_tf(edges))]
    depths = [pictures(i)[1] for i in range(COUNT)]
    right = labels_of(segmenter, [registered(depth) for depth in depths])
    no_lens = [registered(depth, ((0.0,) * 5,) * 2) for depth in depths]
    wrong = {"without lenses": labels_of(segmenter, no_lens)}
    return Recorded(make.write(path, [*messages, *truth(make, right)]), right, wrong)


def compressed(path: Path, segmenter: Segmenter) -> Recorded:
    """Write a bag with JPEG color, and depth in meters as compressed_depth_image_transport has it.

    The topics are rectified, so that P is their camera and the coefficients do not count.
    """
    make, messages = Maker(2), Messages()
    a, b = 120.0, 0.5
    kind = make.types["sensor_msgs/msg/CompressedImage"]
    p = (60.0, 0.0, 31.5, 0.0, 0.0, 60.0, 23.5, 0.0, 0.0, 0.0, 1.0, 0.0)
    right, other_camera = [], []
    for i in range(COUNT):
        stamp, (rgb, depth) = START + i * 100 * MS, pictures(i)
        depth = cv2.resize(depth, (64, 48), interpolation=cv2.INTER_NEAREST)
        _, jpeg = cv2.imencode(".jpg", rgb[:, :, ::-1])
        numbers = np.rint(a / (depth / 1000) + b).astype(np.uint16)
        settings = np.array([0], "<i4").tobytes() + np.array([a, b], "<f4").tobytes()
        png = np.frombuffer(settings + cv2.imencode(".png", numbers)[1].tobytes(), np.uint8)
        calibration = make.info(stamp, (30.0, 0.0, 31.5, 0.0, 30.0, 23.5, 0.0, 0.0, 1.0), p=p)
        calibration.width, calibration.height = 64, 48
        calibration.d = np.array(LENSES[0])
        header, color = make.header(stamp, "cam"), "rgb8; jpeg compressed bgr8"
        inverse = "32FC1; compressedDepth png"
        messages += [
            ("/c/rect/image/compressed", stamp, kind(header, color, jpeg.ravel())),
            ("/c/rect/depth/compressedDepth", stamp, kind(header, inverse, png)),
            ("/c/rect/camera_info", stamp, calibration),
        ]
        sent = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[:, :, ::-1].copy()
        seen = np.float32(a) / (numbers.astype(np.float32) - np.float32(b))
        right.append(segmenter.segment(sent, seen, COLOR).labels)
        by_k = Intrinsics(30.0, 30.0, 31.5, 23.5, 64, 48)
        other_camera.append(segmenter.segment(sent, seen, by_k).labels)
    bag = make.write(path, [*messages, *truth(make, right)])
    return Recorded(bag, right, {"by K": other_camera})


def with_imu(path: Path, segmenter: Segmenter) -> Recorded:
    """Write a bag of a tilted camera with an IMU, 40 messages to a frame."""
    make, messages = Maker(2), Messages()
    up = np.array([0.3, -0.8, -0.5])
    up /= np.linalg.norm(up)
    # the IMU has the camera's axes: turn z of the world to `up` about the axis between them
    axis = np.cross(up, [0, 0, 1])
    half = np.arccos(up[2]) / 2
    turn = (*(np.sin(half) * axis / np.linalg.norm(axis)), np.cos(half))
    types, zero = make.types, make.types["geometry_msgs/msg/Vector3"](0.0, 0.0, 0.0)
    depths = []
    for i in range(COUNT):
        stamp, (rgb, depth) = START + i * 100 * MS, pictures(i)
        depths.append(cv2.resize(depth, (64, 48), interpolation=cv2.INTER_NEAREST))
        messages += [
            ("/cam/color/image", stamp, make.image(rgb, "rgb8", stamp)),
            ("/cam/depth/image", stamp, make.image(depths[-1], "16UC1", stamp)),
            ("/cam/color/camera_info", stamp, info(make, COLOR, stamp, "cam", (0.0,) * 5)),
        ]
        none = np.zeros(9)
        for k in range(-20, 20):
            at = stamp + k * 2 * MS + MS // 2
            # Upright but for the message nearest to the image.
            q = types["geometry_msgs/msg/Quaternion"](*(turn if k == 0 else (0.0, 0.0, 0.0, 1.0)))
            message = types["sensor_msgs/msg/Imu"](
                make.header(at, "imu"), q, none, zero, none, zero, none
            )
            messages += [("/imu/data", at, message)]
    right = labels_of(segmenter, depths, up=tuple(up))
    wrong = {
        "estimated": labels_of(segmenter, depths),
        "another": labels_of(segmenter, depths, up=(0.0, 0.0, 1.0)),
    }
    return Recorded(make.write(path, [*messages, *truth(make, right)]), right, wrong)


def evaluate(bags: list[Recorded], out: Path, *arguments: object) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "sgnet_ros.replay_eval", *(bag.path for bag in bags)]
    command += ["--device", "cpu", "--json", out, *arguments]
    environment = {k: v for k, v in os.environ.items() if k != "ROS_DOMAIN_ID"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(out.read_text())["bags"]
    return found


def check(bag: Recorded, found: dict[str, Any]) -> None:
    for name, masks in bag.wrong.items():
        assert not np.array_equal(masks, bag.right), f"{name} must make a difference"
    assert (found["frames"], found["labeled"], found["compared"]) == (COUNT,) * 3
    assert (found["miou"], found["pixel_accuracy"]) == (1.0, 1.0)


@pytest.mark.slow
def test_registration_lenses_and_transports_are_the_nodes(
    models: dict[str, Path], segmenters: dict[str, Segmenter], tmp_path: Path
) -> None:
    segmenter = segmenters["points"]
    bags = [
        two_cameras(tmp_path / "tf.mcap", segmenter, 2),
        two_cameras(tmp_path / "librealsense.bag", segmenter, 1, unit_mm=0.5),
        compressed(tmp_path / "compressed.db3", segmenter),
    ]
    found = evaluate(bags, tmp_path / "r.json", "--model", models["points"])
    for bag, figures in zip(bags, found, strict=True):
        check(bag, figures)
    changed = "depth, from units of 0.0005 m to millimeters"
    assert [figures["changed"] for figures in found] == ["", changed, ""]

    # A node that is told that there are no lenses is scored as such.
    parameters = tmp_path / "node.yaml"
    parameters.write_text('/**:\n  ros__parameters:\n    rectified: "true"\n')
    arguments = ("--model", models["points"], "--params-file", parameters)
    (figures,) = evaluate(bags[:1], tmp_path / "r.json", *arguments)
    confusion = ConfusionMatrix(13)
    for right, labels in zip(bags[0].right, bags[0].wrong["without lenses"], strict=True):
        confusion.update(right, labels)
    assert figures["miou"] == confusion.miou < 1


@pytest.mark.slow
def test_gravity_comes_from_the_recorded_imu(
    models: dict[str, Path], segmenters: dict[str, Segmenter], tmp_path: Path
) -> None:
    bag = with_imu(tmp_path / "imu.mcap", segmenters["hha"])
    parameters = tmp_path / "node.yaml"
    parameters.write_text(
        "/**:\n  ros__parameters:\n    use_imu: true\n    imu_to_rgb: 0 0 0 0 0 0 1\n"
    )
    arguments = ("--model", models["hha"], "--params-file", parameters)
    check(bag, *evaluate([bag], tmp_path / "r.json", *arguments))
