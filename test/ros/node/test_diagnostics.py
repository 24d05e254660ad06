from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from sgnet_msgs.msg import FrameStats

from clocks import Clock
from sgnet_ros.node.diagnostics import Diagnostics, FrameCounters
from sgnet_ros.node.matcher import PairMatcher

MS = 1_000_000


def test_counters_of_several_threads_add_up() -> None:
    counters = FrameCounters()

    def count() -> None:
        for _ in range(500):
            counters.drop("overload")
            counters.done(FrameStats(age_ms=3.0, inference_ms=2.0, overhead_ms=1.0), copies=2)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = counters.counts()
    assert (counts.segmented, counts.copies, counts.drops) == (2000, 4000, {"overload": 2000})
    assert set(counts.times_ms["age"]) == {3.0}
    assert set(counts.times_ms["overhead"]) == {1.0}
    assert len(counts.times_ms["skew"]) == 300, "of the latest frames"
    assert counts.busy_s == pytest.approx(4.0)


def test_the_last_error_outlives_drops_that_have_none() -> None:
    counters = FrameCounters()
    counters.drop("bad_rgb", "/rgb: step")
    counters.drop("overload")
    assert counters.counts().last_error == "/rgb: step"


IMAGE = "sensor_msgs/msg/Image"


class Watched:
    """Diagnostics on a clock of the test, and what they publish."""

    def __init__(self, node: Any) -> None:
        self.clock = Clock()
        self.matcher: PairMatcher[Any] = PairMatcher(20 * MS)
        self.counters = FrameCounters()
        self.diagnostics = Diagnostics(node, self.clock)
        self.published: list[DiagnosticArray] = []
        self.diagnostics._publisher = self
        topics = [("/rgb", IMAGE), ("/depth", IMAGE)]
        self.diagnostics.watch(self.matcher.counts, self.counters, topics)

    def publish(self, message: DiagnosticArray) -> None:
        self.published.append(message)

    def pairs(self, count: int) -> None:
        for _ in range(count):
            stamp = self.matcher.rgb.received * 33 * MS
            self.matcher.add_rgb(stamp, None)
            self.matcher.add_depth(stamp, None)

    def tick(self, seconds: float = 1.0) -> tuple[bytes, str, dict[str, str]]:
        self.clock.now += seconds
        self.diagnostics.tick()
        (status,) = self.published[-1].status
        return status.level, status.message, {v.key: v.value for v in status.values}


@pytest.fixture
def watched() -> Iterator[Watched]:
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("sgnet", context=context)
    yield Watched(node)
    node.destroy_node()
    context.try_shutdown()


def test_rates_are_those_since_the_last_report(watched: Watched) -> None:
    watched.pairs(30)
    for age in range(20):
        watched.counters.done(
            FrameStats(age_ms=float(age), skew_ms=-2.0, inference_ms=10.0, overhead_ms=1.0),
            copies=1,
        )
    level, message, values = watched.tick(2.0)
    assert (level, message) == (DiagnosticStatus.OK, "10.0 label images/s")
    assert values["rgb Hz"] == values["depth Hz"] == values["pairs Hz"] == "15.0"
    assert values["pairs total"] == "30"
    assert values["age ms p50"] == "9.5"
    assert values["age ms p95"] == "18.1"
    assert values["overhead ms p50"] == "1.0"
    assert values["skew ms p50"] == "-2.0"
    assert values["inference busy %"] == "10", "20 times 10 ms in 2 s"
    assert values["image copies"] == "20"
    assert watched.tick()[2]["rgb Hz"] == "0.0"


def test_overload_is_no_fault_but_bad_frames_and_failures_are(watched: Watched) -> None:
    watched.pairs(3)
    watched.counters.drop("overload")
    watched.counters.drop("disabled")
    assert watched.tick()[0] == DiagnosticStatus.OK
    watched.pairs(1)
    watched.counters.drop("bad_depth", "/depth: step: too small")
    level, message, values = watched.tick()
    assert (level, message) == (DiagnosticStatus.WARN, "frames dropped: /depth: step: too small")
    assert values["dropped: bad_depth"] == values["dropped: overload"] == "1"
    watched.pairs(1)
    assert watched.tick()[0] == DiagnosticStatus.OK
    watched.counters.drop("inference_error", "out of memory")
    assert watched.tick()[:2] == (DiagnosticStatus.ERROR, "inference fails: out of memory")


