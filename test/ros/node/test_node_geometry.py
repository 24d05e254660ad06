"""The node with depth that isn't registered, compressed images, lenses, holes, and its cloud."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from robots import Scene, pixels, say_each_once
from sgnet_core.geometry.lens import Camera
from sgnet_core.geometry.registration import DepthRegistration
from sgnet_core.inference.segmenter import Segmenter
from sgnet_ros.messages.camera_model import camera_of
from sgnet_ros.messages.clouds import point_cloud, read_points
from sgnet_ros.messages.images import depth_view, rgb_view
from sgnet_ros.messages.transforms import StaticTransforms, parse_pose
from sgnet_ros.node.calibration import CameraInfos
from sgnet_ros.node.depth_alignment import DepthAligner
from sgnet_ros.node.frame import Frame, FrameDropped, InputTopics
from sgnet_ros.node.matcher import Pair
from sgnet_ros.recordings.bag_source import BagSource
from sgnet_ros.recordings.bags import Bag
from sgnet_ros.soak import hostile

POSE = "0.03 0.002 -0.01 0 0.0099998 0 0.99995"
DEPTH_FRAME = "camera_depth_optical_frame"


def depth_info(**fields: Any) -> CameraInfo:
    info = CameraInfo(width=100, height=70, distortion_model="plumb_bob", **fields)
    info.k = [88.0, 0.0, 51.0, 0.0, 89.0, 33.0, 0.0, 0.0, 1.0]
    info.header.frame_id = DEPTH_FRAME
    return info


@pytest.fixture(scope="module")
def node(run_node: Any, shared_robot: Any) -> Any:
    node = run_node("depth", depth_to_rgb=POSE).node
    shared_robot.depth_info = shared_robot.create_publisher(CameraInfo, "depth/camera_info", 10)
    shared_robot.send_until(lambda: shared_robot.stats, Scene().messages())
    return node


@pytest.fixture
def depth_image() -> tuple[np.ndarray, Image]:
    """Return a slope in millimeters with holes as the depth camera sees it, and its message."""
    scene = Scene(70, 100, seed=4)
    message = scene.message(scene.depth, "16UC1")
    message.header.frame_id = DEPTH_FRAME
    return scene.depth, message


def forget(*histories: CameraInfos) -> None:
    for history in histories:
        history.__init__()  # type: ignore[misc]


def announce(robot: Any, node: Any, rgb: CameraInfo, depth: CameraInfo) -> None:
    """Make the node know both calibrations."""
    inputs = node._active.inputs
    forget(inputs.rgb_infos, inputs.depth_infos)
    robot.info.publish(rgb)
    robot.depth_info.publish(depth)
    robot.spin_until(lambda: inputs.rgb_infos.newest and inputs.depth_infos.newest)


def registered(depth: np.ndarray, rgb: CameraInfo, info: CameraInfo, pose: Any) -> torch.Tensor:
    cameras = camera_of(info, info.width, info.height), camera_of(rgb, rgb.width, rgb.height)
    return DepthRegistration(*cameras, pose)(torch.from_numpy(depth.astype(np.float32) * 0.001))


@pytest.mark.parametrize("d", [[], [-0.1, 0.02, 0.001, -0.001, 0.0]])
def test_depth_of_another_camera_is_registered(
    node: Any,
    robot: Any,
    scene: Any,
    depth_image: Any,
    segmenters: dict[str, Segmenter],
    d: list[float],
) -> None:
    rgb_info, info = scene.camera_info(), depth_info(d=d)
    rgb_info.d = [c / 2 for c in d]
    announce(robot, node, rgb_info, info)
    depth, message = depth_image
    labels, _ = robot.segment(scene.messages()[0], message)
    pose = parse_pose(POSE)
    seen = registered(depth, rgb_info, info, pose)
    assert (seen > 0).float().mean() > 0.5
    expected = segmenters["depth"].segment(scene.rgb, seen).labels
    np.testing.assert_array_equal(pixels(labels), expected)
    as_array = segmenters["depth"].segment(scene.rgb, seen.numpy()).labels
    np.testing.assert_array_equal(as_array, expected)


def test_another_k_in_the_same_frame_is_registered_too(
    node: Any, robot: Any, scene: Any, segmenters: dict[str, Segmenter]
) -> None:
    """Without depth_to_rgb, as the pose is known: it is the same frame."""
    info = scene.camera_info()
    info.k[0] *= 1.2
    announce(robot, node, scene.camera_info(), info)
    assert node.set_parameters([Parameter("depth_to_rgb", value="")])[0].successful
    labels, _ = robot.segment(*scene.messages())
    assert node.set_parameters([Parameter("depth_to_rgb", value=POSE)])[0].successful
    seen = registered(scene.depth, scene.camera_info(), info, np.eye(4))
    assert not np.array_equal(seen.numpy(), scene.depth * np.float32(0.001))
    expected = segmenters["depth"].segment(scene.rgb, seen).labels
    np.testing.assert_array_equal(pixels(labels), expected)


def test_registered_depth_is_left_alone(
    node: Any, robot: Any, scene: Any, segmenters: dict[str, Segmenter]
) -> None:
    expected = segmenters["depth"].segment(scene.rgb, scene.depth).labels
    elsewhere = depth_info()  # of the other topic: says nothing about these images
    for info in (scene.camera_info(), elsewhere, CameraInfo(width=80, height=60)):
        announce(robot, node, scene.camera_info(), info)
        labels, _ = robot.segment(*scene.messages())
        np.testing.assert_array_equal(pixels(labels), expected)


def test_a_leading_slash_does_not_change_the_frame(
    node: Any, robot: Any, scene: Any, segmenters: dict[str, Segmenter]
) -> None:
    forget(node._active.inputs.rgb_infos, node._active.inputs.depth_infos)
    rgb, depth = scene.messages()
    depth.header.frame_id = f"/{scene.frame_id}"
    labels, _ = robot.segment(rgb, depth)
    expected = segmenters["depth"].segment(scene.rgb, scene.depth).labels
    np.testing.assert_array_equal(pixels(labels), expected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("no depth info", ["nothing was received on /depth/camera_info"]),
        ("other frame", ["/depth/camera_info is of frame 'ir'"]),
        ("uncalibrated", ["/depth/camera_info: uncalibrated"]),
        ("unknown lens", ["'my_own' is not one of", "rectified"]),
        ("no pose", ["no transform from 'camera_depth_optical_frame'", "/tf_static"]),
    ],
)
def test_without_the_geometry_the_remedy_is_named(
    node: Any, robot: Any, scene: Any, depth_image: Any, change: str, words: list[str]
) -> None:
    say_each_once(node)
    info = depth_info()
    if change == "other frame":
        info.header.frame_id = "ir"
    elif change == "uncalibrated":
        info.k[0] = 0.0
    elif change == "unknown lens":
        info.d, info.distortion_model = [0.1], "my_own"
    announce(robot, node, scene.camera_info(), info)
    if change == "no depth info":
        forget(node._active.inputs.depth_infos)
    pose = "" if change == "no pose" else POSE
    assert node.set_parameters([Parameter("depth_to_rgb", value=pose)])[0].successful
    robot.send(scene.messages()[0], depth_image[1])
    (report,) = robot.spin_until(lambda: [m for m in robot.log if "not_registered" in m.msg])
    common = ["80x60", "100x70", DEPTH_FRAME, "align_depth.enable:=true", "depth_to_rgb"]
    for word in (*common, *words):
        assert word in report.msg
    assert node.set_parameters([Parameter("depth_to_rgb", value=POSE)])[0].successful


def test_tf_static_gives_the_pose(
    node: Any, robot: Any, scene: Any, depth_image: Any, segmenters: dict[str, Segmenter]
) -> None:
    tf2 = pytest.importorskip("tf2_msgs.msg", reason="tf2_msgs isn't among the ROS 2 wheels")
    from geometry_msgs.msg import TransformStamped
    from rclpy.qos import QoSDurabilityPolicy, QoSProfile

    latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
    publisher = robot.create_publisher(tf2.TFMessage, "/tf_static", latched)
    stamped = TransformStamped(child_frame_id=DEPTH_FRAME)
    stamped.header.frame_id = scene.frame_id
    stamped.transform.translation.x = 0.05
    publisher.publish(tf2.TFMessage(transforms=[stamped]))
    transforms = node._active.inputs.transforms
    robot.spin_until(lambda: transforms.between(DEPTH_FRAME, scene.frame_id) is not None)
    announce(robot, node, scene.camera_info(), depth_info())
    assert node.set_parameters([Parameter("depth_to_rgb", value="")])[0].successful
    labels, _ = robot.segment(scene.messages()[0], depth_image[1])
    assert node.set_parameters([Parameter("depth_to_rgb", value=POSE)])[0].successful
    pose = parse_pose("0.05 0 0 0 0 0 1")
    seen = registered(depth_image[0], scene.camera_info(), depth_info(), pose)
    expected = segmenters["depth"].segment(scene.rgb, seen).labels
    np.testing.assert_array_equal(pixels(labels), expected)
    robot.destroy_publisher(publisher)


def test_fill_holes_selects_how_holes_are_filled(
    node: Any, robot: Any, scene: Any, segmenters: dict[str, Segmenter]
) -> None:
    scene.depth[10:40, 20:60] = 0
    answers = []
    for policy in ("nearest", "joint_bilateral", "none"):
        assert node.set_parameters([Parameter("fill_holes", value=policy)])[0].successful
        labels, _ = robot.segment(*scene.messages())
        expected = segmenters["depth"].segment(scene.rgb, scene.depth, holes=policy).labels
        np.testing.assert_array_equal(pixels(labels), expected)
        answers.append(expected)
    assert not np.array_equal(answers[0], answers[2])


@pytest.fixture
def points(node: Any, robot: Any) -> Any:
    """Return a list that fills with the clouds on ~/points."""
    received = robot.listen(PointCloud2, "/sgnet/points")
    robot.spin_until(lambda: node._outputs.wants_points)
    yield received
    robot.stop_listening("/sgnet/points")
    robot.spin_until(lambda: not node._outputs.wants_points)


def test_points_have_the_frames_depth_labels_and_confidence(
    node: Any,
    robot: Any,
    scene: Any,
    depth_image: Any,
    points: Any,
    segmenters: dict[str, Segmenter],
) -> None:
    rgb_info = scene.camera_info()
    rgb_info.d = [-0.1, 0.02, 0.0, 0.0, 0.0]
    announce(robot, node, rgb_info, depth_info())
    camera = camera_of(rgb_info, 80, 60)
    seen = registered(depth_image[0], rgb_info, depth_info(), parse_pose(POSE))
    for depth, message in ((scene.depth, scene.messages()[1]), (seen.numpy(), depth_image[1])):
        points.clear()
        rgb = scene.messages()[0]
        labels, _ = robot.segment(rgb, message)
        robot.spin_until(lambda: points)
        segmenter = segmenters["depth"]
        sure = segmenter.segment(scene.rgb, depth, confidence=True).confidence
        expected = point_cloud(rgb.header, depth, camera, scene.rgb, pixels(labels), sure)
        assert points[0].header == rgb.header
        assert points[0] == expected
    assert (points[0].width, points[0].height) == (80, 60)


def test_the_parameter_rectified_chooses_between_lens_and_projection(
    node: Any, robot: Any, scene: Any, points: Any
) -> None:
    info = scene.camera_info()
    info.d = [-0.1, 0.02, 0.0, 0.0, 0.0]
    info.p = [60.0, 0.0, 41.0, 0.0, 0.0, 61.0, 28.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    announce(robot, node, info, depth_info())
    for value, rectified in ((True, True), ("false", False), ("auto", False)):
        assert node.set_parameters([Parameter("rectified", value=value)])[0].successful
        points.clear()
        robot.segment(*scene.messages())
        robot.spin_until(lambda: points)
        seen = read_points(points[0])
        measured = np.isfinite(seen["z"])
        rays = camera_of(info, 80, 60, rectified).rays().numpy()[:2, measured]
        for axis, ray in zip("xy", rays, strict=True):
            np.testing.assert_allclose(seen[axis][measured], ray * seen["z"][measured], atol=1e-5)
    assert not np.allclose(rays[0], (np.nonzero(measured)[1] - 41) / 60, atol=1e-2)


def test_obstacles_and_ground_have_the_classes_of_live_parameters(
    node: Any, robot: Any, scene: Any, segmenters: dict[str, Segmenter]
) -> None:
    topics = ("/sgnet/obstacles", "/sgnet/ground")
    clouds = [robot.listen(PointCloud2, topic) for topic in topics]
    robot.spin_until(lambda: all(node.count_subscribers(topic) for topic in topics))
    announce(robot, node, scene.camera_info(), depth_info())
    segmenter = segmenters["depth"]
    labels = segmenter.segment(scene.rgb, scene.depth).labels
    measured = labels[scene.depth > 0]
    first, second = np.unique(measured)[:2].tolist()
    names = segmenter.labels.names
    floor, overhead = names.index("floor"), names.index("ceiling")
    others = sorted(set(range(len(names))) - {floor, overhead})
    for obstacles, ground, expected in (
        ("", "", (others, [floor])),
        (names[first], names[second], ([first], [second])),
        (f"{names[first]}, {names[second]}", "", ([first, second], [floor])),
        ("", "", (others, [floor])),
    ):
        changes = {"obstacle_classes": obstacles, "ground_classes": ground}
        results = node.set_parameters([Parameter(n, value=v) for n, v in changes.items()])
        assert all(result.successful for result in results)
        for received in clouds:
            received.clear()
        rgb, depth = scene.messages()
        robot.segment(rgb, depth)
        robot.spin_until(lambda: all(clouds))
        for received, ids in zip(clouds, expected, strict=True):
            (cloud,) = received
            assert cloud.header == rgb.header
            wanted = measured[np.isin(measured, ids)]
            np.testing.assert_array_equal(read_points(cloud)["label"][0], wanted)
    robot.stop_listening(*topics)
    robot.spin_until(lambda: not node._outputs.wants_points)


def test_without_calibration_there_are_labels_and_no_points(
    node: Any, robot: Any, scene: Any, points: Any
) -> None:
    say_each_once(node)
    forget(node._active.inputs.rgb_infos)
    robot.segment(*scene.messages())
    robot.spin_until(lambda: [m for m in robot.log if "no point clouds: nothing received" in m.msg])
    assert points == []


BAG = os.environ.get("SGNET_TEST_BAG", "")


@pytest.mark.skipif(not BAG, reason="SGNET_TEST_BAG names no recording with unregistered depth")
def test_a_real_cameras_depth_is_registered() -> None:
    """Edges of depth and color coincide better than before, and values equal a slow reference."""
    source = BagSource(Path(BAG))
    geometry = source.geometry
    assert geometry.registration is not None, "its depth is registered already"
    with Bag(Path(BAG)) as bag:
        messages = {t: bag.first(t) for t in (source.topics.rgb, source.topics.depth)}
    depth = depth_view(messages[source.topics.depth]).array * geometry.depth_scale
    assert rgb_view(messages[source.topics.rgb]).array.shape[:2] == (
        geometry.rgb.height,
        geometry.rgb.width,
    )
    got = geometry.registration(torch.from_numpy(depth.astype(np.float32))).numpy()
    # float64: every measurement projected by itself
    rotated, shift = geometry.registration._centers.double().numpy(), geometry.registration._shift
    v, u = np.nonzero(depth > 0)
    x, y, z = rotated[:, v, u] * depth[v, u] + shift.double().numpy()[:, 0]
    k = geometry.rgb
    column = np.floor(k.fx * x / z + k.cx + 0.5).astype(int)
    row = np.floor(k.fy * y / z + k.cy + 0.5).astype(int)
    inside = (column >= 0) & (row >= 0) & (column < k.width) & (row < k.height)
    nearest = np.full((k.height, k.width), np.inf)
    np.minimum.at(nearest, (row[inside], column[inside]), z[inside])
    hit = np.isfinite(nearest)
    assert (got[hit] > 0).all()
    assert (got[hit] <= nearest[hit] + 1e-3).all(), "the nearer surface wins"
    same = np.abs(got - nearest)[hit] < 1e-3
    assert same.mean() > 0.9
    assert (got > 0).sum() > 1.3 * hit.sum(), "color is finer: the grid between is filled"


def test_invalid_calibrations_give_depth_or_a_reason(segmenters: dict[str, Segmenter]) -> None:
    rng = random.Random(5)
    topics = InputTopics(
        "/rgb/image_raw", "/depth/image_raw", "/rgb/camera_info", "/depth/camera_info"
    )
    aligner = DepthAligner(topics, StaticTransforms(), lambda: parse_pose(POSE))
    images = Image(), Image()
    images[0].header.frame_id, images[1].header.frame_id = "rgb", "depth"
    outcomes = {"registered": 0, "refused": 0}
    for _ in range(1500):
        infos = hostile.camera_info(rng), hostile.camera_info(rng)
        size, depth_size = (
            (min(i.height, 64), min(i.width, 64)) if i.height and i.width else (5, 7) for i in infos
        )

        def rgb_camera(info: CameraInfo = infos[0], size: Any = size) -> Camera:
            try:
                return camera_of(info, size[1], size[0])
            except ValueError as error:
                raise FrameDropped("no_camera_info", str(error)) from error

        depth = np.full(depth_size, 1500, np.uint16)
        try:
            frame = Frame(Pair(*images, 0, 0), infos[0], infos[1], None, 0.0, 0.0)
            seen = aligner.align(frame, size, depth, rgb_camera, segmenters["depth"])
        except FrameDropped as dropped:
            assert dropped.cause in ("not_registered", "no_camera_info")
            assert str(dropped)
            outcomes["refused"] += 1
            continue
        assert tuple(seen.shape) == size
        assert isinstance(seen, torch.Tensor)
        assert seen.isfinite().all()
        assert (seen >= 0).all()
        outcomes["registered"] += 1
    assert min(outcomes.values()) > 100, outcomes
