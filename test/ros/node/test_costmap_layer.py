"""Nav2's semantic segmentation layer accepts mask, confidence, cloud and names.

`layer_objections` is that layer's reading (github.com/kiwicampus/semantic_segmentation_layer:
its synchronizer, size checks, iterators and class look-up) in Python; the node's messages pass it,
and spoiled ones do not.
"""

from __future__ import annotations

import array
import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2, PointField
from sgnet_msgs.msg import ClassMap

from robots import Scene
from sgnet_core.models.info import ModelInfo
from sgnet_core.models.labels import IGNORE_ID, LABEL_SETS
from sgnet_ros.messages.label_messages import label_info

SENSOR_DATA = QoSProfile(depth=50, reliability=QoSReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(
    depth=5,
    reliability=QoSReliabilityPolicy.RELIABLE,
    durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
)


def layer_objections(
    mask: Image, confidence: Image, cloud: PointCloud2, names: dict[int, str]
) -> list[str]:
    """Why the layer would drop, misread or crash on these messages."""
    objections = []
    stamps = {(m.header.stamp.sec, m.header.stamp.nanosec) for m in (mask, confidence, cloud)}
    if len(stamps) != 1:
        objections.append("stamps: the exact-time synchronizer never emits")
    if not cloud.header.frame_id:
        objections.append("frame_id: the transform filter drops the cloud")
    count = mask.width * mask.height
    if count != cloud.width * cloud.height:
        objections.append("sizes of mask and cloud differ")
    for name, image in (("mask", mask), ("confidence", confidence)):
        if len(image.data) < count:
            objections.append(f"{name}: fewer bytes than pixels")
        # one byte per pixel, rows without a gap: data[v * width + u]
        if (image.step, image.height) != (mask.width, mask.height) or image.encoding != "mono8":
            objections.append(f"{name}: data[v * width + u] is not pixel (u, v)")
    # PointCloud2ConstIterator<float> walks in steps of point_step, whatever row_step is
    fields = {f.name: f for f in cloud.fields}
    for axis in "xyz":
        if axis not in fields or fields[axis].datatype != PointField.FLOAT32:
            objections.append(f"cloud: no float32 field {axis}")
    if cloud.row_step != cloud.width * cloud.point_step:
        objections.append("cloud: rows are padded")
    if len(cloud.data) < cloud.point_step * cloud.width * cloud.height:
        objections.append("cloud: too little data")
    if cloud.is_bigendian:
        objections.append("cloud: bytes are swapped")
    if not names:
        objections.append("names: the class map is empty, nothing is buffered")
    if len(set(names.values())) < len(names):
        objections.append("names: two ids of one name, of which one is lost")
    if any(not 0 <= number <= 255 for number in names):
        objections.append("names: an id that is cut to 8 bits")
    if unknown := set(np.unique(np.frombuffer(mask.data, np.uint8))) - {*names, IGNORE_ID}:
        objections.append(f"mask: ids without a name, which are skipped: {sorted(unknown)}")
    return objections


def class_names(message: Any) -> dict[int, str]:
    """Return the names of a LabelInfo or a ClassMap."""
    if hasattr(message, "class_map"):
        return {c.class_id: c.class_name for c in message.class_map}
    return dict(zip(message.ids, message.names, strict=True))


Received = dict[str, list[Any]]


@pytest.fixture(scope="module")
def received(run_node: Any, shared_robot: Any) -> Received:
    """A frame as the layer receives it: its subscriptions, its QoS."""
    running, robot, scene = run_node("depth"), shared_robot, Scene()
    messages = {
        name: robot.listen(kind, f"/sgnet/{name}", SENSOR_DATA)
        for name, kind in (("labels", Image), ("confidence", Image), ("points", PointCloud2))
    }
    messages["names"] = robot.listen(ClassMap, "/sgnet/class_map", LATCHED)
    outputs = running.node._outputs
    robot.spin_until(lambda: outputs.wants_points and outputs.confidence.get_subscription_count())
    robot.spin_until(lambda: robot.info.get_subscription_count())
    robot.send_until(
        lambda: (
            robot.info.publish(scene.camera_info())
            or (all(messages.values()) and messages["points"][-1].header.stamp)
        ),
        scene.messages(),
    )
    stamp = messages["points"][-1].header.stamp
    same = ("labels", "confidence", "points")
    robot.spin_until(lambda: all(any(m.header.stamp == stamp for m in messages[n]) for n in same))
    for name in same:
        messages[name][:] = [m for m in messages[name] if m.header.stamp == stamp]
    return messages


def frame(received: Received) -> tuple[Image, Image, PointCloud2, dict[int, str]]:
    names = class_names(received["names"][0])
    return received["labels"][0], received["confidence"][0], received["points"][0], names


def test_the_layer_takes_the_nodes_messages(received: Received) -> None:
    mask, confidence, cloud, names = frame(received)
    assert layer_objections(mask, confidence, cloud, names) == []
    assert len(names) == 13
    assert len(set(mask.data)) > 1, "a mask of one class shows little"


def test_the_layer_skips_pixels_without_depth_and_finds_the_others(received: Received) -> None:
    """It reads z of every pixel in the mask's order and skips what isn't finite."""
    mask, _, cloud, _ = frame(received)
    offset = next(f.offset for f in cloud.fields if f.name == "z")
    data = np.frombuffer(cloud.data, np.uint8).reshape(-1, cloud.point_step)
    z = data[:, offset : offset + 4].copy().view(np.float32).reshape(mask.height, mask.width)
    scene = Scene()
    np.testing.assert_array_equal(np.isfinite(z), scene.depth > 0)
    np.testing.assert_allclose(z[scene.depth > 0], scene.meters[scene.depth > 0], rtol=1e-6)


def cut(m: Any) -> None:
    m.data = m.data[:-1]


def pad(m: Any) -> None:
    m.step += 1
    m.data.extend([0] * m.height)


def delay(m: Any) -> None:
    m.header.stamp.nanosec += 1


def shrink(m: Any) -> None:
    m.width -= 1


def pad_rows(m: Any) -> None:
    m.row_step += 4


def nowhere(m: Any) -> None:
    m.header.frame_id = ""


def doubles(m: Any) -> None:
    m.fields = [copy.copy(f) for f in m.fields]
    m.fields[2].datatype = PointField.FLOAT64


def foreign_id(m: Any) -> None:
    m.data[0] = 77


def unlabeled(m: Any) -> None:
    m.data[0] = IGNORE_ID


@pytest.mark.parametrize(
    ("which", "spoil", "objection"),
    [
        (0, cut, "mask: fewer bytes"),
        (0, pad, "mask: data[v"),
        (0, delay, "stamps"),
        (0, foreign_id, "ids without a name"),
        (1, cut, "confidence: fewer bytes"),
        (1, pad, "confidence: data[v"),
        (2, shrink, "sizes of mask and cloud"),
        (2, pad_rows, "rows are padded"),
        (2, nowhere, "frame_id"),
        (2, doubles, "no float32 field z"),
        (2, cut, "too little data"),
        (0, unlabeled, None),
    ],
)
def test_messages_that_the_layer_would_refuse_are_recognized(
    received: Received, which: int, spoil: Callable[[Any], None], objection: str | None
) -> None:
    messages: list[Any] = list(frame(received))
    spoiled = copy.deepcopy(messages[which])
    spoiled.data = array.array("B", messages[which].data)
    spoil(spoiled)
    messages[which] = spoiled
    found = layer_objections(*messages)
    if objection is None:
        assert found == []
    else:
        assert any(objection in each for each in found), found


@pytest.mark.parametrize("name", LABEL_SETS)
def test_every_label_set_has_names_that_the_layer_can_tell_apart(name: str) -> None:
    """It looks costs up by name."""
    labels = LABEL_SETS[name]
    assert all(labels.names)
    assert len(set(labels.names)) == len(labels.names)
    assert IGNORE_ID not in labels.ids


def test_label_info_names_every_class_and_is_latched(received: Received, shared_robot: Any) -> None:
    vision = pytest.importorskip("vision_msgs.msg", reason="vision_msgs isn't among the wheels")
    infos = shared_robot.listen(vision.LabelInfo, "/sgnet/label_info", LATCHED)
    shared_robot.spin_until(lambda: infos)
    mask, confidence, cloud, names = frame(received)
    assert class_names(infos[0]) == names
    assert layer_objections(mask, confidence, cloud, class_names(infos[0])) == []
    for labels in LABEL_SETS.values():
        message = label_info(ModelInfo("any", labels), infos[0].header.stamp)
        assert class_names(message) == dict(enumerate(labels.names))
        assert message.header.stamp == infos[0].header.stamp
        assert math.isclose(message.threshold, 0)
