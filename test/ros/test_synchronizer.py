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

from sgnet_ros.synchronizer import Pair, PairMatcher, PairSynchronizer

MS = 1_000_000
PERIOD = 33


class Clock:
    """A clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.ms = 0.0

    def __call__(self) -> int:
        return int(self.ms * MS)


class Streams:
    """A matcher that is fed in milliseconds, and everything that it emitted."""

    def __init__(self, slop_ms: float = 20, queue_size: int = 10) -> None:
        self.clock = Clock()
        self.matcher: PairMatcher[Any] = PairMatcher(int(slop_ms * MS), queue_size, self.clock)
        self.emitted: list[Pair[Any]] = []

    def add(self, stream: str, stamp_ms: float) -> list[tuple[float, float]]:
        """Adds an item that remembers its stream and stamp; the pairs' stamps come back."""
        add = self.matcher.add_rgb if stream == "rgb" else self.matcher.add_depth
        return self._note(add(round(stamp_ms * MS), (stream, stamp_ms)))

    def settle(self) -> list[tuple[float, float]]:
        return self._note(self.matcher.settle())

    def _note(self, pairs: list[Pair[Any]]) -> list[tuple[float, float]]:
        for pair in pairs:
            assert pair.rgb[0] == "rgb"
            assert pair.depth[0] == "depth"
            assert (pair.rgb_ns, pair.depth_ns) == (
                round(pair.rgb[1] * MS),
                round(pair.depth[1] * MS),
            )
        self.emitted += pairs
        return [(pair.rgb[1], pair.depth[1]) for pair in pairs]

    def assert_accounted(self) -> None:
        for stream in (self.matcher.rgb, self.matcher.depth):
            assert stream.lost == sum(stream.unmatched.values())
            left = self.matcher.pairs + stream.lost + len(stream)
            assert stream.received == left, (stream.unmatched, len(stream), self.matcher.pairs)


def test_equal_stamps_are_a_pair_at_once_in_either_order() -> None:
    streams = Streams(slop_ms=0)
    assert streams.add("rgb", 5) == []
    assert streams.add("depth", 5) == [(5, 5)]
    assert streams.add("depth", 38) == []
    assert streams.add("rgb", 38) == [(38, 38)]


def test_slop_zero_takes_equal_stamps_only() -> None:
    streams = Streams(slop_ms=0)
    for stamp in range(0, 330, PERIOD):
        streams.add("rgb", stamp)
        streams.add("depth", stamp + 1e-6)  # one nanosecond later
    assert streams.emitted == []
    assert streams.matcher.rgb.unmatched["no_partner"] == 10
    streams.add("rgb", 400)
    assert streams.add("depth", 400) == [(400, 400)]


def test_the_slop_itself_is_still_a_pair() -> None:
    for skew, expected in ((20, 1), (20.000001, 0)):
        streams = Streams(slop_ms=20)
        streams.add("rgb", 100)
        streams.add("depth", 100 + skew)
        streams.add("rgb", 200)
        assert len(streams.emitted) == expected, skew


def test_the_nearest_wins_over_the_first() -> None:
    streams = Streams()
    streams.add("depth", 0)
    assert streams.add("rgb", 10) == []  # depth 0 would do, but a nearer one may come
    assert streams.add("depth", 12) == []  # and to this one a nearer rgb
    assert streams.add("rgb", 43) == [(10, 12)]
    assert streams.matcher.depth.unmatched == {"no_partner": 1}


def test_the_nearest_wins_among_waiting_rgb_images() -> None:
    streams = Streams()
    for stamp in (0, 10, 20):
        streams.add("rgb", stamp)
    assert streams.add("depth", 11) == [(10, 11)]
    assert streams.matcher.rgb.unmatched == {"no_partner": 1}
    assert len(streams.matcher.rgb) == 1


@pytest.mark.parametrize("offset", [-12, -3, 0, 7, 12])
def test_steady_streams_pair_without_waiting(offset: int) -> None:
    streams = Streams()
    for index in range(20):
        stamp = 1000 + index * PERIOD
        order = [("rgb", stamp), ("depth", stamp + offset)]
        first, last = order if offset >= 0 else order[::-1]
        streams.add(*first)
        settled = streams.add(*last)
        if index >= 4:  # the rates are known by then
            assert settled == [(stamp, stamp + offset)], index
    assert len(streams.emitted) == 20