def test_missing_images_are_reported_with_their_topic(watched: Watched) -> None:
    watched.pairs(1)
    watched.tick()
    watched.matcher.add_rgb(10**12, None)
    assert watched.tick(2.0)[0] == DiagnosticStatus.OK
    watched.matcher.add_rgb(2 * 10**12, None)
    level, message, values = watched.tick(1.0)
    assert level == DiagnosticStatus.WARN
    assert message == "no RGB-D pair for 3 s: nothing received on /depth (no publisher)"
    assert (values["rgb total"], values["depth total"], values["pairs total"]) == ("3", "1", "1")


def test_an_inactive_node_reports_its_state(watched: Watched) -> None:
    watched.diagnostics.unwatch()
    watched.diagnostics.state = "inactive"
    watched.diagnostics.hardware_id = "cuda:0"
    level, message, values = watched.tick()
    assert (level, message, values["state"]) == (DiagnosticStatus.OK, "inactive", "inactive")
    assert watched.published[-1].status[0].hardware_id == "cuda:0"


def test_a_few_images_without_a_partner_cause_no_warning(watched: Watched) -> None:
    warnings: list[str] = []
    watched.diagnostics._node = _Node(
        lambda line: warnings.append(line) if "found no partner" in line else None
    )
    watched.pairs(60)
    watched.counters.done(FrameStats(), copies=1)
    watched.matcher.add_rgb(10**12, None)
    watched.matcher.add_rgb(10**12, None)  # a duplicate
    watched.tick(10.0)
    assert warnings == [], warnings
    for number in range(10):
        watched.matcher.add_rgb(2 * 10**12 + number * 100 * MS, None)
        watched.matcher.add_depth(2 * 10**12 + number * 100 * MS + 30 * MS, None)
    watched.tick(4.0)
    assert warnings == [], "every 5 s at most"
    watched.tick(1.0)
    (warning,) = warnings
    assert warning.startswith("11 rgb and 9 depth images found no partner in 5 s (/rgb 2.0 Hz")
    assert "1 publisher reliable" in warning
    assert "nearest stamps 30.0 ms apart" in warning
    watched.tick(5.0)
    assert len(warnings) == 1, "nothing new was lost"


def test_missing_pairs_are_logged_once_and_so_is_their_return(watched: Watched) -> None:
    lines: list[str] = []
    node = watched.diagnostics._node = _Node(lines.append)
    node.topic_type = "sensor_msgs/msg/CompressedImage"
    for _ in range(5):
        watched.tick()
    (line,) = lines
    assert line == (
        "no RGB-D pair for 3 s: nothing received on "
        "/rgb (1 publisher reliable of sensor_msgs/msg/CompressedImage, expected "
        "sensor_msgs/msg/Image) and /depth (1 publisher reliable of "
        "sensor_msgs/msg/CompressedImage, expected sensor_msgs/msg/Image)"
    )
    for _ in range(3):
        watched.pairs(1)
        watched.tick()
    assert lines[1:] == ["RGB-D pairs arrive again"]


def test_a_camera_that_has_not_been_started_causes_no_warning_in_the_log(watched: Watched) -> None:
    lines: list[str] = []
    node = watched.diagnostics._node = _Node(lambda line: lines.append(f"WARN {line}"))
    node.info = lines.append  # type: ignore[method-assign]
    node.publishers = 0
    for _ in range(5):
        watched.tick()
    assert watched.tick()[0] == DiagnosticStatus.WARN
    waiting = "waiting for a camera: nobody publishes /rgb and /depth"
    assert lines == [waiting]
    node.publishers = 1
    watched.tick()
    watched.tick(2.0)
    assert lines[1:] == ["found a camera"]
    watched.tick(1.0)
    (late,) = lines[2:]
    assert late.startswith("WARN no RGB-D pair for 3 s: nothing received on /rgb (1 publisher rel")
    watched.pairs(3)
    watched.tick()
    assert lines[3:] == ["RGB-D pairs arrive again"]
    node.publishers = 0  # it was there before: now its going is a fault
    for _ in range(4):
        watched.tick()
    (gone,) = lines[4:]
    assert gone.startswith("WARN no RGB-D pair for 3 s: nothing received on /rgb (no publisher)")


def test_compressed_images_are_expected_where_they_are_subscribed_to(watched: Watched) -> None:
    lines: list[str] = []
    node = watched.diagnostics._node = _Node(lines.append)
    node.topic_type = "sensor_msgs/msg/CompressedImage"
    topics = [("/rgb/compressed", node.topic_type), ("/depth", IMAGE)]
    watched.diagnostics.watch(watched.matcher.counts, watched.counters, topics)
    watched.tick(3.0)
    assert lines[0].endswith(
        "/rgb/compressed (1 publisher reliable) and /depth (1 publisher reliable of "
        "sensor_msgs/msg/CompressedImage, expected sensor_msgs/msg/Image)"
    )


