"""The synchroniser around the matcher, on message_filters and on our own filters."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import rclpy
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from clocks import StandingClock
from sgnet_ros.node.synchronizer import Pair, PairMatcher, PairSynchronizer

MS = 1_000_000
PERIOD = 33


@pytest.fixture(params=["sgnet_ros.node.filters", "message_filters"])
def filters(request: pytest.FixtureRequest) -> Any:
    if request.param == "message_filters":
        return pytest.importorskip(request.param, reason="needs a ROS 2 distribution's package")
    return importlib.import_module(request.param)


def image(stamp_ms: int, frame: str = "") -> Image:
    message = Image()
    message.header.frame_id = frame
    message.header.stamp.sec, rest = divmod(stamp_ms, 1000)
    message.header.stamp.nanosec = rest * MS
    return message


def test_pairs_of_two_filters_reach_the_consumer(filters: Any) -> None:
    rgb, depth = filters.SimpleFilter(), filters.SimpleFilter()
    pairs: list[tuple[Pair[Image], float]] = []
    matcher: PairMatcher[Image] = PairMatcher(10 * MS)
    PairSynchronizer(rgb, depth, matcher, lambda *a: pairs.append(a), pytest.fail)
    rgb.signalMessage(image(1500, "rgb"))
    depth.signalMessage(image(1500, "depth"))
    ((pair, spent_ms),) = pairs
    assert (pair.rgb.header.frame_id, pair.depth.header.frame_id) == ("rgb", "depth")
    assert pair.rgb_ns == pair.depth_ns == 1500 * MS
    assert pair.skew_ms == 0
    assert 0 < spent_ms < 50


def test_a_consumer_that_raises_leaves_the_synchroniser_working(filters: Any) -> None:
    rgb, depth = filters.SimpleFilter(), filters.SimpleFilter()
    stamps, errors = [], []

    def consume(pair: Pair[Image], _: float) -> None:
        stamps.append(pair.rgb_ns // MS)
        if len(stamps) == 1:
            raise KeyError("boom")

    PairSynchronizer(rgb, depth, PairMatcher(0), consume, errors.append)
    for stamp in (100, 200, 300):
        rgb.signalMessage(image(stamp))
        depth.signalMessage(image(stamp))
    assert stamps == [100, 200, 300]
    assert [type(error) for error in errors] == [KeyError]


def test_what_waits_is_handed_on_by_settle(filters: Any) -> None:
    rgb, depth = filters.SimpleFilter(), filters.SimpleFilter()
    clock = StandingClock()
    skews = []
    synchronizer = PairSynchronizer(
        rgb,
        depth,
        PairMatcher(20 * MS, clock=clock),
        lambda pair, _: skews.append(pair.skew_ms),
        pytest.fail,
    )
    depth.signalMessage(image(100))
    rgb.signalMessage(image(110))
    synchronizer.settle()
    assert skews == []
    clock.ms = 100
    synchronizer.settle()
    assert skews == [-10.0]


@pytest.fixture
def node() -> Iterator[Any]:
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("filters", context=context)
    yield node
    node.destroy_node()
    context.shutdown()


def test_a_subscriber_is_a_filter(filters: Any, node: Any) -> None:
    executor = rclpy.executors.SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    received = []
    subscriber = filters.Subscriber(
        node, Image, "filters/image", qos_profile=qos_profile_sensor_data
    )
    subscriber.registerCallback(lambda *a: received.append(a), "mark")
    assert subscriber.sub.topic_name == "/filters/image"
    publisher = node.create_publisher(Image, "filters/image", 1)
    for _ in range(100):
        publisher.publish(image(1, "x"))
        executor.spin_once(timeout_sec=0.1)
        if received:
            break
    message, mark = received[0]
    assert message.header.frame_id == "x"
    assert mark == "mark"
    assert node.destroy_subscription(subscriber.sub)
    executor.shutdown()


# The whole contract, through the synchroniser, with cameras that misbehave

TROUBLES = ("none", "loop", "forward", "backward", "small step back", "rgb stalls", "depth stalls")
TROUBLES += ("zero stamps", "duplicates")
SLOP_MS = 12

Arrival = tuple[str, int]
"""Stream and stamp in milliseconds."""


@st.composite
def troubled_cameras(draw: st.DrawFn) -> list[list[Arrival]]:
    """Stretches of two streams, in the order of their arrival, each with a trouble at its end."""
    stretches, now = [], draw(st.integers(0, 10_000)) * PERIOD
    for _ in range(draw(st.integers(1, 4))):
        count = draw(st.integers(2, 8))
        lag = {"rgb": draw(st.integers(0, 80)), "depth": draw(st.integers(0, 80))}
        skew = {"rgb": 0, "depth": draw(st.integers(-15, 15))}
        arrivals = []
        for index in range(count):
            for stream in ("rgb", "depth"):
                if draw(st.integers(0, 9)) == 0:
                    continue  # lost
                stamp = now + index * PERIOD + skew[stream] + draw(st.integers(-2, 2))
                # late ones may overtake each other, also within a stream
                arrivals.append((stamp + lag[stream] + draw(st.integers(0, 40)), stream, stamp))
        stretch = [(stream, max(0, stamp)) for _, stream, stamp in sorted(arrivals)]
        now += count * PERIOD
        trouble = draw(st.sampled_from(TROUBLES))
        more = draw(st.integers(1, 12))
        if trouble == "loop":
            stretch += stretch
        elif trouble == "forward":
            now += more * 3_600_000
        elif trouble == "backward":
            now = max(0, now - more * 3_600_000)
        elif trouble == "small step back":
            now = max(0, now - more)
        elif trouble.endswith("stalls"):
            going = "depth" if trouble.startswith("rgb") else "rgb"
            stretch += [(going, now + index * PERIOD) for index in range(more)]
            now += more * PERIOD
        elif trouble == "zero stamps":
            stretch += [(stream, 0) for _ in range(more) for stream in ("rgb", "depth")]
        elif trouble == "duplicates":
            stretch += [arrival for arrival in stretch[-4:] for _ in range(2)]
        stretches.append(stretch)
    return stretches


class Cameras:
    """Two filters, a synchroniser on them, and an account of what went in and came out."""

    def __init__(self, filters: Any, queue_size: int = 6) -> None:
        self.clock = StandingClock()
        self.filters = {"rgb": filters.SimpleFilter(), "depth": filters.SimpleFilter()}
        self.matcher: PairMatcher[Image] = PairMatcher(SLOP_MS * MS, queue_size, self.clock)
        self.synchronizer = PairSynchronizer(
            self.filters["rgb"], self.filters["depth"], self.matcher, self._emit, pytest.fail
        )
        self.pairs: list[Pair[Image]] = []
        self._arrived: dict[int, float] = {}  # when, by id of the message
        self._kept: list[Image] = []  # so that no id comes twice
        self._newest = {"rgb": -1, "depth": -1}
        self._last = (-1, -1)
        self._went_back = False

    def receive(self, stream: str, stamp_ms: int) -> None:
        """One message arrives; the synchroniser's timer goes on at its own pace."""
        self.pass_time(3)
        message = image(stamp_ms, stream)
        self._arrived[id(message)] = self.clock.ms
        self._kept.append(message)
        # Going back by more than the slop is a jump: from there on, older pairs are in order.
        self._went_back |= stamp_ms < self._newest[stream] - SLOP_MS
        self._newest[stream] = max(self._newest[stream], stamp_ms)
        if self._went_back:
            self._newest[stream] = stamp_ms
        self.filters[stream].signalMessage(message)
        self.assert_accounted()

    def pass_time(self, ms: int) -> None:
        """Moves the clock on; settles every 100 ms as the node does."""
        for _ in range(ms):
            self.clock.ms += 1
            if self.clock.ms % 100 == 0:
                self.synchronizer.settle()

    def _emit(self, pair: Pair[Image], _: float) -> None:
        assert pair.rgb.header.frame_id == "rgb"
        assert pair.depth.header.frame_id == "depth"
        assert abs(pair.rgb_ns - pair.depth_ns) <= SLOP_MS * MS
        if not self._went_back:
            assert pair.rgb_ns > self._last[0]
            assert pair.depth_ns > self._last[1]
        self._went_back = False
        self._last = (pair.rgb_ns, pair.depth_ns)
        # removed: each at most once; and no later than the patience and one turn of the timer
        complete = max(self._arrived.pop(id(pair.rgb)), self._arrived.pop(id(pair.depth)))
        assert self.clock.ms - complete <= 200
        self.pairs.append(pair)

    def assert_accounted(self) -> None:
        assert self.matcher.pairs == len(self.pairs)
        for stream in (self.matcher.rgb, self.matcher.depth):
            assert stream.lost == sum(stream.unmatched.values())
            assert stream.received == self.matcher.pairs + stream.lost + len(stream)
            assert len(stream) <= self.matcher.queue_size


