"""Bags that cannot be read as they are: the error names the file and the command that helps."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore

from sgnet_ros.recordings.bags import Bag, is_bag
from sgnet_ros.recordings.errors import BagError

STRING = "std_msgs/msg/String"
COUNT = 20
TEXT = "x" * 2000


def write(folder: Path, plugin: StoragePlugin) -> Path:
    store = get_typestore(Stores.ROS2_JAZZY)
    with Writer2(folder, version=9, storage_plugin=plugin) as bag:
        link = bag.add_connection("/a", STRING, typestore=store)
        for i in range(COUNT):
            bag.write(link, i + 1, store.serialize_cdr(store.types[STRING](TEXT), STRING))
    return folder / f"{folder.name}.{'mcap' if plugin == StoragePlugin.MCAP else 'db3'}"


def count(path: Path) -> int:
    with Bag(path) as bag:
        return sum(m.data == TEXT for _, _, m in bag.messages(["/a"]))


def test_a_torn_rosbag1_file_names_reindex(tmp_path: Path) -> None:
    store, path = get_typestore(Stores.ROS1_NOETIC), tmp_path / "a.bag"
    with Writer1(path) as bag:
        link = bag.add_connection("/a", STRING, typestore=store)
        for i in range(COUNT):
            bag.write(link, i + 1, store.serialize_ros1(store.types[STRING](TEXT), STRING))
    assert count(path) == COUNT
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(BagError, match=r"a\.bag .*`rosbag reindex`"):
        Bag(path)
    active = path.rename(tmp_path / "a.bag.active")
    assert is_bag(active)
    with pytest.raises(BagError, match=r"not closed by its recorder: run `rosbag reindex .*a\.bag"):
        Bag(active)


def test_a_cut_sqlite_file_names_recover(tmp_path: Path) -> None:
    path = write(tmp_path / "a", StoragePlugin.SQLITE3)
    assert count(path) == COUNT
    for size in (path.stat().st_size - 4096, path.stat().st_size - 5000, 3000):
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(BagError, match=r"a\.db3 is truncated.* `sqlite3 FILE \.recover`"):
            Bag(path)


def test_a_write_ahead_log_is_not_ignored(tmp_path: Path) -> None:
    path = write(tmp_path / "whole", StoragePlugin.SQLITE3)
    torn = tmp_path / "torn.db3"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("INSERT INTO messages SELECT id + 100, topic_id, 99, data FROM messages")
        database.commit()
        for suffix in ("", "-wal"):  # as the power goes
            shutil.copy(f"{path}{suffix}", f"{torn}{suffix}")
    with pytest.raises(BagError, match=r"torn\.db3-wal contains .*PRAGMA journal_mode=DELETE"):
        Bag(torn)
    with closing(sqlite3.connect(torn)) as database:  # the command that the error names
        database.execute("PRAGMA journal_mode=DELETE")
    assert count(torn) == 2 * COUNT


@pytest.mark.parametrize("plugin", StoragePlugin)
def test_a_folder_is_read_without_metadata_and_with_a_wrong_one(
    tmp_path: Path, plugin: StoragePlugin, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "a", plugin)
    metadata = path.parent / "metadata.yaml"
    metadata.write_text("rosbag2_bagfile_information: {version: 9}")
    assert count(path.parent) == COUNT
    assert f"{metadata} cannot be used" in caplog.text
    metadata.unlink()
    second = write(tmp_path / "b", plugin)
    shutil.copy(second, path.parent / f"a_1{second.suffix}")
    assert count(path.parent) == 2 * COUNT


def test_a_truncated_part_does_not_hide_the_others(tmp_path: Path) -> None:
    path = write(tmp_path / "a", StoragePlugin.MCAP)
    path.write_bytes(path.read_bytes()[:-100])  # metadata.yaml still counts all of it
    with Bag(path.parent) as bag:
        assert not bag.complete
        assert bag.counts == {"/a": sum(1 for _ in bag.messages(["/a"]))} == {"/a": COUNT}


@pytest.mark.parametrize("alone", [True, False])
def test_compressed_files_name_the_command_that_unpacks_them(tmp_path: Path, alone: bool) -> None:
    file = tmp_path / "walk" / "walk.mcap.zstd"
    file.parent.mkdir()
    file.write_bytes(b"\x28\xb5\x2f\xfd and so on")
    path = file if alone else file.parent
    assert is_bag(path)
    with pytest.raises(BagError, match=rf"`zstd -d {file} -o {file.with_suffix('')}`"):
        Bag(path)


def test_files_that_are_not_bags_are_refused(tmp_path: Path) -> None:
    for name, data, why in (
        ("a.bag", b"#ROSBAG V2.0\n" + bytes(5000), "rosbag reindex"),
        ("b.bag", b"hello", "rosbag reindex"),
        ("c.mcap", b"\x89MCAP0\r\n" + b"\x06" + bytes([255] * 8), "mcap recover"),
        ("d.mcap", b"<html>", "it begins with other bytes"),
        ("e.mcap", b"", "is empty"),
        ("f.db3", b"SQLite format 3\0" + bytes(100), r"sqlite3 FILE \.recover"),
        ("g.MCAP", b"", r"lower case: `mv .*g\.MCAP .*g\.mcap`"),
        ("h.txt", b"hello", r"is not a bag: name a \.bag, \.mcap or \.db3 file"),
        ("i", b"hello", r"is not a bag: name a \.bag, \.mcap or \.db3 file"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BagError, match=rf"{name}.*{why}"):
            Bag(tmp_path / name)


def test_a_file_that_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a", StoragePlugin.MCAP)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the tests may run as root
    with pytest.raises(BagError, match=rf"^{path} cannot be read: Permission denied$"):
        Bag(path)


@pytest.mark.parametrize("key", ["storage_identifier", "compression_format", "compression_mode"])
def test_metadata_with_endless_references_is_ignored_with_a_warning(
    tmp_path: Path, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "a", StoragePlugin.MCAP)
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join(10 * [f'*a{i - 1}'])}]" for i in range(1, 12)]
    metadata = path.parent / "metadata.yaml"
    kept = [line for line in metadata.read_text().splitlines() if f" {key}:" not in line]
    at = kept.index("rosbag2_bagfile_information:") + 1
    metadata.write_text("\n".join([*lines, *kept[:at], f"  {key}: *a11", *kept[at:]]))
    assert count(path.parent) == COUNT
    assert f"metadata.yaml cannot be used: {key} is not a text" in caplog.text


def test_metadata_that_is_too_large_is_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "a", StoragePlugin.MCAP)
    with open(path.parent / "metadata.yaml", "ab") as file:
        file.write(b"#" * (1 << 20))
    assert count(path.parent) == COUNT
    assert "at most 1048576 are read" in caplog.text
