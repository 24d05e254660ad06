"""Torn sqlite3 recordings (.db3), read page by page.

SQLite refuses a file that is shorter than its header says, and what its trees still reach depends
on where their inner pages happen to lie. A recorder only appends rows, though, so each leaf page is
good for itself: here all of them are read, and the rows of rosbag2's tables known by their columns
(SQLite's "Database File Format"). Pages in a left-over write-ahead log count before older ones;
those that a rollback journal would take back are messages, too. Nothing is written.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)
from rosbags.rosbag2.metadata import ReaderMetadata

_MAGIC = b"SQLite format 3\0"
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_LEAF = 0x0D  # of a table; an overflow page begins so only in files of 900 GB and more
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}  # bytes by serial type; 8: 0, 9: 1
_FORMATS = {"ros2msg": MessageDefinitionFormat.MSG, "ros2idl": MessageDefinitionFormat.IDL}


def unfinished(path: Path) -> str | None:
    """What says that a .db3 file is not as its recorder meant it, though SQLite would open it."""
    with open(path, "rb") as file:
        header = file.read(18)
    if header.startswith(_MAGIC) and path.stat().st_size % _page_size(header):
        return "its last page is cut off"  # SQLite takes zeros for the rest
    log, journal = Path(f"{path}-wal"), Path(f"{path}-journal")
    if log.is_file() and log.stat().st_size > 0:
        return f"{log} holds what it has not got yet"
    if journal.is_file():
        with open(journal, "rb") as file:
            if file.read(len(_JOURNAL_MAGIC)) == _JOURNAL_MAGIC:
                return f"a transaction was not finished: {journal}"
    return None


def _page_size(header: bytes) -> int:
    (size,) = struct.unpack_from(">H", header, 16)
    return 65536 if size == 1 else max(int(size), 512)


class _Cell(NamedTuple):
    """A table row: the part of its payload that lies in its leaf page, and where the rest is."""

    rowid: int
    size: int
    local: bytes
    position: int
    overflow: int


class _Message(NamedTuple):
    """Where a message's ``size`` bytes are: at ``position`` of a page, the rest in ``overflow``."""

    time: int
    rowid: int
    page: int
    position: int
    local: int
    size: int
    overflow: tuple[int, ...]


