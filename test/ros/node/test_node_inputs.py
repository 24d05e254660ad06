"""The node with compressed images and a lens before the camera."""

from __future__ import annotations

import array
import io
import math
import struct
from typing import Any

import numpy as np
from PIL import Image as Picture
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage

from robots import pixels, say_each_once, stamped
from sgnet_core.inference.segmenter import Segmenter
from waiting import wait_until


def test_a_model_that_assumes_a_pinhole_warns_once_about_each_lens(
    run_node: Any, robot: Any, scene: Any
) -> None:
    running = run_node("points")
    robot.spin_until(lambda: all(p.get_subscription_count() for p in (robot.info, robot.rgb)))
    infos = running.node._active.inputs.rgb_infos
    for lens, effect in (("plumb_bob", "moves pixels by up to "), ("fov", "distorts the image, ")):
        info = scene.camera_info()
        info.distortion_model, info.d = lens, [-0.2, 0.03, 0.0, 0.0, 0.0]
        robot.info.publish(info)
        robot.spin_until(lambda: infos.newest and infos.newest.distortion_model == lens)  # noqa: B023
        for _ in range(3):
            robot.segment(*scene.messages())
            say_each_once(running.node)
        robot.spin_for(0.2)
        (report,) = [m for m in robot.log if f"lens ({lens}) {effect}" in m.msg]
        assert "image_rect" in report.msg
        assert report.level == 30
    running.stop()


def compressed(pixels: np.ndarray, encoding: str, header: bytes = b"") -> CompressedImage:
    target = io.BytesIO()
    Picture.fromarray(pixels).save(target, "PNG")
    data = array.array("B", header + target.getvalue())
    message = CompressedImage(format=encoding, data=data)
    message.header.frame_id = "camera_color_optical_frame"
    return message


def test_compressed_images_give_the_labels_of_the_raw_ones(
    run_node: Any, robot: Any, scene: Any, segmenters: dict[str, Segmenter]
) -> None:
    running = run_node("depth", rgb_transport="compressed", depth_transport="compressedDepth")
    senders = [
        robot.create_publisher(CompressedImage, topic, 10)
        for topic in ("rgb/image_raw/compressed", "depth/image_raw/compressedDepth")
    ]
    robot.spin_until(lambda: all(s.get_subscription_count() for s in senders))
    processor = running.node._active.processor
    good = (
        compressed(scene.rgb, "rgb8; png compressed bgr8"),
        compressed(scene.depth, "16UC1; compressedDepth png", struct.pack("<iff", 0, 0.0, 0.0)),
    )
    bad = tuple(
        compressed(p, m.format) for p, m in zip((scene.rgb, scene.depth), good, strict=True)
    )
    for message in bad:
        message.data = message.data[:60]
    robot.forget()
    outcomes = processor.counters.counts
    for pair, done, words in (
        (
            (bad[0], good[1]),
            lambda: "bad_rgb" in outcomes().drops,
            "/rgb/image_raw/compressed: data: 60 bytes that cannot be decoded",
        ),
        (
            (good[0], bad[1]),
            lambda: "bad_depth" in outcomes().drops,
            "/depth/image_raw/compressedDepth: data: 60 bytes that cannot be decoded",
        ),
        (good, lambda: robot.labels, ""),
    ):

        def send(pair: Any = pair) -> None:
            stamp_ns = robot.next_stamp()
            for message, sender in zip(pair, senders, strict=True):
                sender.publish(stamped(message, stamp_ns))
            robot.spin_for(0.2)

        wait_until(done, send)
        assert words in outcomes().last_error
    expected = segmenters["depth"].segment(scene.rgb, scene.depth).labels
    np.testing.assert_array_equal(pixels(robot.labels[-1]), expected)
    running.stop()


def test_a_drive_played_with_its_clock_is_labeled_and_aged_in_recorded_time(
    run_node: Any, robot: Any, scene: Any
) -> None:
    """As `ros2 bag play --clock --loop` plays it, from two starts, after the node was started."""
    running = run_node("depth")
    node = running.node
    robot.connect(scene.messages())
    assert node.set_parameters([Parameter("use_sim_time", value=True)])[0].successful
    assert math.isnan(robot.segment(*scene.messages())[1].age_ms)
    missing = "nothing is received on /clock: age_ms is not known"
    robot.spin_until(lambda: [m for m in robot.log if missing in m.msg])
    clock = robot.create_publisher(Clock, "/clock", 10)
    for start_s in (5000, 4000):  # each later than the frames before, then back
        now = Clock()
        now.clock.sec, now.clock.nanosec = start_s, 500_000_000
        while node.get_clock().now().nanoseconds != start_s * 10**9 + 500_000_000:
            clock.publish(now)
            robot.spin_for(0.05)
        for index in range(2):
            stamp_ns = start_s * 10**9 + index * 100_000_000
            _, stats = robot.segment(*scene.messages(), stamp_ns=stamp_ns)
            assert stats.age_ms == 500 - 100 * index
    assert len([m for m in robot.log if missing in m.msg]) == 1
    assert node._active.processor.counters.counts().warnings == ()
    running.stop()
