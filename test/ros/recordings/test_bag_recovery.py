"""Recordings that were interrupted are read as far as they go, whatever byte they end at."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore

from cut_files import Message, read_cut_files
from sgnet_ros.recordings.bags import Bag, BagError

COUNT = 12
STRING = "std_msgs/msg/String"


def text(topic: str, i: int) -> str:
    """About 300 KB that compression makes little of, so that chunks hold a few messages."""
    noise = np.random.default_rng(i).integers(32, 127, 300_000, np.uint8)
    return f"{topic} {i} " + noise.tobytes().decode()


def content() -> list[Message]:
    return [
        (topic, 10**9 + i * 10**7 + (topic == "/b"), text(topic, i))
        for i in range(COUNT)
        for topic in ("/a", "/b")
    ]


def write_bag1(path: Path, compression: str | None) -> Path:
    store = get_typestore(Stores.ROS1_NOETIC)
    writer = Writer1(path)
    if compression:
        writer.set_compression(Writer1.CompressionFormat[compression.upper()])
    with writer as bag:
        links = {t: bag.add_connection(t, STRING, typestore=store) for t in ("/a", "/b")}
        for topic, time, data in content():
            message = store.types[STRING](data)
            bag.write(links[topic], time, store.serialize_ros1(message, STRING))
    return path


def write_mcap(folder: Path, compression: str | None) -> Path:
    write_bag2(folder, StoragePlugin.MCAP, compression)
    return folder / f"{folder.name}.mcap"


def write_db3(folder: Path) -> Path:
    write_bag2(folder, StoragePlugin.SQLITE3, None)
    return folder / f"{folder.name}.db3"


def write_bag2(folder: Path, plugin: StoragePlugin, compression: str | None) -> None:
    store = get_typestore(Stores.ROS2_JAZZY)
    writer = Writer2(folder, version=9, storage_plugin=plugin)
    if compression:
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat[compression.upper()])
    with writer as bag:
        links = {t: bag.add_connection(t, STRING, typestore=store) for t in ("/a", "/b")}
        for topic, time, data in content():
            message = store.types[STRING](data)
            bag.write(links[topic], time, store.serialize_cdr(message, STRING))


def readable(path: Path) -> list[Message]:
    with Bag(path) as bag:
        messages = [(topic, time, m.data) for topic, time, m in bag.messages(["/a", "/b"])]
        assert bag.counts == {
            t: sum(m[0] == t for m in messages) for t in bag.topics
        }  # what is promised can be had
    return messages


def check(path: Path, whole: bytes, step: int) -> list[int]:
    """Cuts a file at many places; what is read is always the beginning of what was written."""
    lengths = []
    for _, messages in read_cut_files(path, whole, step, readable):
        assert messages == content()[: len(messages)]
        lengths.append(len(messages))
    assert lengths == sorted(lengths, reverse=True)
    return lengths


@pytest.mark.parametrize("compression", [None, "bz2", "lz4"])
def test_rosbag1_without_its_end(tmp_path: Path, compression: str | None) -> None:
    path = write_bag1(tmp_path / "a.bag", compression)
    lengths = check(path, path.read_bytes(), step=533_333)
    assert lengths[0] == 2 * COUNT  # the index alone is missing
    assert len(set(lengths)) > 4


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_mcap_without_its_end(tmp_path: Path, compression: str | None) -> None:
    path = write_mcap(tmp_path / "a", compression)
    lengths = check(path, path.read_bytes(), step=533_333)
    assert lengths[0] == 2 * COUNT
    assert len(set(lengths)) > 4


def test_a_warning_says_how_much_is_there_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_mcap(tmp_path / "a", None)
    path.write_bytes(path.read_bytes()[:-200_000])
    with caplog.at_level(logging.WARNING):
        first, again = readable(path), readable(path.parent)  # with a metadata.yaml that knows more
    assert first == again == content()[: len(first)]
    assert 0 < len(first) < 2 * COUNT
    assert caplog.text.count(f"{path} is damaged or was not finished") == 1
    assert f": {len(first)} messages of 2 topics can be read" in caplog.text


def test_a_rosbag1_that_was_never_closed_has_no_index(tmp_path: Path) -> None:
    path = write_bag1(tmp_path / "a.bag", None)
    whole = bytearray(path.read_bytes())
    at = whole.index(b"index_pos=") + len(b"index_pos=")
    whole[at : at + 8] = bytes(8)  # as the recorder has it until the end
    path.write_bytes(whole)
    assert readable(path) == content()


def test_a_split_recording_whose_last_part_is_torn_and_that_has_no_metadata(
    tmp_path: Path,
) -> None:
    folder = write_mcap(tmp_path / "a", None).parent
    (folder / "metadata.yaml").unlink()
    second = write_mcap(tmp_path / "b", None)
    (folder / "a_1.mcap").write_bytes(second.read_bytes()[:-200_000])
    messages = readable(folder)
    assert len(messages) > 2 * COUNT
    assert set(messages) == set(content())
    assert [time for _, time, _ in messages] == sorted(time for _, time, _ in messages)


def test_what_is_no_bag_is_refused(tmp_path: Path) -> None:
    contents: dict[str, Any] = {
        "a.bag": b"#ROSBAG V2.0\n" + bytes(5000),
        "b.bag": b"hello",
        "c.mcap": b"\x89MCAP0\r\n" + b"\x06" + bytes([255] * 8),
        "d.db3": b"SQLite format 3\0" + bytes(100),
        "e.mcap": b"",
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BagError, match=name):
            Bag(tmp_path / name)