class _Pages:
    """A database file's pages by number, from 1; a context manager."""

    def __init__(self, path: Path) -> None:
        self._stack = ExitStack()
        self._file = self._stack.enter_context(open(path, "rb"))  # noqa: SIM115
        header = self._file.read(100)
        if header[: len(_MAGIC)] != _MAGIC or len(header) < 100:
            self.close()
            raise ValueError("not an SQLite database")
        self.size = _page_size(header)
        self.usable = self.size - header[20]
        self._newer: dict[int, int] = {}
        log = Path(f"{path}-wal")
        if log.is_file():
            self._log = self._stack.enter_context(open(log, "rb"))  # noqa: SIM115
            self._newer = self._in_log()
        self.count = max(os.fstat(self._file.fileno()).st_size // self.size, 0, *self._newer)

    def __enter__(self) -> _Pages:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def __getitem__(self, number: int) -> bytes:
        """Its bytes; zeros where it can't be read."""
        in_log = number in self._newer
        file, position = self._file, (number - 1) * self.size
        if in_log:
            file, position = self._log, self._newer[number]
        try:
            file.seek(position)
            return file.read(self.size).ljust(self.size, b"\0")
        except OSError:  # a bad sector
            return bytes(self.size)

    def _in_log(self) -> dict[int, int]:
        """Where the log's pages lie in it: the last of each, without what an earlier log left."""
        header, position, found = self._log.read(32), 32, {}
        while len(frame := self._log.read(24 + self.size)) == 24 + self.size:
            if frame[8:16] != header[16:24]:  # the salt, new whenever the log starts again
                break
            found[struct.unpack_from(">I", frame)[0]] = position + 24
            position += len(frame)
        return found


class Db3Rows:
    """What is there of a database's topics, definitions and messages.

    Args:
        path: of the .db3 file.

    Attributes:
        topics: id to name, type, serialisation format and, from newer recorders, more.
        definitions: type to encoding and text.
        messages: by topic id, in the order of their recording time.

    Raises:
        ValueError: it is no such file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.topics: dict[int, list[str]] = {}
        self.definitions: dict[str, tuple[str, str]] = {}
        self.messages: dict[int, list[_Message]] = {}
        found: dict[tuple[int, int], _Message] = {}  # a page can be there in two versions
        with _Pages(path) as pages:
            self._next: npt.NDArray[np.uint32] = np.zeros(pages.count + 1, np.uint32)
            leaves = []
            for number in range(1, pages.count + 1):
                page = pages[number]
                (self._next[number],) = struct.unpack_from(">I", page)
                if page[0] == _LEAF:
                    leaves.append(number)
            for number in leaves:
                for cell in _cells(pages[number], pages.usable):
                    self._take(pages, number, cell, found)
        for (topic, _), message in found.items():
            self.messages.setdefault(topic, []).append(message)
        for messages in self.messages.values():
            messages.sort()

    def _take(
        self, pages: _Pages, page: int, cell: _Cell, found: dict[tuple[int, int], _Message]
    ) -> None:
        """Adds a row, if it is of one of the tables and all there."""
        types, body = _serial_types(cell.local)
        overflow = self._chain(cell, pages)
        if len(types) < 4 or types[0] != 0 or overflow is None:  # 0: NULL, for the row's id
            return
        if {types[1], types[2]} <= _INTEGERS.keys() and types[3] >= 12 and types[3] % 2 == 0:
            topic, body = _integer(cell.local, body, types[1])
            time, body = _integer(cell.local, body, types[2])
            found[topic, cell.rowid] = _Message(
                *(time, cell.rowid, page, cell.position + body, len(cell.local) - body),
                *((types[3] - 12) // 2, overflow),
            )
        elif all(t >= 13 and t % 2 for t in types[1:]):
            payload = cell.local + _joined(pages, overflow)
            texts = []
            for t in types[1:]:
                texts.append(payload[body : body + (t - 13) // 2].decode(errors="replace"))
                body += (t - 13) // 2
            if texts[0].startswith("/"):
                self.topics[cell.rowid] = texts
            elif texts[1] in _FORMATS:
                self.definitions[texts[0]] = (texts[1], texts[2])

    def _chain(self, cell: _Cell, pages: _Pages) -> tuple[int, ...] | None:
        """The pages with the rest of a row; None if one of them isn't there."""
        missing, number = cell.size - len(cell.local), cell.overflow
        if missing > pages.count * pages.size:
            return None
        chain = []
        while missing > 0:
            if not 0 < number <= pages.count:
                return None
            chain.append(number)
            missing -= pages.usable - 4
            number = int(self._next[number])
        return tuple(chain)


class Db3Path(type(Path())):  # type: ignore[misc] # PosixPath or WindowsPath
    """The path of a damaged .db3 file, and what there is in it."""

    rows: Db3Rows


class Db3Storage:
    """What rosbags' reader asks a storage for, from `Db3Rows`."""

    def __init__(self, path: Db3Path) -> None:
        self._rows: Db3Rows = path.rows
        self._pages: _Pages | None = None
        self.connections: list[Connection] = []
        times = [m.time for messages in self._rows.messages.values() for m in messages]
        first, last = min(times, default=2**63 - 1), max(times, default=-1)
        spread = (max(last + 1 - first, 0), first, last + 1)
        self.metadata = ReaderMetadata(*spread, len(times), None, None, None, None)

    def open(self) -> None:
        """Opens the file."""
        rows, self._pages = self._rows, _Pages(self._rows.path)
        for number, (name, kind, serialization, *more) in sorted(rows.topics.items()):
            encoding, text = rows.definitions.get(kind, ("", ""))
            definition = MessageDefinition(
                _FORMATS.get(encoding, MessageDefinitionFormat.NONE), text
            )
            digest = more[1] if encoding and len(more) > 1 else ""
            count = len(rows.messages.get(number, ()))
            extra = ConnectionExtRosbag2(serialization, [])
            self.connections.append(
                Connection(number, name, kind, definition, digest, count, extra, self)
            )

    def close(self) -> None:
        """Closes it."""
        self.connections.clear()
        if self._pages is not None:
            self._pages.close()

    def messages(
        self,
        connections: Collection[Connection],
        start: int | None = None,
        stop: int | None = None,
    ) -> Generator[tuple[Connection, int, bytes], None, None]:
        """The messages of some topics in a span of time: topic, nanoseconds, bytes."""
        pages = self._pages
        assert pages is not None  # it is open
        wanted = {connection.id: connection for connection in connections}
        found = [(m, c) for n, c in wanted.items() for m in self._rows.messages.get(n, ())]
        for message, connection in sorted(found, key=lambda pair: pair[0][:2]):
            if (start is None or start <= message.time) and (stop is None or message.time < stop):
                begin = message.position
                data = pages[message.page][begin : begin + message.local]
                data += _joined(pages, message.overflow)
                yield connection, message.time, data[: message.size]


def _joined(pages: _Pages, numbers: Collection[int]) -> bytes:
    return b"".join(pages[number][4 : pages.usable] for number in numbers)


def _cells(page: bytes, usable: int) -> Iterator[_Cell]:
    """The rows of a table's leaf page, as far as it makes sense."""
    try:
        (count,) = struct.unpack_from(">H", page, 3)
        for at in struct.unpack_from(f">{count}H", page, 8):
            size, at = _varint(page, at)
            rowid, at = _varint(page, at)
            local = _local_size(size, usable)
            rest = struct.unpack_from(">I", page, at + local)[0] if local < size else 0
            yield _Cell(rowid, size, page[at : at + local], at, rest)
    except (IndexError, struct.error):
        return


def _local_size(size: int, usable: int) -> int:
    """How many bytes of a row lie in its leaf page (the format's "cell payload")."""
    if size <= usable - 35:
        return size
    least = (usable - 12) * 32 // 255 - 23
    local = least + (size - least) % (usable - 4)
    return local if local <= usable - 35 else least


def _serial_types(payload: bytes) -> tuple[list[int], int]:
    """Types of a row's columns, and where the first one begins; no types if it makes no sense."""
    types = []
    try:
        end, at = _varint(payload, 0)
        while at < end:
            kind, at = _varint(payload, at)
            types.append(kind)
    except IndexError:
        return [], 0
    return types, at


def _integer(payload: bytes, at: int, kind: int) -> tuple[int, int]:
    end = at + _INTEGERS[kind]
    if kind >= 8:
        return kind - 8, end
    return int.from_bytes(payload[at:end], "big", signed=True), end


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of one to nine bytes, and where it ends."""
    value = 0
    for i in range(8):
        byte = data[at + i]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + i + 1
    return value << 8 | data[at + 8], at + 9
