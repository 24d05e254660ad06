"""The matcher: pairs of images, and the images without a partner."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clocks import StandingClock
from sgnet_ros.node.matcher import Pair, PairMatcher

MS = 1_000_000
PERIOD = 33


class Streams:
    """A matcher that is fed in milliseconds, and everything that it emitted."""

    def __init__(self, slop_ms: float = 20, queue_size: int = 10) -> None:
        self.clock = StandingClock()
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


def test_a_pair_waits_for_a_limited_time_for_a_silent_stream() -> None:
    streams = Streams()
    streams.add("depth", 0)
    assert streams.add("rgb", 10) == []
    streams.clock.ms = 99
    assert streams.settle() == []
    streams.clock.ms = 100
    assert streams.settle() == [(10, 0)]
    streams.assert_accounted()


def test_streams_of_different_rates_are_accounted_for() -> None:
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


def test_the_skew_of_images_without_a_partner_is_measured() -> None:
    streams = Streams(slop_ms=5)
    for stamp in range(0, 330, PERIOD):
        streams.add("rgb", stamp)
        streams.add("depth", stamp + 12)
    assert streams.emitted == []
    assert streams.matcher.rgb.nearest_ns == 12 * MS
    assert streams.matcher.depth.nearest_ns == 12 * MS


@pytest.mark.parametrize("length", [2, 5, 30])
@pytest.mark.parametrize("offset", [0, 4])
def test_a_looped_recording_is_paired_after_each_jump_back(length: int, offset: int) -> None:
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


def test_equal_stamps_in_succession_give_one_pair_and_are_counted() -> None:
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


@given(arrivals=arrivals, slop=st.integers(0, 60), queue_size=st.integers(1, 8))
def test_no_image_is_paired_twice_backwards_or_lost(
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