@settings(deadline=None, max_examples=70)  # no deadline: the machine may be busy
@given(stretches=troubled_cameras())
@pytest.mark.parametrize("name", ["sgnet_ros.node.filters", "message_filters"])
def test_cameras_that_misbehave_cost_no_pair_twice_backwards_held_or_unaccounted(
    name: str, stretches: list[list[Arrival]]
) -> None:
    filters = pytest.importorskip(name, reason="needs a ROS 2 distribution's package")
    cameras = Cameras(filters)
    for stretch in stretches:
        for stream, stamp in stretch:
            cameras.receive(stream, stamp)
    cameras.pass_time(300)
    cameras.assert_accounted()
    waiting = [[w.stamp for w in side] for side in (cameras.matcher.rgb, cameras.matcher.depth)]
    gaps = [abs(rgb - depth) for rgb in waiting[0] for depth in waiting[1]]
    assert min(gaps, default=10**18) > SLOP_MS * MS, "what makes a pair is not held"

    # whatever came before, frames that are as they should be are paired, and nothing else stays
    start = 10**9 + max((stamp for stretch in stretches for _, stamp in stretch), default=0)
    before = len(cameras.pairs)
    for index in range(5):
        cameras.receive("rgb", start + index * PERIOD)
        cameras.receive("depth", start + index * PERIOD)
    assert [p.rgb_ns // MS - start for p in cameras.pairs[before:]] == [
        index * PERIOD for index in range(5)
    ]
    assert len(cameras.matcher.rgb) == len(cameras.matcher.depth) == 0


@settings(deadline=None, max_examples=70)
@given(stretches=troubled_cameras(), back=st.integers(1, 3_600_000))
def test_after_a_jump_back_the_second_frame_at_the_latest_is_paired(
    stretches: list[list[Arrival]], back: int
) -> None:
    cameras = Cameras(importlib.import_module("sgnet_ros.node.filters"))
    for stretch in stretches:
        for stream, stamp in stretch:
            cameras.receive(stream, stamp)
    cameras.pass_time(300)
    lowest = min((stamp for stretch in stretches for _, stamp in stretch), default=0)
    start = max(0, lowest - back)
    before = len(cameras.pairs)
    for index in range(6):
        cameras.receive("rgb", start + index * PERIOD)
        cameras.receive("depth", start + index * PERIOD)
    paired = [p.rgb_ns // MS for p in cameras.pairs[before:]]
    expected = [start + index * PERIOD for index in range(6)]
    assert paired[-4:] == expected[-4:]
