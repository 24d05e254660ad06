"""MCAP files that are torn, damaged, without an index or hostile."""

from __future__ import annotations

import io
import logging
import struct
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
import pytest
import zstandard
from mcap.writer import CompressionType, IndexType
from mcap.writer import Writer as McapWriter
from rosbags.typesys import Stores, get_typestore

from sgnet_ros.recordings import unpacking
from sgnet_ros.recordings.bags import Bag
from sgnet_ros.recordings.errors import BagError

STORE = get_typestore(Stores.ROS2_JAZZY)
STRING = "std_msgs/msg/String"
COUNT = 12
Message = tuple[str, int, str]


def content() -> list[Message]:
    """Return messages of 3 KB that compression makes little of."""
    messages = []
    for i in range(COUNT):
        noise = np.random.default_rng(i).integers(32, 127, 3000, np.uint8).tobytes().decode()
        messages += [(topic, 10**9 + i * 10**7 + (topic == "/b"), noise) for topic in ("/a", "/b")]
    return messages


def write(path: Path, messages: list[Message] | None = None, **options: Any) -> Path:
    """Write an mcap file with a few messages per chunk."""
    writer = McapWriter(str(path), chunk_size=10_000, **options)
    writer.start(profile="ros2")
    schema = writer.register_schema(STRING, "ros2msg", b"string data")
    links = {t: writer.register_channel(t, "cdr", schema) for t in ("/a", "/b")}
    for topic, time, text in content() if messages is None else messages:
        data = bytes(STORE.serialize_cdr(STORE.types[STRING](text), STRING))
        writer.add_message(links[topic], time, data, time)
    writer.finish()
    return path


def read(path: Path) -> list[Message]:
    with Bag(path) as bag:
        messages = [(topic, time, m.data) for topic, time, m in bag.messages(["/a", "/b"])]
        assert bag.counts == {t: sum(m[0] == t for m in messages) for t in bag.topics}
    return messages


@pytest.mark.parametrize("compression", CompressionType)
def test_the_beginning_of_a_truncated_file_is_read(
    tmp_path: Path, compression: CompressionType
) -> None:
    path = write(tmp_path / "a.mcap", compression=compression)
    whole = path.read_bytes()
    lengths = []
    for size in range(len(whole) - 1, 0, -5003):
        path.write_bytes(whole[:size])
        try:
            messages = read(path)
        except BagError as error:
            assert str(path) in str(error) and "mcap recover" in str(error)
            messages = []
        assert messages == content()[: len(messages)]
        lengths.append(len(messages))
    assert lengths[0] == 2 * COUNT  # the index alone is missing
    assert lengths == sorted(lengths, reverse=True)
    assert len(set(lengths)) > 4


@pytest.mark.parametrize(
    "options",
    [
        {"index_types": IndexType.CHUNK},
        {"index_types": IndexType.NONE, "use_statistics": False, "use_summary_offsets": False},
        {"use_chunking": False},
    ],
    ids=["chunk index alone", "no index", "no chunks"],
)
def test_files_without_an_index_are_read(tmp_path: Path, options: dict[str, Any]) -> None:
    path = write(tmp_path / "a.mcap", **options)
    assert read(path) == content()
    with Bag(path) as bag:
        assert bag.complete
        assert bag.duration_s == pytest.approx(0.110000001)
        assert bag.first("/b").data == content()[1][2]


def test_messages_come_by_time_where_chunks_overlap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = [content()[i] for i in np.random.default_rng(0).permutation(2 * COUNT)]
    path = write(tmp_path / "a.mcap", mixed)
    assert read(path) == content()
    monkeypatch.setattr(unpacking, "MAX_RECORD_BYTES", 20_000)
    with pytest.raises(BagError, match=r"a\.mcap: chunks that overlap .* 40000 bytes: run `mcap"):
        read(path)


