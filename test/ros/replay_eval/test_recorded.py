"""Messages of a bag for the node: the recorded ones, of both ROS versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu

from bag_messages import HEIGHT, MS, ROS2, WIDTH, K, Maker, Messages, colors, depths
from sgnet_ros.messages.headers import stamp_ns
from sgnet_ros.messages.transforms import parse_pose
from sgnet_ros.recordings.bag_source import BagSource
from sgnet_ros.replay_eval import recorded
from sgnet_ros.replay_eval.recorded import DEPTH, DEPTH_INFO, IMU, RGB, RGB_INFO, TF, Recording

START, STEP, SKEW = 10**12, 100 * MS, 4 * MS
P = (9.0, 0.0, 5.0, 0.0, 0.0, 9.5, 4.0, 0.0, 0.0, 0.0, 1.0, 0.0)
D_K = (8.0, 0.0, 5.0, 0.0, 8.0, 4.0, 0.0, 0.0, 1.0)
TYPES = {RGB: Image, DEPTH: Image, RGB_INFO: CameraInfo, DEPTH_INFO: CameraInfo, IMU: Imu}
OTHERS = (RGB_INFO, DEPTH_INFO, IMU, TF)


def imu(make: Maker, stamp: int, angle: float) -> Any:
    types = make.types
    q = types["geometry_msgs/msg/Quaternion"](0.0, 0.0, np.sin(angle / 2), np.cos(angle / 2))
    zero = types["geometry_msgs/msg/Vector3"](0.0, 0.0, 9.75)
    none = np.zeros(9)
    return types["sensor_msgs/msg/Imu"](
        make.header(stamp, "imu_link"), q, none, zero, none, zero, none
    )


def unregistered(make: Maker, frames: int = 3, suffix: str = "image_raw") -> Messages:
    """A bgr8 camera with padded rows, a depth camera with another lens, and an IMU."""
    messages: Messages = []
    lens = np.array([-0.1, 0.02, 0.001, -0.001, 0.0])
    for i in range(frames):
        stamp = START + i * STEP
        color = make.image(np.pad(colors(i), ((0, 0), (0, 2), (0, 0))), "bgr8", stamp, "/c_optical")
        color.width = WIDTH
        info = make.info(stamp, K, "/c_optical", p=P)
        depth_info = make.info(stamp + SKEW, D_K, "d_optical")
        setattr(depth_info, "D" if make.ros == 1 else "d", lens)
        messages += [
            (f"/cam/color/{suffix}", stamp + 30 * MS, color),
            ("/cam/color/camera_info", stamp + 31 * MS, info),
            ("/cam/depth/image", stamp + 35 * MS,
             make.image(depths(i), "16UC1", stamp + SKEW, "d_optical")),
            ("/cam/depth/camera_info", stamp + 36 * MS, depth_info),
            ("/imu/data", stamp + 2 * MS, imu(make, stamp + 2 * MS, 0.1 * i)),
            ("/imu/raw", stamp + 2 * MS, imu(make, stamp + 2 * MS, np.nan)),
        ]  # fmt: skip
    return messages


def pose_of(angle: float, x: float) -> np.ndarray:
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    pose[0, 3] = x
    return pose


def write(path: Path, make: Maker, messages: Messages) -> Path:
    """Write a bag with a static pose of depth in color; ROS 1's has it in librealsense's form."""
    if make.ros == 2:
        edges = [("c_optical", "d_optical", make.transform(0.1, 0.2))]
        return make.write(path, [*messages, ("/tf_static", 1, make.static_tf(edges))])
    return make.write(
        path,
        [
            *messages,
            ("/cam/depth/tf/0", 1, make.transform(0.0, 0.0)),
            ("/cam/color/tf/0", 1, make.transform(0.1, 0.2)),
        ],
    )


def same(sent: Any, message: Any) -> None:
    """Compare a message of ROS 2 with a recorded one of either version, field by field."""
    for field in sent.get_fields_and_field_types():
        value = getattr(sent, field)
        expected = getattr(message, field) if hasattr(message, field) else None
        if expected is None:
            expected = getattr(message, field.upper())
        if field == "header":
            assert (value.frame_id, stamp_ns(value)) == (expected.frame_id, stamp_ns(expected))
        elif hasattr(value, "get_fields_and_field_types"):
            same(value, expected)
        elif isinstance(value, str | int | float):
            assert value == expected, field
        else:
            np.testing.assert_array_equal(np.asarray(value), np.asarray(expected), field)


def test_every_message_is_sent_as_it_was_recorded(tmp_path: Path) -> None:
    for ros, name in ((1, "a.bag"), (2, "a.mcap")):
        make = Maker(ros)
        messages = unregistered(make)
        recording = Recording(BagSource(write(tmp_path / name, make, messages)))
        assert recording.changed == ""
        kinds = {
            "/cam/color/image_raw": RGB,
            "/cam/color/camera_info": RGB_INFO,
            "/cam/depth/image": DEPTH,
            "/cam/depth/camera_info": DEPTH_INFO,
            "/imu/data": IMU,
        }
        expected = sorted((m for m in messages if m[0] in kinds), key=lambda m: m[1])
        items = list(recording.items(OTHERS))
        assert [(i.kind, i.time_ns) for i in items] == [(kinds[t], at) for t, at, _ in expected]
        for item, (_, _, message) in zip(items, expected, strict=True):
            assert item.data is not None
            same(deserialize_message(item.data, TYPES[item.kind]), message)
        images = list(recording.items(()))
        assert [i.kind for i in images] == [RGB, DEPTH] * 3
        assert recording.topics == {kind: topic for topic, kind in kinds.items()}
        assert [item.kind for item in recording.opening] == [DEPTH_INFO, RGB_INFO, IMU]


def test_frames_have_the_stamp_of_color_and_follow_their_other_messages(tmp_path: Path) -> None:
    make = Maker(2)
    messages = unregistered(make, 5)
    path = write(tmp_path / "a.mcap", make, messages)
    frames = list(Recording(BagSource(path)).frames((RGB_INFO, IMU)))
    known: list[tuple[str, int]] = []
    for i, frame in enumerate(frames):
        stamp = START + i * STEP
        assert frame.readable
        assert (frame.rgb.stamp_ns, frame.depth.stamp_ns) == (stamp, stamp)
        assert frame.rgb.data is not None and frame.depth.data is not None
        depth = deserialize_message(frame.depth.data, Image)
        assert (stamp_ns(depth.header), depth.header.frame_id) == (stamp, "d_optical")
        np.testing.assert_array_equal(np.frombuffer(depth.data, np.uint16), depths(i).ravel())
        again = frame.rgb.at(stamp + 1)
        assert again.data is not None
        assert stamp_ns(deserialize_message(again.data, Image).header) == stamp + 1
        known += [(item.kind, item.stamp_ns) for item in frame.others]
        assert {(RGB_INFO, stamp), (IMU, stamp + 2 * MS)} <= set(known)
        assert len(known) == len(set(known))


def test_the_node_gets_topics_transports_and_pose(tmp_path: Path, monkeypatch: Any) -> None:
    make = Maker(1)
    path = write(tmp_path / "a.bag", make, unregistered(make, suffix="image_rect"))
    arguments = Recording(BagSource(path)).node_arguments
    pairs = set(zip(arguments[::2], arguments[1::2], strict=True))
    pose = next(value for _, value in pairs if value.startswith("depth_to_rgb"))
    assert pairs - {("-p", pose)} == {
        ("-r", "rgb/image_raw:=/cam/color/image_rect"),
        ("-r", "depth/image_raw:=/cam/depth/image"),
        ("-r", "rgb/camera_info:=/cam/color/camera_info"),
        ("-r", "depth/camera_info:=/cam/depth/camera_info"),
        ("-r", "imu:=/imu/data"),
        ("-p", "rgb_transport:=raw"),
        ("-p", "depth_transport:=raw"),
    }
    np.testing.assert_allclose(
        parse_pose(pose.partition(":=")[2]), pose_of(0.2, 0.1), rtol=0, atol=1e-14
    )

    make = Maker(2)
    path = write(tmp_path / "b.mcap", make, unregistered(make))
    monkeypatch.setattr(recorded, "TFMessage", None)  # /tf_static can't be sent
    recording = Recording(BagSource(path))
    assert recording.static_transforms is None
    np.testing.assert_allclose(
        parse_pose(recording.node_arguments[-1].partition(":=")[2]), pose_of(0.2, 0.1), atol=1e-14
    )
    monkeypatch.setattr(recorded, "TFMessage", object)
    recording = Recording(BagSource(path))
    assert "depth_to_rgb" not in " ".join(recording.node_arguments)
    assert recording.static_transforms is not None
    sent = ROS2.deserialize_cdr(recording.static_transforms, "tf2_msgs/msg/TFMessage")
    (stamped,) = sent.transforms  # type: ignore[attr-defined]
    assert (stamped.header.frame_id, stamped.child_frame_id) == ("c_optical", "d_optical")
    assert stamped.transform.translation.x == 0.1


def test_moving_transforms_are_sent_if_the_node_subscribes(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(recorded, "TFMessage", object)
    make = Maker(2)
    moving = make.static_tf([("base", "imu_link", make.transform(0.3, 0.1))])
    messages = [*unregistered(make), ("/robot/tf", START + STEP, moving)]
    recording = Recording(BagSource(write(tmp_path / "a.mcap", make, messages)))
    assert recording.topics[TF] == "/tf"
    assert "/tf" not in " ".join(recording.node_arguments)
    (item,) = [item for item in recording.items((TF,)) if item.kind not in (RGB, DEPTH)]
    assert (item.kind, item.time_ns, item.stamp_ns) == (TF, START + STEP, START + STEP)
    assert item.data is not None
    sent = ROS2.deserialize_cdr(item.data, "tf2_msgs/msg/TFMessage")
    assert sent == moving
    others = [item.kind for frame in recording.frames((TF,)) for item in frame.others]
    assert others == [TF]
    assert all(item.kind in (RGB, DEPTH) for item in recording.items(()))


def compressed(make: Maker, stamp: int, form: str, data: bytes) -> Any:
    pixels = np.frombuffer(data, np.uint8)
    return make.types["sensor_msgs/msg/CompressedImage"](make.header(stamp, "cam"), form, pixels)


def encoded(pixels: np.ndarray, codec: str) -> bytes:
    import cv2

    return bytes(cv2.imencode(f".{codec}", pixels)[1])


def test_compressed_images_stay_compressed(tmp_path: Path) -> None:
    make = Maker(1)
    color = compressed(make, START, "rgb8; jpeg compressed bgr8", encoded(colors(0), "jpg"))
    depth = compressed(
        make, START, "16UC1; compressedDepth png", bytes(12) + encoded(depths(0), "png")
    )
    messages: Messages = [
        ("/cam/rgb/image_color/compressed", START, color),
        ("/cam/depth/image_raw/compressedDepth", START, depth),
    ]
    recording = Recording(BagSource(make.write(tmp_path / "a.bag", messages)))
    assert recording.topics == {RGB: "/cam/rgb/image_color", DEPTH: "/cam/depth/image_raw"}
    assert recording.transports == {RGB: "compressed", DEPTH: "compressedDepth"}
    (frame,) = recording.frames(())
    for item, message in ((frame.rgb, color), (frame.depth, depth)):
        assert item.data is not None
        same(deserialize_message(item.data, CompressedImage), message)


def test_depth_in_another_unit_is_sent_in_millimeters_and_reported(tmp_path: Path) -> None:
    make = Maker(1)
    place = "/device_0/sensor_0/Depth_0/image/data"
    color = "/device_0/sensor_1/Color_0/image/data"
    depth = make.image(depths(0), "16UC1", START, "0")
    units = "/device_0/sensor_0/option/Depth Units/value"
    for unit, changed in (
        (0.0004, "depth, from units of 0.0004 m to millimeters"),
        (np.float32(0.001), ""),  # as librealsense writes millimeters
    ):
        messages: Messages = [
            (color, START, make.image(colors(0), "rgb8", START, "0")),
            (place, START, depth),
            (units, 1, make.types["std_msgs/msg/Float32"](float(unit))),
        ]
        path = tmp_path / f"{unit}.bag"
        recording = Recording(BagSource(make.write(path, messages)))
        assert recording.changed == changed
        (frame,) = recording.frames(())
        assert frame.depth.data is not None
        sent = deserialize_message(frame.depth.data, Image)
        assert (sent.encoding, sent.header.frame_id) == ("16UC1", "0")
        pixels = np.frombuffer(sent.data, np.uint16).reshape(HEIGHT, WIDTH)
        expected = np.rint(depths(0) * 0.4) if changed else depths(0)
        np.testing.assert_array_equal(pixels, expected)


def test_a_damaged_image_makes_its_frame_unreadable(tmp_path: Path) -> None:
    make = Maker(2)
    messages = unregistered(make, 3)
    damaged = make.image(depths(1)[:4], "16UC1", START + STEP + SKEW, "d_optical")
    messages = [m if m[1] != START + STEP + 35 * MS else (*m[:2], damaged) for m in messages]
    frames = list(Recording(BagSource(write(tmp_path / "a.mcap", make, messages))).frames(()))
    assert [frame.readable for frame in frames] == [True, False, True]


@pytest.mark.parametrize(
    ("topic", "name"),
    [
        ("/cam/color/image_raw", "/cam/color/image_raw"),
        ("cam/image", "/cam/image"),
        ("/0/image-rect", "/_0/image_rect"),
        ("/device_0/option/Depth Units/value", "/device_0/option/Depth_Units/value"),
    ],
)
def test_topic_names_are_changed_to_those_that_ros_2_allows(topic: str, name: str) -> None:
    assert recorded.ros_name(topic) == name
