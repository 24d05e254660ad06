"""The node, run in this process, and a robot that talks to it over DDS."""

from __future__ import annotations

import copy
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from sgnet_msgs.msg import ClassMap
from std_srvs.srv import SetBool, Trigger

from robots import Scene, pixels
from sgnet_core.inference.segmenter import Segmenter
from sgnet_ros.messages.clouds import read_points
from sgnet_ros.node.lifecycle import SGNetNode
from waiting import PATIENCE_S

LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


def wait_for_subscription(robot: Any, node: SGNetNode, *topics: str) -> None:
    publishers = [getattr(node._outputs, topic) for topic in topics]
    robot.spin_until(lambda: all(p.get_subscription_count() for p in publishers))


def test_labels_are_the_segmenters_at_the_size_and_with_the_header_of_the_image(
    before: Any, robot: Any, segmenters: dict[str, Segmenter]
) -> None:
    for seed, (height, width) in enumerate([(60, 80), (61, 47), (48, 64), (1, 3), (240, 320)]):
        scene = Scene(height, width, seed)
        rgb, depth = scene.messages()
        labels, stats = robot.segment(rgb, depth)
        assert labels.header == stats.header == rgb.header
        assert labels.encoding == "mono8"
        expected = segmenters["depth"].segment(scene.rgb, scene.depth).labels
        np.testing.assert_array_equal(pixels(labels), expected)
    assert len(robot.labels) == len(robot.stats) == 5
    assert len(np.unique(pixels(robot.labels[0]))) > 2, "the test's model knows no classes"


ENCODINGS = {
    "bgr8": lambda s: s.message(s.rgb[..., ::-1], "bgr8"),
    "8UC3": lambda s: s.message(s.rgb[..., ::-1], "8UC3"),
    "padded rgb8": lambda s: s.message(s.rgb, "rgb8", padding=17),
    "rgba8": lambda s: s.message(np.dstack([s.rgb, s.rgb[..., :1]]), "rgba8"),
    "bgra8": lambda s: s.message(np.dstack([s.rgb[..., ::-1], s.rgb[..., :1]]), "bgra8"),
}


def test_every_encoding_of_the_same_frame_gives_the_same_labels(
    before: Any, robot: Any, scene: Any, segmenters: dict[str, Segmenter]
) -> None:
    rgb, depth = scene.messages()
    big = scene.message(scene.depth.astype(">u2"), "16UC1")
    big.is_bigendian = 1
    pairs = {name: (make(scene), depth) for name, make in ENCODINGS.items()} | {
        "32FC1": (rgb, scene.message(scene.meters, "32FC1")),
        "padded mono16": (rgb, scene.message(scene.depth, "mono16", padding=3)),
        "big-endian 16UC1": (rgb, big),
    }
    expected = segmenters["depth"].segment(scene.rgb, scene.depth).labels
    for name, pair in pairs.items():
        labels, _ = robot.segment(*pair)
        np.testing.assert_array_equal(pixels(labels), expected, err_msg=name)
    gray = scene.rgb[..., 1]
    labels, _ = robot.segment(scene.message(gray, "mono8"), depth)
    expected = segmenters["depth"].segment(np.repeat(gray[..., None], 3, 2), scene.depth).labels
    np.testing.assert_array_equal(pixels(labels), expected)


