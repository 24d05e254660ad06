"""Clocks, old drivers and archives: frames are matched by exposure, or refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bag_messages import HEIGHT, MS, WIDTH, Maker, Messages, colors, depths
from sgnet_ros.recordings.bag_source import BagSource
from sgnet_ros.recordings.errors import BagError
from sgnet_ros.recordings.matching import NoPairsError

S = 10**9
MAKE = Maker(2)


def frame(number: int, **times: int) -> Messages:
    """Return color and depth of a frame; ``color`` and ``depth`` are stamps, ``late`` a delay."""
    stamp = S + number * 100 * MS
    color, depth = times.get("color", stamp), times.get("depth", times.get("color", stamp))
    time = times.get("time", stamp)
    return [
        ("/c/color/image_raw", time, MAKE.image(colors(number), "rgb8", color)),
        ("/c/depth/image", time + times.get("late", 0), MAKE.image(depths(number), "16UC1", depth)),
    ]


def joined(parts: Iterable[Messages]) -> Messages:
    return [message for part in parts for message in part]


def numbers(messages: Messages, folder: Path) -> list[int]:
    """Return the numbers of the frames that a bag of messages gives; color and depth agree."""
    found = []
    for frame in BagSource(MAKE.write(folder / "a.mcap", messages)):
        found.append(next(i for i in range(99) if np.array_equal(frame.rgb, colors(i))))
        np.testing.assert_array_equal(frame.depth, depths(found[-1]))
    return found


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (joined(frame(i, color=0, time=S + i * 100 * MS) for i in range(4)), [0, 1, 2, 3]),
        (joined(frame(i, depth=0) for i in range(4)), [0, 1, 2, 3]),
        (joined(frame(i, color=(9 * S if i < 2 else S) + i) for i in range(4)), [0, 1, 2, 3]),
        (joined(frame(i, color=(S if i < 2 else 10**17) + i) for i in range(4)), [0, 1, 2, 3]),
        (joined(frame(i, color=(S // 1000 + i * 10**5)) for i in range(4)), [0, 1, 2, 3]),
        (joined(frame(i, late=S) for i in range(8)), list(range(8))),
        (joined(frame(i, time=S + j) for j, i in enumerate([0, 2, 1, 3])), [0, 1, 2, 3]),
        (joined(frame(i, color=5 * S, time=S + i * 100 * MS) for i in range(4)), [0, 1, 2, 3]),
        (joined(frame(i, color=S // 2, time=S + i * 100 * MS) for i in range(4)), [0, 1, 2, 3]),
        (joined(frame(i) * 2 for i in range(3)), [0, 1, 2]),
        (frame(0), [0]),
    ],
    ids=[
        *("no stamps", "no stamps of depth", "clock set back", "clock set forward", "microseconds"),
        *(
            "depth comes late",
            "frames overtake",
            "clock stands still",
            "clock stands in the past",
            "recorded twice",
            "one frame",
        ),
    ],
)
def test_frames_are_matched_whatever_the_clock(
    tmp_path: Path, messages: Messages, expected: list[int]
) -> None:
    assert numbers(messages, tmp_path) == expected


def test_streams_of_two_clocks_are_refused_with_the_gap(tmp_path: Path) -> None:
    messages = joined(frame(i, depth=7 * S + i * 100 * MS) for i in range(4))
    with pytest.raises(NoPairsError, match="Use one clock for both"):
        numbers(messages, tmp_path)


def test_byte_order_and_padding_of_depth(tmp_path: Path) -> None:
    big = MAKE.image(depths(0).astype(">u2"), "16UC1", S)
    big.is_bigendian = 1
    rows = np.zeros((HEIGHT, 2 * WIDTH + 5), np.uint8)
    rows[:, : 2 * WIDTH] = depths(0).view(np.uint8)
    padded = MAKE.image(rows, "16UC1", S)
    padded.width = WIDTH
    for image in (big, padded):
        messages = [frame(0)[0], ("/c/depth/image", S, image)]
        assert numbers(messages, tmp_path) == [0]
        shutil.rmtree(tmp_path / "a")


@pytest.mark.parametrize("encoding", ["16SC1", "64FC1", "16uc1"])
def test_an_unsupported_encoding_is_named(tmp_path: Path, encoding: str) -> None:
    messages = [frame(0)[0], ("/c/depth/image", S, MAKE.image(depths(0), encoding, S))]
    with pytest.raises(
        BagError, match=rf"no depth image; .*/c/depth/image \(encoding '{encoding}'"
    ):
        numbers(messages, tmp_path)


@pytest.mark.parametrize("name", ["a.mcap", "a.db3"])
@pytest.mark.parametrize("metadata", [True, False])
def test_extra_files_and_odd_names_do_not_matter(
    tmp_path: Path, name: str, metadata: bool, caplog: Any
) -> None:
    folder = MAKE.write(tmp_path / name, frame(0))
    for litter in (f"._{name}", f"._{name}.zstd", ".DS_Store", "Thumbs.db"):
        (folder / litter).write_bytes(b"\x00\x05\x16\x07")
    file = folder / "metadata.yaml"
    if metadata:
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    else:
        file.unlink()
    assert len(list(BagSource(folder))) == 1
    assert not caplog.text
    odd = shutil.copy(folder / name, tmp_path / f"sp ace \u6df1 ?#%41{Path(name).suffix}")
    assert len(list(BagSource(odd))) == 1
