"""The synchronizer around the matcher, on inputs of message_filters and on others."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import Image

from clocks import StandingClock
from sgnet_ros.messages.headers import stamp_ns
from sgnet_ros.node.matcher import Pair, PairMatcher
from sgnet_ros.node.synchronizer import PairSynchronizer

MS = 1_000_000
PERIOD = 33
SIDES = ("rgb", "depth")

Arrival = tuple[str, int]
"""Stream and stamp in milliseconds."""


class Input:
    """The part of message_filters.SimpleFilter that a synchronizer needs."""

    def __init__(self) -> None:
        self._callbacks: list[Any] = []

    def registerCallback(self, cb: Any, *args: Any) -> int:
        self._callbacks.append((cb, args))
        return len(self._callbacks) - 1

    def signalMessage(self, *message: Any) -> None:
        for cb, args in self._callbacks:
            cb(*message, *args)


MISSING = "message_filters is not among the ROS 2 wheels"


def input_of(name: str) -> type:
    """Our `Input`, or the one of message_filters where it is installed."""
    if name == "own":
        return Input
    return pytest.importorskip("message_filters", reason=MISSING).SimpleFilter


INPUTS = ["own", "message_filters"]


@pytest.fixture(params=INPUTS)
def inputs(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    kind = input_of(request.param)
    return kind(), kind()


def image(stamp_ms: int, frame: str = "") -> Image:
    message = Image()
    message.header.frame_id = frame
    message.header.stamp.sec, rest = divmod(stamp_ms, 1000)
    message.header.stamp.nanosec = rest * MS
    return message


def test_pairs_of_two_inputs_reach_every_callback_with_its_arguments(inputs: Any) -> None:
    rgb, depth = inputs
    synchronizer = PairSynchronizer(inputs, 10, 0.01)
    pairs: list[tuple[Any, ...]] = []
    assert synchronizer.registerCallback(lambda *a: pairs.append(a)) == 0
    assert synchronizer.registerCallback(lambda *a: pairs.append(a), "mark") == 1
    rgb.signalMessage(image(1500, "rgb"))
    depth.signalMessage(image(1500, "depth"))
    assert [len(pair) for pair in pairs] == [2, 3]
    assert [m.header.frame_id for m in pairs[0]] == ["rgb", "depth"]
    assert pairs[1][2] == "mark"
    assert synchronizer.take_matching_ms() > 0
    assert synchronizer.take_matching_ms() == 0
    counts = synchronizer.counts()
    assert (counts.pairs, counts.rgb.received, counts.depth.received) == (1, 1, 1)
    assert counts.rgb.lost == counts.depth.lost == 0


def test_a_callback_that_raises_is_reported_and_leaves_the_synchronizer_working(
    inputs: Any,
) -> None:
    rgb, depth = inputs
    stamps, errors = [], []

    def consume(rgb: Image, depth: Image) -> None:
        stamps.append(rgb.header.stamp.nanosec // MS)
        if len(stamps) == 1:
            raise KeyError("boom")

    synchronizer = PairSynchronizer(inputs, 10, 0, on_error=errors.append)
    synchronizer.registerCallback(consume)
    for stamp in (100, 200, 300):
        rgb.signalMessage(image(stamp))
        depth.signalMessage(image(stamp))
    assert stamps == [100, 200, 300]
    assert [type(error) for error in errors] == [KeyError]


def test_without_a_handler_the_exception_is_raised_and_the_next_pair_comes() -> None:
    received = []

    def consume(rgb: Image, depth: Image) -> None:
        received.append(rgb)
        raise KeyError("boom")

    synchronizer = PairSynchronizer([], 10, 0)
    synchronizer.registerCallback(consume)
    for stamp in (100, 200):
        synchronizer.add_rgb(image(stamp))
        with pytest.raises(KeyError, match="boom"):
            synchronizer.add_depth(image(stamp))
    assert len(received) == 2


def test_settle_emits_a_pair_that_waits_for_a_better_partner(inputs: Any) -> None:
    rgb, depth = inputs
    clock = StandingClock()
    received = []
    synchronizer = PairSynchronizer(inputs, 10, 0.02, clock=clock)
    synchronizer.registerCallback(lambda *pair: received.append(pair))
    depth.signalMessage(image(100))
    rgb.signalMessage(image(110))
    synchronizer.settle()
    assert received == []
    clock.ms = 100
    synchronizer.settle()
    assert len(received) == 1


def test_the_slop_can_be_changed() -> None:
    received = []
    synchronizer = PairSynchronizer([], 10, 0.0)
    synchronizer.registerCallback(lambda *pair: received.append(pair))
    for stamp, slop in ((100, 0.0), (200, 0.02)):
        synchronizer.set_slop(slop)
        synchronizer.add_rgb(image(stamp))
        synchronizer.add_depth(image(stamp + 10))
        synchronizer.add_rgb(image(stamp + 33))
    assert len(received) == 1
    assert synchronizer.counts().slop_ns == 20 * MS


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_inputs_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"two inputs, RGB and depth, not {count}"):
        PairSynchronizer([Input()] * count, 10, 0.02)


def test_messages_without_a_header_are_refused() -> None:
    with pytest.raises(ValueError, match="allow_headerless"):
        PairSynchronizer([], 10, 0.02, allow_headerless=True)


# Promises that upstream's synchronizer keeps as well, and those that it does not

SYNCHRONIZERS = ["PairSynchronizer", "ApproximateTimeSynchronizer"]


def stamps_of_pairs(name: str, arrivals: list[Arrival], slop: float) -> list[tuple[int, ...]]:
    """Stamps in milliseconds of the pairs that a synchronizer makes of these arrivals."""
    kind: type = Input
    made: type = PairSynchronizer
    if name != "PairSynchronizer":
        upstream = pytest.importorskip("message_filters", reason=MISSING)
        kind, made = upstream.SimpleFilter, upstream.ApproximateTimeSynchronizer
    sources = {side: kind() for side in SIDES}
    synchronizer = made([sources["rgb"], sources["depth"]], 10, slop)
    pairs: list[tuple[Image, Image]] = []
    synchronizer.registerCallback(lambda *pair: pairs.append(pair))
    for stream, stamp in arrivals:
        sources[stream].signalMessage(image(stamp))
    return [tuple(stamp_ns(m.header) // MS for m in pair) for pair in pairs]


@pytest.mark.parametrize("name", SYNCHRONIZERS)
def test_equal_stamps_are_paired_by_either_synchronizer(name: str) -> None:
    arrivals = [(side, 1000 + i * PERIOD) for i in range(5) for side in SIDES]
    expected = [(1000 + i * PERIOD,) * 2 for i in range(5)]
    assert stamps_of_pairs(name, arrivals, 0.02) == expected


@pytest.mark.parametrize("name", SYNCHRONIZERS)
def test_stamps_beyond_the_slop_are_paired_by_neither(name: str) -> None:
    arrivals = [(s, 1000 + i * 100 + (30 if s == "depth" else 0)) for i in range(5) for s in SIDES]
    assert stamps_of_pairs(name, arrivals, 0.02) == []


@pytest.mark.parametrize("name", SYNCHRONIZERS)
def test_only_pair_synchronizer_accepts_slop_0_and_takes_the_nearest_partner(name: str) -> None:
    own = name == "PairSynchronizer"
    equal = [("rgb", 1000), ("depth", 1000)]
    assert stamps_of_pairs(name, equal, 0.0) == ([(1000, 1000)] if own else [])
    nearer_comes_later = [("rgb", 1000), ("depth", 985), ("depth", 1001), ("rgb", 1033)]
    (first, *_) = stamps_of_pairs(name, nearer_comes_later, 0.02)
    assert first == ((1000, 1001) if own else (1000, 985))


# The whole contract, through the synchronizer, with cameras that misbehave

TROUBLES = ("none", "loop", "forward", "backward", "small step back", "rgb stalls", "depth stalls")
TROUBLES += ("zero stamps", "duplicates")
SLOP_MS = 12


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
    """Two inputs, a synchronizer on them, and an account of what went in and came out."""

    def __init__(self, kind: type, queue_size: int = 6) -> None:
        self.clock = StandingClock()
        self.inputs = {"rgb": kind(), "depth": kind()}
        self.synchronizer = PairSynchronizer(
            list(self.inputs.values()), queue_size, SLOP_MS / 1000, clock=self.clock
        )
        self.synchronizer.registerCallback(self._emit)
        self.matcher: PairMatcher[Image] = self.synchronizer._matcher
        self.pairs: list[Pair[Image]] = []
        self._arrived: dict[int, float] = {}  # when, by id of the message
        self._kept: list[Image] = []  # so that no id comes twice
        self._newest = {"rgb": -1, "depth": -1}
        self._last = (-1, -1)
        self._went_back = False

    def receive(self, stream: str, stamp_ms: int) -> None:
        """One message arrives; the synchronizer's timer goes on at its own pace."""
        self.pass_time(3)
        message = image(stamp_ms, stream)
        self._arrived[id(message)] = self.clock.ms
        self._kept.append(message)
        # Going back by more than the slop is a jump: from there on, older pairs are in order.
        self._went_back |= stamp_ms < self._newest[stream] - SLOP_MS
        self._newest[stream] = max(self._newest[stream], stamp_ms)
        if self._went_back:
            self._newest[stream] = stamp_ms
        self.inputs[stream].signalMessage(message)
        self.assert_accounted()

    def pass_time(self, ms: int) -> None:
        """Moves the clock on; settles every 100 ms as the node does."""
        for _ in range(ms):
            self.clock.ms += 1
            if self.clock.ms % 100 == 0:
                self.synchronizer.settle()

    def _emit(self, rgb: Image, depth: Image) -> None:
        pair = Pair(rgb, depth, stamp_ns(rgb.header), stamp_ns(depth.header))
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


@settings(max_examples=70)
@given(stretches=troubled_cameras())
@pytest.mark.parametrize("name", INPUTS)
def test_misbehaving_cameras_cause_no_repeated_backward_or_unaccounted_pair(
    name: str, stretches: list[list[Arrival]]
) -> None:
    cameras = Cameras(input_of(name))
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


@settings(max_examples=70)
@given(stretches=troubled_cameras(), back=st.integers(1, 3_600_000))
def test_after_a_jump_back_the_second_frame_at_the_latest_is_paired(
    stretches: list[list[Arrival]], back: int
) -> None:
    cameras = Cameras(Input)
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