def test_all_images_of_a_frame_agree_and_colors_are_the_palettes(
    before: Any, shared_node: SGNetNode, robot: Any, scene: Any, segmenters: dict[str, Segmenter]
) -> None:
    topics = ("confidence", "overlay", "color")
    confidences, overlays, colors = (robot.listen(Image, f"/sgnet/{topic}") for topic in topics)
    infos = robot.listen(CameraInfo, "/sgnet/camera_info")
    wait_for_subscription(robot, shared_node, *topics, "camera_info")
    robot.info.publish(scene.camera_info())
    robot.spin_until(lambda: shared_node._active.inputs.rgb_infos.newest)
    segmenter = segmenters["depth"]
    palette = np.array(segmenter.labels.colors, np.uint8)
    for count, alpha in enumerate((0.5, 0.25, 1.0), 1):  # the opacity is live
        assert shared_node.set_parameters([Parameter("overlay_alpha", value=alpha)])[0].successful
        rgb, depth = scene.messages()
        labels, _ = robot.segment(rgb, depth)
        robot.spin_until(lambda n=count: len(confidences) == len(overlays) == len(colors) == n)
        robot.spin_until(lambda n=count: len(infos) == n)
        frame = [labels, confidences[-1], overlays[-1], colors[-1]]
        assert [m.encoding for m in frame] == ["mono8", "mono8", "rgb8", "rgb8"]
        assert all(m.header == rgb.header for m in [*frame, infos[-1]])
        expected = segmenter.segment(scene.rgb, scene.depth, confidence=True, overlay=alpha)
        np.testing.assert_array_equal(pixels(labels), expected.labels)
        np.testing.assert_array_equal(pixels(confidences[-1]), expected.confidence)
        np.testing.assert_array_equal(pixels(overlays[-1], 3), expected.overlay)
        np.testing.assert_array_equal(pixels(colors[-1], 3), palette[expected.labels])
        assert infos[-1].k.tolist() == scene.camera_info().k.tolist()
        assert (infos[-1].width, infos[-1].height) == (80, 60)
    robot.stop_listening(*(f"/sgnet/{topic}" for topic in topics))
    publishers = [getattr(shared_node._outputs, topic) for topic in topics]
    robot.spin_until(lambda: not any(p.get_subscription_count() for p in publishers))


def test_outputs_without_subscribers_are_not_computed(
    before: Any, shared_node: SGNetNode, robot: Any, scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[bool, bool]] = []
    segment = Segmenter.segment

    def spy(*args: Any, confidence: bool, overlay: float | None, **kwargs: Any) -> Any:
        asked.append((confidence, overlay is not None))
        return segment(*args, confidence=confidence, overlay=overlay, **kwargs)

    monkeypatch.setattr(Segmenter, "segment", spy)
    _, stats = robot.segment(*scene.messages())
    assert before.since(stats, "copies") == 1, "of the labels, into their message"
    confidences = robot.listen(Image, "/sgnet/confidence")
    wait_for_subscription(robot, shared_node, "confidence")
    _, stats = robot.segment(*scene.messages())
    robot.spin_until(lambda: confidences)
    assert asked == [(False, False), (True, False)]
    assert before.since(stats, "copies") == 3, "labels twice, confidence once"
    robot.stop_listening("/sgnet/confidence")
    robot.spin_until(lambda: not shared_node._outputs.confidence.get_subscription_count())


def test_the_quality_of_service_of_every_output_can_be_overridden(shared_node: Any) -> None:
    topics = {
        publisher.topic_name
        for publisher in shared_node.publishers
        if publisher.topic_name.startswith("/sgnet/") or publisher.topic_name == "/diagnostics"
    } - {"/sgnet/transition_event"}  # of rclpy
    assert topics >= {"/sgnet/labels", "/sgnet/labels/compressed", "/sgnet/stats", "/diagnostics"}
    for topic in topics:
        for policy in ("depth", "durability", "history", "reliability"):
            assert shared_node.has_parameter(f"qos_overrides.{topic}.publisher.{policy}"), topic


def test_a_late_subscriber_receives_the_class_map(
    before: Any, robot: Any, segmenters: dict[str, Segmenter]
) -> None:
    maps = robot.listen(ClassMap, "/sgnet/class_map", LATCHED)
    robot.spin_until(lambda: maps)
    labels = segmenters["depth"].labels
    assert maps[0].model == "tiny_depth"
    assert maps[0].label_set == "nyu13"
    assert list(maps[0].ids) == list(range(13))
    assert tuple(maps[0].names) == labels.names
    colors = [tuple(round(255 * v) for v in (c.r, c.g, c.b)) for c in maps[0].colors]
    assert tuple(colors) == labels.colors
    assert {c.a for c in maps[0].colors} == {1.0}
    assert maps[0].ignore_id == 255


