"""Compressed bags are read; those that unpack to too much are refused with the limit."""

from __future__ import annotations

import bz2
import tempfile
from pathlib import Path

import lz4.frame
import numpy as np
import pytest
import zstandard
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Writer2

from bag_messages import ROS1, ROS2
from sgnet_ros.recordings import unpacking
from sgnet_ros.recordings.bags import Bag
from sgnet_ros.recordings.errors import BagError

STRING = "std_msgs/msg/String"
LIMIT = 1 << 20


def write2(folder: Path, mode: CompressionMode, plugin: StoragePlugin, texts: list[str]) -> Path:
    bag = Writer2(folder, version=9, storage_plugin=plugin)
    bag.set_compression(mode, CompressionFormat.ZSTD)
    with bag:
        link = bag.add_connection("/a", STRING, typestore=ROS2)
        for i, text in enumerate(texts):
            bag.write(link, i + 1, ROS2.serialize_cdr(ROS2.types[STRING](text), STRING))
    return folder


def write1(path: Path, compression: Writer1.CompressionFormat, texts: list[str]) -> Path:
    bag = Writer1(path)
    bag.set_compression(compression)
    with bag:
        link = bag.add_connection("/a", STRING, typestore=ROS1)
        for i, text in enumerate(texts):
            bag.write(link, i + 1, ROS1.serialize_ros1(ROS1.types[STRING](text), STRING))
    return path


def read(path: Path) -> list[str]:
    with Bag(path) as bag:
        return [message.data for _, _, message in bag.messages(["/a"])]


def scratch_folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("sgnet_bag_*"))


@pytest.mark.parametrize("plugin", StoragePlugin)
@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE])
def test_compressed_rosbag2_folders_are_read(
    tmp_path: Path, mode: CompressionMode, plugin: StoragePlugin
) -> None:
    before = scratch_folders()
    folder = write2(tmp_path / "a", mode, plugin, ["x" * 1000, "y"])
    assert read(folder) == ["x" * 1000, "y"]
    for file in folder.glob("*.zstd"):  # unpacked by hand as well, which must not count twice
        unpacking.unpack_file(file, file.with_suffix(""))
        assert read(folder) == ["x" * 1000, "y"]
    assert scratch_folders() <= before


@pytest.mark.parametrize("compression", Writer1.CompressionFormat)
def test_compressed_rosbag1_files_are_read(
    tmp_path: Path, compression: Writer1.CompressionFormat
) -> None:
    assert read(write1(tmp_path / "a.bag", compression, ["x" * 1000, "y"])) == ["x" * 1000, "y"]


@pytest.mark.parametrize("plugin", StoragePlugin)
def test_a_file_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plugin: StoragePlugin
) -> None:
    monkeypatch.setattr(unpacking, "MAX_RECORD_BYTES", LIMIT)
    before = scratch_folders()
    folder = write2(tmp_path / "a", CompressionMode.FILE, plugin, ["x"])
    (file,) = folder.glob("*.zstd")
    file.write_bytes(zstandard.compress(bytes(64 * LIMIT)))
    with pytest.raises(
        BagError,
        match=rf"{file} is refused, because it unpacks to more than {LIMIT} bytes, 100 times its "
        rf"size: if you trust it, unpack it with `zstd -d {file}`",
    ):
        Bag(folder)
    file.rename(file.with_suffix(""))  # its name no longer says that it is compressed
    with pytest.raises(BagError, match=r"it begins with other bytes|cannot be read as a bag"):
        Bag(folder)
    assert scratch_folders() <= before


@pytest.mark.parametrize("declared", [True, False])
def test_a_message_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, declared: bool
) -> None:
    monkeypatch.setattr(unpacking, "MAX_RECORD_BYTES", LIMIT)
    texts = ["x" * 1000, "y" * 3 * LIMIT]
    folder = write2(tmp_path / "a", CompressionMode.MESSAGE, StoragePlugin.SQLITE3, texts)
    if not declared:
        pack = zstandard.ZstdCompressor(write_content_size=False).compress
        monkeypatch.setattr("zstandard.frame_content_size", lambda data: -1)
        assert unpacking.unpack(pack(b"z" * LIMIT), "zstd", LIMIT) == b"z" * LIMIT
    with pytest.raises(BagError, match=rf"{folder}: a message is refused, because .* {LIMIT}"):
        read(folder)


@pytest.mark.parametrize("compression", Writer1.CompressionFormat)
def test_a_rosbag1_chunk_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: Writer1.CompressionFormat
) -> None:
    path = write1(tmp_path / "a.bag", compression, ["x" * 3 * LIMIT])
    whole = path.read_bytes()
    size = whole.index(b"size=") + 5
    path.write_bytes(whole[:size] + np.uint32(1000).tobytes() + whole[size + 4 :])
    with pytest.raises(BagError, match=rf"{path}: .* more than 1000 bytes"):
        read(path)
    path.write_bytes(whole)
    monkeypatch.setattr(unpacking, "MAX_RECORD_BYTES", LIMIT)
    with pytest.raises(
        BagError, match=rf"{path} holds a chunk of \d+ bytes, more than the {LIMIT}"
    ):
        read(path)


@pytest.mark.parametrize(
    ("compression", "data"),
    [
        ("zstd", zstandard.compress(b"a" * 5000)),
        ("lz4", lz4.frame.compress(b"a" * 5000)),
        ("bz2", bz2.compress(b"a" * 5000)),
    ],
)
def test_the_limit_itself_is_allowed(compression: str, data: bytes) -> None:
    assert unpacking.unpack(data, compression, 5000) == b"a" * 5000
    with pytest.raises(unpacking.UnpackingError, match="4999"):
        unpacking.unpack(data, compression, 4999)


@pytest.mark.parametrize(
    "value", ["FILE", '"fi\\x6ce"', "!!str file", "\n    file", "|-\n    file", "'file' # packed"]
)
def test_compressed_files_under_other_names_are_not_unpacked(tmp_path: Path, value: str) -> None:
    folder = write2(tmp_path / "a", CompressionMode.FILE, StoragePlugin.MCAP, ["x"])
    (file,) = folder.glob("*.zstd")
    file.rename(file.with_suffix(""))
    metadata = folder / "metadata.yaml"
    lines = metadata.read_text().replace(file.name, file.with_suffix("").name).splitlines()
    at = next(i for i, line in enumerate(lines) if "compression_mode" in line)
    lines[at] = f"  compression_mode: {value}"
    metadata.write_text("\n".join(lines))
    with pytest.raises(BagError, match="it begins with other bytes"):
        Bag(folder)