def test_ros1_messages_in_mcap_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    writer = McapWriter(str(path))
    writer.start(profile="ros1")
    schema = writer.register_schema("std_msgs/String", "ros1msg", b"string data")
    channel = writer.register_channel("/a", "ros1", schema)
    writer.add_message(channel, 7, struct.pack("<I", 5) + b"hello", 7)
    writer.finish()
    with Bag(path) as bag:
        assert bag.topics == {"/a": STRING}
        assert [(t, m.data) for _, t, m in bag.messages(["/a"])] == [(7, "hello")]


def test_messages_that_are_not_ros_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    writer = McapWriter(str(path))
    writer.start()
    channel = writer.register_channel("/a", "protobuf", 0)
    writer.add_message(channel, 7, b"", 7)
    writer.finish()
    with pytest.raises(BagError, match=r"a\.mcap holds messages in protobuf, not those of ROS"):
        Bag(path)


def test_a_warning_gives_the_number_of_readable_messages_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "a.mcap")
    path.write_bytes(path.read_bytes()[:-20_000])
    with caplog.at_level(logging.WARNING):
        messages = read(path)
        assert read(path) == messages
    assert 0 < len(messages) < 2 * COUNT
    assert caplog.text.count(f"{path} is damaged or was not finished") == 1
    assert f": {len(messages)} messages of 2 topics can be read" in caplog.text


def hostile(compression: str, data: bytes, size: int) -> bytes:
    """Return a file of one chunk that says it has ``size`` bytes once it is decompressed."""

    def record(code: int, body: bytes) -> bytes:
        return struct.pack("<BQ", code, len(body)) + body

    magic = b"\x89MCAP0\r\n"
    chunk = struct.pack("<QQQII", 0, 0, size, 0, len(compression)) + compression.encode()
    return (
        magic
        + record(1, struct.pack("<I", 4) + b"ros2" + struct.pack("<I", 0))
        + record(6, chunk + struct.pack("<Q", len(data)) + data)
        + record(15, struct.pack("<I", 0))
        + record(2, struct.pack("<QQI", 0, 0, 0))
        + magic
    )


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize("honest", [True, False], ids=["says so", "hides it"])
def test_a_chunk_that_unpacks_to_too_much_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str, honest: bool
) -> None:
    monkeypatch.setattr(unpacking, "MAX_RECORD_BYTES", 1 << 20)
    pack = zstandard.compress if compression == "zstd" else lz4.frame.compress
    size = 64 << 20
    path = tmp_path / "bomb.mcap"
    path.write_bytes(hostile(compression, pack(bytes(size)), size if honest else 1000))
    expected = f"holds a chunk of {size} bytes, more than the 1048576" if honest else "is damaged"
    with pytest.raises(BagError, match=rf"bomb\.mcap {expected}"):
        Bag(path)


def test_a_record_that_claims_to_be_huge_ends_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mcap", use_chunking=False)
    whole = bytearray(path.read_bytes())
    at = whole.index(b"\x05", 200)
    while struct.unpack_from("<Q", whole, at + 1)[0] != 22 + 4 + 4 + 3001:  # a message's length
        at = whole.index(b"\x05", at + 1)
    struct.pack_into("<Q", whole, at + 1, 1 << 60)
    path.write_bytes(whole[:-100])  # without its summary
    assert read(path) == content()[:1]


@pytest.mark.slow
def test_mutated_bytes_give_an_error_or_messages(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "a.mcap"
    for compression in CompressionType:
        buffer = io.BytesIO(write(path, content()[:8], compression=compression).read_bytes())
        whole = np.frombuffer(buffer.getvalue(), np.uint8)
        for _ in range(1000):
            damaged = whole.copy()
            places = rng.integers(0, whole.size, rng.integers(1, 9))
            damaged[places] = rng.integers(0, 256, places.size)
            path.write_bytes(damaged.tobytes())
            try:
                with Bag(path) as bag:
                    assert sum(1 for _ in bag.messages(list(bag.topics))) <= 8
            except BagError as error:
                assert str(path) in str(error)