def test_a_node_without_subscribers_is_idle_which_is_no_fault(watched: Watched) -> None:
    lines: list[str] = []
    watched.diagnostics._node = _Node(lines.append)
    watched.counters.set_warning(
        "depth", "/depth: the median is 1850 m"
    )  # of the last frame segmented
    idle = "idle: nobody subscribes to an output; the first subscriber resumes inference"
    for index in range(15):
        if index % 3 == 0:  # a camera slower than the report
            watched.pairs(1)
            watched.counters.drop("idle")
        level, message, values = watched.tick()
        assert (level, message) == (DiagnosticStatus.OK, idle)
    assert values["dropped: idle"] == "5"
    assert lines == [idle]
    watched.counters.set_warning("depth", "")
    watched.pairs(1)
    watched.counters.done(FrameStats(), copies=1)
    assert watched.tick()[:2] == (DiagnosticStatus.OK, "1.0 label images/s")
    assert lines[1:] == ["inference resumed: an output has a subscriber"]


def test_a_camera_that_stops_is_named_while_the_node_is_idle_too(watched: Watched) -> None:
    watched.pairs(1)
    watched.counters.drop("idle")
    watched.tick()
    for _ in range(3):
        level, message, _ = watched.tick()
    assert level == DiagnosticStatus.WARN
    assert message.startswith("no RGB-D pair for 3 s")


def test_inference_that_hangs_is_an_error(watched: Watched) -> None:
    lines: list[str] = []
    watched.diagnostics._node = _Node(lines.append)
    watched.pairs(1)
    watched.counters.done(FrameStats(), copies=1)
    watched.tick()
    for _ in range(9):
        watched.pairs(30)
        watched.counters.drop("overload")
        assert watched.tick()[0] == DiagnosticStatus.OK
    watched.pairs(30)
    level, message, _ = watched.tick()
    assert level == DiagnosticStatus.ERROR
    assert message.startswith("no label image for 10 s although pairs arrive")
    assert lines == [message]
    watched.pairs(30)
    watched.counters.done(FrameStats(), copies=1)
    assert watched.tick()[0] == DiagnosticStatus.OK
    assert lines[1:] == ["label images are published again"]


@pytest.mark.parametrize("cause", ["disabled", "bad_rgb", "inference_error"])
def test_dropped_frames_are_not_reported_as_a_hanging_inference(
    watched: Watched, cause: str
) -> None:
    for _ in range(15):
        watched.pairs(5)
        watched.counters.drop(cause, "why")
        assert "hangs" not in watched.tick()[1]


def test_a_degraded_node_warns_as_long_as_it_is_degraded(watched: Watched) -> None:
    watched.diagnostics.degraded = "on the CPU since cuda:0 failed"
    watched.pairs(1)
    level, message, _ = watched.tick()
    assert level == DiagnosticStatus.WARN
    assert message == "0.0 label images/s; on the CPU since cuda:0 failed"
    watched.counters.drop("inference_error", "boom")
    assert watched.tick()[0] == DiagnosticStatus.ERROR


def test_a_warning_about_the_input_stays_until_it_is_removed(watched: Watched) -> None:
    watched.counters.set_warning("depth", "/depth: the median is 1850 m")
    watched.pairs(1)
    assert watched.tick()[:2] == (DiagnosticStatus.WARN, "/depth: the median is 1850 m")
    watched.counters.set_warning("depth", "")
    watched.pairs(1)
    assert watched.tick()[0] == DiagnosticStatus.OK


def test_unknown_ages_are_left_out(watched: Watched) -> None:
    watched.counters.done(FrameStats(age_ms=float("nan"), inference_ms=2.0), copies=1)
    watched.pairs(1)
    values = watched.tick()[2]
    assert "age ms p50" not in values
    assert values["inference ms p50"] == "2.0"


class _Node:
    """The part of a node that the diagnostics use."""

    topic_type = IMAGE
    publishers = 1

    def __init__(self, warning: Any) -> None:
        self.warning = warning

    def get_logger(self) -> _Node:
        return self

    def info(self, text: str) -> None:
        self.warning(text)

    def get_fully_qualified_name(self) -> str:
        return "/sgnet"

    def get_clock(self) -> Any:
        return rclpy.clock.Clock()

    def get_publishers_info_by_topic(self, topic: str) -> list[Any]:
        class Info:
            qos_profile = rclpy.qos.QoSProfile(depth=1)
            topic_type = self.topic_type

        return [Info()] * self.publishers
