"""Reports on frames that the node cannot use, doubts or misses: log and diagnostics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image

from robots import say_each_once
from sgnet_ros.node.lifecycle import SGNetNode


def bad_messages(scene: Any, spoiled: dict[str, Any]) -> tuple[Image, Image]:
    """Return a frame whose messages have other fields."""
    rgb, depth = scene.messages()
    for path, value in spoiled.items():
        *parts, field = path.split(".")
        message = {"rgb": rgb, "depth": depth}[parts[0]]
        setattr(message.header if "header" in parts else message, field, value)
    return rgb, depth


@pytest.mark.parametrize(
    ("spoiled", "cause", "words"),
    [
        ({"rgb.data": b"\0" * 100}, "bad_rgb", ["/rgb/image_raw", "data", "truncated"]),
        ({"rgb.data": b""}, "bad_rgb", ["/rgb/image_raw", "data", "empty"]),
        ({"rgb.height": 0, "rgb.width": 0}, "bad_rgb", ["/rgb/image_raw", "height", "0x0"]),
        ({"rgb.encoding": "32SC1"}, "bad_rgb", ["/rgb/image_raw", "32SC1"]),
        ({"depth.step": 80}, "bad_depth", ["/depth/image_raw", "step"]),
        ({"depth.encoding": "rgb8"}, "bad_depth", ["/depth/image_raw", "rgb8", "remap"]),
        (
            {"depth.header.frame_id": "camera_depth_frame"},
            "not_registered",
            ["camera_color_optical_frame", "camera_depth_frame", "align_depth.enable:=true"],
        ),
        ({"depth.width": 40}, "not_registered", ["80x60", "40x60", "align_depth.enable:=true"]),
    ],
)
def test_a_frame_that_cannot_be_used_is_dropped_counted_and_explained(
    before: Any, robot: Any, scene: Any, spoiled: dict[str, Any], cause: str, words: list[str]
) -> None:
    for _ in range(2):
        robot.send(*bad_messages(scene, spoiled))
        robot.spin_until(lambda: [m for m in robot.log if cause in m.msg])
        robot.spin_for(0.1)
    _, stats = robot.segment(*scene.messages())
    assert before.drops(stats) == {cause: 2}
    assert before.since(stats, "pairs") == 3
    assert before.since(stats, "segmented") == 1
    (report,) = [m for m in robot.log if cause in m.msg]  # throttled: once for two
    assert (report.name, report.level) == ("sgnet", 40)
    for word in words:
        assert word in report.msg


def test_doubtful_depth_is_named_with_its_topic_median_and_likely_unit(
    before: Any, shared_node: SGNetNode, robot: Any, scene: Any
) -> None:
    arrays = robot.listen(DiagnosticArray, "/diagnostics")
    rgb, _ = scene.messages()
    millimeters = scene.depth.astype(np.float32)
    median = np.median(millimeters[millimeters > 0])
    cases = [
        (millimeters, "32FC1", "probably millimeters, but 32FC1 requires meters"),
        (np.zeros_like(scene.depth), "16UC1", "every pixel is 0 or 65535"),
        (np.zeros_like(millimeters), "32FC1", "every pixel is 0, NaN or infinite"),
    ]
    for depth, encoding, words in cases:
        say_each_once(shared_node)
        robot.forget()
        message = scene.message(depth, encoding)
        robot.send_until(
            lambda words=words: arrays and words in status(arrays)[0].message, (rgb, message)
        )
        found, _ = status(arrays)
        assert found.level == DiagnosticStatus.WARN
        assert found.message.startswith("/depth/image_raw: ")
        (line,) = robot.spin_until(lambda words=words: [m for m in robot.log if words in m.msg])
        assert line.level == 30
        assert line.msg == found.message
        if depth is millimeters:
            told = float(line.msg.split("the median is ")[1].split(" m")[0])
            assert told == pytest.approx(median, rel=0.05)
    good = scene.messages()
    robot.send_until(lambda: status(arrays)[0].level == DiagnosticStatus.OK, good)


def status(arrays: list[DiagnosticArray]) -> tuple[DiagnosticStatus, dict[str, str]]:
    (found,) = arrays[-1].status
    return found, {value.key: value.value for value in found.values}


def test_diagnostics_report_rates_and_drops_once_a_second(
    before: Any, robot: Any, scene: Any
) -> None:
    arrays = robot.listen(DiagnosticArray, "/diagnostics")
    robot.spin_until(lambda: arrays)
    arrays.clear()
    # After a pause of the machine the node may warn of missing pairs first.
    robot.send_until(
        lambda: len(arrays) > 2 and status(arrays)[0].level == DiagnosticStatus.OK, scene.messages()
    )
    found, values = status(arrays)
    assert found.name == "sgnet: segmentation"
    assert found.hardware_id == "cpu"
    assert values["state"] == "active"
    assert values["model"] == "tiny_depth"
    assert float(values["rgb Hz"]) > 0
    assert int(values["labels total"]) > 3
    for name in ("age", "skew", "network", "publish", "inference", "overhead"):
        assert float(values[f"{name} ms p50"]) <= float(values[f"{name} ms p95"]), name
    assert float(values["inference ms p50"]) > 0
    assert float(values["inference busy %"]) >= 0
    if Path("/proc/self/status").exists():
        assert float(values["process memory MiB"]) > 50
    robot.send(*bad_messages(scene, {"rgb.data": b"\0" * 100}))
    robot.spin_until(lambda: "/rgb/image_raw: data: truncated" in status(arrays)[0].message)
    found, values = status(arrays)
    assert found.level == DiagnosticStatus.WARN
    assert int(values["dropped: bad_rgb"]) > 0
    robot.spin_until(lambda: "no RGB-D pair" in status(arrays)[0].message)
    silence = status(arrays)[0].message
    assert "nothing received on /rgb/image_raw (1 publisher reliable)" in silence
    assert "and /depth/image_raw (1 publisher reliable)" in silence


def test_images_without_a_partner_are_named_in_a_warning(
    before: Any, shared_node: SGNetNode, robot: Any, scene: Any
) -> None:
    assert shared_node.set_parameters([Parameter("slop", value=0.01)])[0].successful
    found = robot.send_until(
        lambda: [m for m in robot.log if "found no partner" in m.msg],
        scene.messages(),
        skew_ns=33_000_000,
    )
    assert shared_node.set_parameters([Parameter("slop", value=0.02)])[0].successful
    for word in (
        "/rgb/image_raw",
        "/depth/image_raw",
        "1 publisher reliable",
        "nearest stamps 33.0 ms apart",
        "slop 10.0 ms",
        "raise the parameter slop",
    ):
        assert word in found[0].msg
    assert found[0].level == 30
