"""sqlite3 recordings that were interrupted are read as far as they go, and are left as they are."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from cut_files import Message, read_cut_files
from sgnet_ros.recordings.bag_recovery_db3 import Db3Storage
from sgnet_ros.recordings.bags import Bag, BagError

STRING = "std_msgs/msg/String"
STORE = get_typestore(Stores.ROS2_JAZZY)


def content(sizes: list[int]) -> list[Message]:
    """A message of each size, on two topics by turns."""
    messages = []
    for i, size in enumerate(sizes):
        noise = np.random.default_rng(i).integers(32, 127, size, np.uint8).tobytes().decode()
        messages.append((f"/{'ab'[i % 2]}", 10**18 + i * 10**7, f"{i} {noise}"))
    return messages


SIZES = [*[100] * 300, *[70_000] * 20, *[3000] * 40]  # inner pages early and late; overflow pages
CONTENT = content(SIZES)


def serialized(text: str) -> bytes:
    return bytes(STORE.serialize_cdr(STORE.types[STRING](text), STRING))


def write(folder: Path, messages: list[Message], page_size: int = 4096) -> Path:
    with Writer(folder, version=9, storage_plugin=StoragePlugin.SQLITE3) as bag:
        links = {t: bag.add_connection(t, STRING, typestore=STORE) for t in ("/a", "/b")}
        for topic, time, text in messages:
            bag.write(links[topic], time, serialized(text))
    path = folder / f"{folder.name}.db3"
    if page_size != 4096:
        with closing(sqlite3.connect(path)) as database:
            database.execute(f"PRAGMA page_size={page_size}")
            database.execute("VACUUM")
    return path


def insert(database: sqlite3.Connection, messages: list[Message]) -> None:
    topics = {name: number for number, name in database.execute("SELECT id, name FROM topics")}
    database.executemany(
        "INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)",
        [(topics[topic], time, serialized(text)) for topic, time, text in messages],
    )


def readable(path: Path) -> list[Message]:
    with Bag(path) as bag:
        assert not bag.complete
        messages = [(topic, time, m.data) for topic, time, m in bag.messages(["/a", "/b"])]
        assert bag.counts == {t: sum(m[0] == t for m in messages) for t in bag.topics}
        seconds = (messages[-1][1] - messages[0][1]) * 1e-9
        assert bag.duration_s == pytest.approx(seconds, abs=1e-6)
    return messages


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_whatever_byte_it_ends_at_the_beginning_is_read(tmp_path: Path, page_size: int) -> None:
    path = write(tmp_path / "a", CONTENT, page_size)
    whole = path.read_bytes()
    lengths = []
    for left, messages in read_cut_files(path, whole, -(-len(whole) // 17), readable):
        before = CONTENT[: CONTENT.index(messages[-1]) + 1 if messages else 0]
        lost = [m for m in before if m not in messages]
        assert messages == [m for m in before if m not in lost]
        assert len(lost) <= 3  # of those that go on in a page behind that of their successors
        assert path.read_bytes() == left
        lengths.append(len(messages))
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] >= len(CONTENT) - 65536 // 3000  # what the last page holds may be gone
    assert len(set(lengths)) > 8


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 9000), min_size=1, max_size=30),
    page_size=st.sampled_from([512, 1024, 4096, 65536]),
)
def test_rows_of_a_sound_file_are_those_that_sqlite_reads(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], page_size: int
) -> None:
    path = write(tmp_path_factory.mktemp("bags") / "a", content(sizes), page_size)
    storage = Db3Storage(path)
    storage.open()
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT topic_id, timestamp, data FROM messages ORDER BY id")
        assert [(c.id, t, d) for c, t, d in storage.messages(storage.connections)] == list(rows)
        topics = database.execute("SELECT id, name, type, type_description_hash FROM topics")
        assert [(c.id, c.topic, c.msgtype, c.digest) for c in storage.connections] == list(topics)
        ((text,),) = database.execute(
            "SELECT DISTINCT encoded_message_definition FROM message_definitions"
        )
        assert {c.msgdef.data for c in storage.connections} == {text}
    storage.close()


def test_what_is_still_in_the_write_ahead_log_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "recorded", CONTENT[:100])
    torn = tmp_path / "torn" / "a.db3"
    torn.parent.mkdir()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA wal_autocheckpoint=0")
        insert(database, CONTENT[100:200])
        database.commit()
        database.execute("PRAGMA wal_checkpoint(FULL)")  # the next transaction starts the log anew
        insert(database, CONTENT[200:240])
        database.commit()
        insert(database, CONTENT[240:])
        database.commit()
        for suffix in ("", "-wal"):  # as the power goes
            shutil.copy(f"{path}{suffix}", f"{torn}{suffix}")
    before = {p.name: p.read_bytes() for p in torn.parent.iterdir()}
    assert readable(torn) == CONTENT
    assert f"{torn} is damaged or was not finished: {len(CONTENT)} messages" in caplog.text
    assert {p.name: p.read_bytes() for p in torn.parent.iterdir()} == before

    log = Path(f"{torn}-wal")
    log.write_bytes(log.read_bytes()[:600_000])  # and the log's end has not reached the disk
    messages = readable(torn)
    assert 240 <= len(messages) < len(CONTENT)
    assert messages == CONTENT[: len(messages)]


def test_a_transaction_that_was_not_finished_is_taken_back(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "recorded", CONTENT[:100])
    torn = tmp_path / "torn" / "a.db3"
    torn.parent.mkdir()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA cache_size=4")  # pages, so that it writes before it commits
        insert(database, CONTENT[100:])
        for suffix in ("", "-journal"):
            shutil.copy(f"{path}{suffix}", f"{torn}{suffix}")
        database.rollback()
    before = {p.name: p.read_bytes() for p in torn.parent.iterdir()}
    assert readable(torn) == CONTENT[:100]  # what was there before it
    assert {p.name: p.read_bytes() for p in torn.parent.iterdir()} == before


def test_a_folder_with_and_without_metadata_and_with_a_sound_part(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = write(tmp_path / "a", CONTENT[:340])
    second = write(tmp_path / "b", CONTENT[340:])
    torn = second.read_bytes()[:-20_000]
    second.write_bytes(torn)
    with caplog.at_level(logging.WARNING):
        alone = readable(second.parent)  # its metadata.yaml knows more
    assert alone == CONTENT[340 : 340 + len(alone)]
    assert f"{second.parent} is damaged or was not finished: {len(alone)} messages" in caplog.text
    (first.parent / "metadata.yaml").unlink()
    (first.parent / "a_1.db3").write_bytes(torn)
    assert readable(first.parent) == CONTENT[: 340 + len(alone)]


def test_recordings_without_definitions_are_read_with_those_of_ros(tmp_path: Path) -> None:
    """As rosbag2 wrote them before Iron."""
    path = write(tmp_path / "a", CONTENT[:50])
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("DROP TABLE message_definitions")
        database.execute("DROP TABLE schema")
        database.execute("ALTER TABLE topics DROP COLUMN type_description_hash")
        database.execute("VACUUM")
    path.write_bytes(path.read_bytes()[:-4096])
    messages = readable(path)
    assert 0 < len(messages) <= 50
    assert messages == CONTENT[: len(messages)]


def test_bytes_that_make_no_sense_do_no_harm(tmp_path: Path) -> None:
    """A message is there or not; nothing but a BagError is raised."""
    path = write(tmp_path / "a", CONTENT[290:330], 1024)
    whole = path.read_bytes()[:-1024]
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[rng.integers(1024, len(whole), 40)] = rng.integers(0, 256, 40)
        path.write_bytes(damaged.tobytes())
        try:
            with Bag(path) as bag:
                assert sum(1 for _ in bag.messages(["/a", "/b"])) <= 40
        except BagError as error:
            assert str(path) in str(error)