def test_inference_that_fails_costs_the_frame_and_nothing_else(
    before: Any, robot: Any, scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("CUDA error: out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(Segmenter, "segment", fail)
        robot.send(*scene.messages())
        robot.spin_until(lambda: [m for m in robot.log if "CUDA error: out of memory" in m.msg])
    _, stats = robot.segment(*scene.messages())
    assert before.drops(stats) == {"inference_error": 1}


def test_under_overload_the_newest_pair_wins_and_the_rest_is_counted(
    before: Any, shared_node: SGNetNode, robot: Any, scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    counters = shared_node._active.processor.counters

    def overloaded() -> int:
        return counters.counts().drops.get("overload", 0) - earlier

    earlier = counters.counts().drops.get("overload", 0)
    segment = Segmenter.segment

    def slow(*args: Any, **kwargs: Any) -> Any:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        return segment(*args, **kwargs)

    monkeypatch.setattr(Segmenter, "segment", slow)
    sent = []
    for _ in range(11):  # The first is being segmented while ten more come.
        sent.append(copy.deepcopy(robot.send(*scene.messages()).header))
        robot.spin_until(begun.is_set)
        robot.spin_until(
            lambda: counters.counts().drops.get("overload", 0) - earlier == max(0, len(sent) - 2)
        )
    go_on.set()
    labels, stats = robot.labels, robot.stats
    robot.spin_until(lambda: len(labels) == len(stats) == 2)
    assert [m.header for m in labels] == [m.header for m in stats] == [sent[0], sent[-1]]
    assert before.since(stats[-1], "pairs") == 11
    assert before.since(stats[-1], "segmented") == 2
    assert before.drops(stats[-1]) == {"overload": 9}


def test_statistics_add_up(before: Any, robot: Any, scene: Any) -> None:
    now = time.time_ns()
    for index in range(3):
        rgb, depth = scene.messages()
        _, stats = robot.segment(rgb, depth, stamp_ns=now + index * 100_000_000, skew_ns=7_000_000)
        assert stats.skew_ms == 7
        stages = stats.preprocess_ms + stats.network_ms + stats.postprocess_ms
        assert 0 < stages <= stats.inference_ms
        assert 0 < stats.convert_ms < stats.overhead_ms
        assert 0 < stats.publish_ms < stats.overhead_ms
        assert stats.wait_ms > 0
    for counter in ("rgb_received", "depth_received", "pairs", "segmented"):
        assert before.since(stats, counter) == 3
    assert before.drops(stats) == {}
    age_ms = (time.time_ns() - now) / 1e6
    assert 0 < robot.stats[0].age_ms < age_ms, "its stamp was the time of its sending"


def test_the_overhead_per_vga_pair_is_small(
    before: Any, robot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "perf_counter", time.process_time)  # other processes don't count
    scene = Scene(480, 640)
    bgr = scene.message(scene.rgb[..., ::-1], "bgr8")  # the encoding that costs a copy
    depth = scene.message(scene.depth, "16UC1")
    copies = []
    for _ in range(25):
        robot.segment(bgr, depth)
        start = time.process_time()
        scene.rgb[..., ::-1].copy()
        copies.append(1000 * (time.process_time() - start))
    # The best of many: other threads only ever add to it.
    assert min(stats.overhead_ms for stats in robot.stats) <= 20 * min(copies)


def test_enable_pauses_and_resumes(
    before: Any, shared_node: SGNetNode, robot: Any, scene: Any
) -> None:
    counts = shared_node._active.processor.counters.counts
    assert robot.call(SetBool, "/sgnet/enable", SetBool.Request(data=False)).success
    robot.send(*scene.messages())
    robot.spin_until(lambda: "disabled" in counts().drops)
    robot.drain()
    assert robot.stats == robot.labels == []
    assert robot.call(SetBool, "/sgnet/enable", SetBool.Request(data=True)).success
    _, stats = robot.segment(*scene.messages())
    assert before.drops(stats) == {"disabled": 1}


def test_live_parameters_select_the_labeled_pixels(
    before: Any, shared_node: SGNetNode, robot: Any, scene: Any, segmenters: dict[str, Segmenter]
) -> None:
    topics = ("/sgnet/overlay", "/sgnet/color", "/sgnet/confidence", "/sgnet/points")
    kinds = (Image, Image, Image, PointCloud2)
    outputs = [robot.listen(kind, topic) for kind, topic in zip(kinds, topics, strict=True)]
    wait_for_subscription(robot, shared_node, "overlay", "color", "confidence", "points")
    robot.info.publish(scene.camera_info())
    robot.spin_until(lambda: shared_node._active.inputs.rgb_infos.newest)
    plain = segmenters["depth"].segment(scene.rgb, scene.depth, confidence=True)
    names = segmenters["depth"].labels.names
    median = float(np.median(plain.confidence)) / 255
    kept = int(np.bincount(plain.labels.ravel()).argmax())
    for min_confidence, keep in ((median, ""), (0.0, f"{names[kept]}, unicorn"), (0.0, "")):
        changes = [Parameter("min_confidence", value=min_confidence)]
        changes.append(Parameter("keep_classes", value=keep))
        assert all(result.successful for result in shared_node.set_parameters(changes))
        stamp = robot.segment(*scene.messages())[0].header.stamp
        for output in outputs:
            robot.spin_until(lambda o=output, s=stamp: o and o[-1].header.stamp == s)
        overlay, color, confidence, cloud = (output[-1] for output in outputs)
        gone = plain.confidence < np.float32(255 * min_confidence)
        if keep:
            gone |= plain.labels != kept
        assert gone.any() == (min_confidence > 0 or bool(keep)) and not gone.all()
        expected = np.where(gone, 255, plain.labels)
        np.testing.assert_array_equal(pixels(robot.labels[-1]), expected)
        np.testing.assert_array_equal(read_points(cloud)["label"], expected)
        np.testing.assert_array_equal(pixels(confidence), plain.confidence)
        np.testing.assert_array_equal(pixels(overlay, 3)[gone], scene.rgb[gone])
        assert not pixels(color, 3)[gone].any()
    (warning,) = [m for m in robot.log if "name unicorn, which this model does not have" in m.msg]
    assert warning.level == 30
    robot.stop_listening(*topics)


def test_reload_loads_a_good_model_and_keeps_the_old_one_instead_of_a_bad_one(
    before: Any,
    shared_node: SGNetNode,
    robot: Any,
    scene: Any,
    models: dict[str, Path],
    segmenters: dict[str, Segmenter],
) -> None:
    maps = robot.listen(ClassMap, "/sgnet/class_map", LATCHED)
    truncated = models["depth"].with_name("truncated.safetensors")
    truncated.write_bytes(models["depth"].read_bytes()[:5000])
    for model, running in (
        (truncated, "depth"),
        (models["other"], "other"),
        (models["depth"], "depth"),
    ):
        assert shared_node.set_parameters([Parameter("model", value=str(model))])[0].successful
        response = robot.call(Trigger, "/sgnet/reload", Trigger.Request())
        assert response.success == (model != truncated)
        if not response.success:
            assert "kept tiny_depth" in response.message
            assert "truncated.safetensors" in response.message
        labels, _ = robot.segment(*scene.messages())
        expected = segmenters[running].segment(scene.rgb, scene.depth).labels
        np.testing.assert_array_equal(pixels(labels), expected)
    robot.spin_until(lambda: "cityscapes19" in [m.label_set for m in maps])
    robot.spin_until(lambda: maps[-1].label_set == "nyu13")


def test_frames_stamped_before_1970_are_labeled(before: Any, robot: Any, scene: Any) -> None:
    for stamp_ns in (-5 * 10**9, -1, 0):
        labels, stats = robot.segment(*scene.messages(), stamp_ns=stamp_ns)
        assert labels.header.stamp.sec * 10**9 + labels.header.stamp.nanosec == stamp_ns
        assert stats.age_ms > time.time() * 900
    assert before.since(stats, "segmented") == 3
    assert "internal_error" not in before.drops(stats)
