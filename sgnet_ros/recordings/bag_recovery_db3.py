"""Torn sqlite3 recordings (.db3), read by SQLite as far as it gets.

A recorder appends rows, so what a crash or a full disk takes away are the last ones. SQLite reads
the rows before them when they are asked for in the order of their ids, past the index over time,
which is torn as well. The files are left as they are: where a journal has to be replayed, or a
last page be taken away, that is done to a copy.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Collection, Generator
from pathlib import Path
from typing import NamedTuple

from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)
from rosbags.rosbag2.metadata import ReaderMetadata

_MAGIC = b"SQLite format 3\0"
_CHECKED = 64  # rows, among the last, whose end may lie behind that of the file
_FORMATS = {"ros2msg": MessageDefinitionFormat.MSG, "ros2idl": MessageDefinitionFormat.IDL}


def unfinished(path: Path) -> str | None:
    """What says that a .db3 file is not as its recorder meant it, though SQLite would open it."""
    if path.stat().st_size != _whole_pages(path):
        return "its last page is cut off"  # SQLite takes zeros for the rest
    for journal in _journals(path):
        return f"a transaction was not finished: {journal}"
    return None


def _whole_pages(path: Path) -> int:
    """Bytes of the file without a last page that is cut off."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        header = file.read(18)
    if not header.startswith(_MAGIC):
        return size
    page = int.from_bytes(header[16:18], "big")
    return size - size % (65536 if page == 1 else max(page, 512))


def _journals(path: Path) -> list[Path]:
    beside = (Path(f"{path}-wal"), Path(f"{path}-journal"))
    return [journal for journal in beside if journal.is_file() and journal.stat().st_size]


class _Row(NamedTuple):
    time: int
    id: int
    topic: int


class Db3Path(type(Path())):  # type: ignore[misc] # PosixPath or WindowsPath
    """The path of a damaged .db3 file, which is to be read by `Db3Storage`."""


class Db3Storage:
    """What rosbags' reader asks a storage for.

    Args:
        path: of the damaged file.

    Raises:
        ValueError: nothing of it can be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: sqlite3.Connection | None = _connect(path)
        self._rows: list[_Row] = []
        self.connections: list[Connection] = []
        try:
            self._read(self._database)
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise ValueError(f"{path}: {error}") from error
        self._rows.sort()
        first, last = (self._rows[0].time, self._rows[-1].time) if self._rows else (2**63 - 1, -1)
        spread = (max(last + 1 - first, 0), first, last + 1)
        self.metadata = ReaderMetadata(*spread, len(self._rows), None, None, None, None)

    def _read(self, database: sqlite3.Connection) -> None:
        """Topics, definitions, and where the messages are."""
        names = [column[1] for column in database.execute("PRAGMA table_info(topics)")]
        topics = database.execute("SELECT * FROM topics")
        self._topics = [dict(zip(names, topic, strict=True)) for topic in topics]
        self._definitions = _definitions(database)
        try:
            for row in database.execute(
                "SELECT timestamp, id, topic_id FROM messages NOT INDEXED ORDER BY id"
            ):
                self._rows.append(_Row(*row))
        except sqlite3.DatabaseError:
            if not self._rows:
                raise
        # The end of a row can be missing though its beginning is there.
        tail = self._rows[-_CHECKED:]
        self._rows[-_CHECKED:] = [row for row in tail if _data(database, row) is not None]

    def open(self) -> None:
        """Opens the file."""
        if self._database is None:  # closed in between
            self._database = _connect(self._path)
        unknown = MessageDefinition(MessageDefinitionFormat.NONE, "")
        self.connections += [
            Connection(
                id=topic["id"],
                topic=topic["name"],
                msgtype=topic["type"],
                msgdef=self._definitions.get(topic["type"], unknown),
                digest=topic.get("type_description_hash", ""),
                msgcount=sum(row.topic == topic["id"] for row in self._rows),
                ext=ConnectionExtRosbag2(topic["serialization_format"], []),
                owner=self,
            )
            for topic in self._topics
        ]

    def close(self) -> None:
        """Closes it."""
        self.connections.clear()
        if self._database is not None:
            self._database.close()
        self._database = None

    def messages(
        self,
        connections: Collection[Connection],
        start: int | None = None,
        stop: int | None = None,
    ) -> Generator[tuple[Connection, int, bytes], None, None]:
        """The messages of some topics in a span of time: topic, nanoseconds, bytes."""
        assert self._database is not None  # it is open
        wanted = {connection.id: connection for connection in connections}
        for row in self._rows:
            if row.topic not in wanted or (start is not None and row.time < start):
                continue
            if stop is not None and row.time >= stop:
                return
            data = _data(self._database, row)
            if data is not None:
                yield wanted[row.topic], row.time, data


def _connect(path: Path) -> sqlite3.Connection:
    """The database, to be read only; with its journals replayed, in a copy."""
    journals, size = _journals(path), _whole_pages(path)
    if not journals and size == path.stat().st_size:
        return _trusting(f"{path.absolute().as_uri()}?immutable=1")
    with tempfile.TemporaryDirectory() as folder:
        for file in (path, *journals):
            shutil.copy(file, folder)
        copy = Path(folder) / path.name
        os.truncate(copy, size)
        return _trusting(copy.as_uri())  # what is open stays readable without its folder


def _trusting(uri: str) -> sqlite3.Connection:
    """A connection that takes a file shorter than its header says."""
    database = sqlite3.connect(uri, uri=True, check_same_thread=False)
    database.execute("PRAGMA writable_schema=ON")
    with contextlib.suppress(sqlite3.DatabaseError):  # of which the first query tells
        list(database.execute("SELECT 1 FROM sqlite_master"))  # replays the journals
    return database


def _definitions(database: sqlite3.Connection) -> dict[str, MessageDefinition]:
    """By type; none in files of recorders before Iron."""
    try:
        rows = database.execute(
            "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
        )
        return {kind: MessageDefinition(_FORMATS[how], text) for kind, how, text in rows}
    except (sqlite3.DatabaseError, KeyError):
        return {}


def _data(database: sqlite3.Connection, row: _Row) -> bytes | None:
    try:
        ((data,),) = database.execute("SELECT data FROM messages WHERE id = ?", (row.id,))
    except sqlite3.DatabaseError:
        return None
    return bytes(data)