def test_a_pair_does_not_wait_for_ever_for_a_stream_that_fell_silent() -> None:
    streams = Streams()
    streams.add("depth", 0)
    assert streams.add("rgb", 10) == []
    streams.clock.ms = 99
    assert streams.settle() == []
    streams.clock.ms = 100
    assert streams.settle() == [(10, 0)]
    streams.assert_accounted()


def test_each_rate_of_two_different_ones_is_accounted_for() -> None:
    streams = Streams(slop_ms=5)
    for index in range(60):
        streams.add("rgb", index * PERIOD)
        if index % 2 == 0:
            streams.add("depth", index * PERIOD + 1)
    streams.add("depth", 60 * PERIOD + 1)
    assert [pair.rgb_ns // MS for pair in streams.emitted] == list(range(0, 60 * PERIOD, 66))
    assert streams.matcher.rgb.unmatched == {"no_partner": 30}
    streams.assert_accounted()


def test_a_silent_stream_does_not_fill_the_memory() -> None:
    streams = Streams(queue_size=4)
    for stamp in range(0, 3300, PERIOD):
        streams.add("rgb", stamp)
    assert len(streams.matcher.rgb) == 4
    assert streams.matcher.rgb.unmatched == {"queue_full": 96}
    newest = 99 * PERIOD
    assert streams.add("depth", newest) == [(newest, newest)]


def test_the_measured_skew_of_what_finds_no_partner() -> None:
    streams = Streams(slop_ms=5)
    for stamp in range(0, 330, PERIOD):
        streams.add("rgb", stamp)
        streams.add("depth", stamp + 12)
    assert streams.emitted == []
    assert streams.matcher.rgb.nearest_ns == 12 * MS
    assert streams.matcher.depth.nearest_ns == 12 * MS


@pytest.mark.parametrize("length", [2, 5, 30])
@pytest.mark.parametrize("offset", [0, 4])
def test_a_looped_recording_goes_on_after_each_jump_back(length: int, offset: int) -> None:
    streams = Streams()
    loops = 4
    for _ in range(loops):
        for index in range(length):
            streams.add("rgb", 5000 + index * PERIOD)
            streams.add("depth", 5000 + offset + index * PERIOD)
    streams.clock.ms += 1000
    streams.settle()
    assert streams.matcher.time_jumps == loops - 1
    lost = loops * length - len(streams.emitted)
    assert lost <= loops - 1, "a jump may cost the pair that waits, no more"
    streams.assert_accounted()


def test_a_stream_that_jumps_late_does_not_lose_the_new_images_of_the_other() -> None:
    streams = Streams()
    streams.add("rgb", 90000)
    streams.add("depth", 90000)
    for stamp in (0, 33, 66):
        assert streams.add("rgb", stamp) == []
    assert [pair for stamp in (0, 33, 66) for pair in streams.add("depth", stamp)] == [
        (0, 0),
        (33, 33),
        (66, 66),
    ]


def test_stamps_that_stand_still_give_one_pair_and_are_counted() -> None:
    streams = Streams()
    for _ in range(50):
        streams.add("rgb", 0)
        streams.add("depth", 0)
    assert len(streams.emitted) == 1
    assert streams.matcher.rgb.unmatched == {"not_newer": 49}
    assert streams.matcher.depth.unmatched == {"not_newer": 49}


# any order of arrival, duplicates, jumps to anywhere, stalls
arrivals = st.lists(
    st.tuples(st.sampled_from(["rgb", "depth"]), st.integers(0, 400), st.integers(0, 60)),
    max_size=120,
)


@settings(deadline=None)  # the machine may be busy
@given(arrivals=arrivals, slop=st.integers(0, 60), queue_size=st.integers(1, 8))
def test_whatever_arrives_no_image_is_paired_twice_or_backwards_or_lost(
    arrivals: list[tuple[str, int, int]], slop: int, queue_size: int
) -> None:
    streams = Streams(slop, queue_size)
    last = (-1.0, -1.0)
    used = set()
    for serial, (stream, stamp, wait) in enumerate(arrivals):
        streams.clock.ms += wait
        jumps = streams.matcher.time_jumps
        before = len(streams.emitted)
        unique = stamp + serial * 1e-6  # so that an item can be told from its duplicates
        streams.add(stream, stamp if serial % 3 else unique)
        if streams.matcher.time_jumps > jumps:
            last = (-1.0, -1.0)
        for pair in streams.emitted[before:]:
            rgb, depth = pair.rgb[1], pair.depth[1]
            assert abs(pair.rgb_ns - pair.depth_ns) <= slop * MS
            assert rgb > last[0]
            assert depth > last[1]
            last = (rgb, depth)
            used.add(id(pair.rgb))
            used.add(id(pair.depth))
        assert len(streams.matcher.rgb) <= queue_size
        assert len(streams.matcher.depth) <= queue_size
        streams.assert_accounted()
    assert len(used) == 2 * len(streams.emitted)


@st.composite
def recordings(draw: st.DrawFn) -> tuple[list[float], list[float], list[tuple[float, str, float]]]:
    """Two jittered streams with losses; their stamps, and (arrival, stream, stamp) in that order.

    Never more than one image in four is lost, so that the streams show their rate.
    """
    sides = []
    arrivals = []
    for stream in ("rgb", "depth"):
        phase = draw(st.integers(0, 2 * PERIOD))
        count = draw(st.integers(3, 40))
        jitter = draw(st.lists(st.integers(-3, 3), min_size=count, max_size=count))
        lost = draw(st.lists(st.booleans(), min_size=count, max_size=count))
        lag = draw(st.integers(0, 60))
        stamps = [
            float(1000 + phase + index * PERIOD + jitter[index])
            for index in range(count)
            if not (lost[index] and index % 4 == 3)
        ]
        sides.append(stamps)
        arrivals += [(stamp + lag, stream, stamp) for stamp in stamps]
    return sides[0], sides[1], sorted(arrivals)


@settings(deadline=None)  # the machine may be busy
@given(recording=recordings())
def test_the_nearest_in_the_whole_recording_is_the_partner(recording: tuple) -> None:
    rgbs, depths, arrivals = recording
    streams = Streams(slop_ms=30)
    for arrival, stream, stamp in arrivals:
        streams.clock.ms = arrival
        streams.add(stream, stamp)
    streams.clock.ms += 1000
    streams.settle()

    def nearest(stamp: float, others: list[float]) -> float:
        return min(others, key=lambda other: abs(other - stamp))

    expected = {
        (rgb, nearest(rgb, depths))
        for rgb in rgbs
        if depths
        and abs(nearest(rgb, depths) - rgb) <= 30
        and nearest(nearest(rgb, depths), rgbs) == rgb
    }
    got = {(pair.rgb[1], pair.depth[1]) for pair in streams.emitted}
    assert got >= expected
    taken = {depth for _, depth in got}
    for rgb, depth in got - expected:  # second best is for those whose best was taken
        assert nearest(rgb, depths) == depth or nearest(rgb, depths) in taken
    streams.assert_accounted()


@settings(deadline=None)  # the machine may be busy
@given(recording=recordings(), where=st.floats(0, 1))
def test_a_recording_looped_with_its_streams_out_of_step_recovers(
    recording: tuple, where: float
) -> None:
    _, _, arrivals = recording
    streams = Streams(slop_ms=30)
    cut = int(where * len(arrivals))
    for _, stream, stamp in arrivals + arrivals[:cut] + arrivals:
        streams.add(stream, stamp)
    streams.assert_accounted()
    for index in range(3):
        streams.add("rgb", 9000 + index * PERIOD)
        streams.add("depth", 9000 + index * PERIOD)
    assert [pair.rgb[1] for pair in streams.emitted[-3:]] == [9000, 9033, 9066]


# The synchroniser around the matcher, on message_filters and on our own filters


@pytest.fixture(params=["sgnet_ros.filters", "message_filters"])
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
    clock = Clock()
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
        self.clock = Clock()
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
@pytest.mark.parametrize("name", ["sgnet_ros.filters", "message_filters"])
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
    cameras = Cameras(importlib.import_module("sgnet_ros.filters"))
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
