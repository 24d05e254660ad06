"""Bag files without their end, as a crash or a full disk leaves them, made readable as they are.

Both mcap and rosbag1 files are records one after the other, and an index at the end that readers
start from. Where that is missing, `recovered` shows the file up to its last complete record, with
an end made anew in memory; the file itself isn't touched. For sqlite3, see `bag_recovery_db3`.
"""

from __future__ import annotations

import bz2
import importlib
import io
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from sgnet_ros.recordings.bag_recovery_db3 import Db3Path

_MCAP_MAGIC = b"\x89MCAP0\r\n"
_MCAP_DATA_END, _MCAP_FOOTER = 0x0F, 0x02
# A footer that names no summary: readers then look through the records (MCAP specification).
_MCAP_TAIL = struct.pack("<BQQQI", _MCAP_FOOTER, 20, 0, 0, 0) + _MCAP_MAGIC

_BAG1_MAGIC = b"#ROSBAG V2.0\n"
_MESSAGE, _BAG_HEADER, _INDEX, _CHUNK, _CHUNK_INFO, _CONNECTION = 2, 3, 4, 5, 6, 7


class _Parts(NamedTuple):
    """What is shown: ``head`` in place of the file's first bytes, the file to ``end``, ``tail``."""

    head: bytes
    end: int
    tail: bytes


class _MendedFile(io.RawIOBase):
    """The parts as one file that can be read."""

    def __init__(self, path: Path, parts: _Parts) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - closed by close()
        self._parts = parts
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        size = self._parts.end + len(self._parts.tail)
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        head, end, tail = self._parts
        at, view = self._position, memoryview(buffer)
        if at < len(head):
            data = head[at : at + len(view)]
        elif at < end:
            self._file.seek(at)
            data = self._file.read(min(len(view), end - at))
        else:
            data = tail[at - end : at - end + len(view)]
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


class RecoveredPath(type(Path())):  # type: ignore[misc] # PosixPath or WindowsPath
    """The path of a damaged file that opens as the mended one."""

    parts_shown: _Parts

    def open(self, *_: Any, **__: Any) -> Any:
        return io.BufferedReader(_MendedFile(Path(self), self.parts_shown))


def recovered(path: Path) -> Path:
    """A path to give to a reader in place of that of a damaged .mcap, .bag or .db3 file.

    Raises:
        ValueError: the file doesn't begin as such files do, or it is of another kind.
    """
    if path.suffix == ".db3":
        return Db3Path(path)
    scans = {".mcap": _scan_mcap, ".bag": _scan_bag1}
    if path.suffix not in scans:
        raise ValueError(f"{path} is no .mcap, .bag or .db3 file")
    with open(path, "rb") as file:
        parts = scans[path.suffix](file)
    mended = RecoveredPath(path)
    mended.parts_shown = parts
    return mended


def _scan_mcap(file: BinaryIO) -> _Parts:
    size = os.fstat(file.fileno()).st_size
    if file.read(8) != _MCAP_MAGIC:
        raise ValueError("not an mcap file")
    end = 8
    while len(start := file.read(9)) == 9:
        code, length = struct.unpack("<BQ", start)
        if code in (_MCAP_DATA_END, _MCAP_FOOTER) or end + 9 + length > size:
            break
        end += 9 + length
        file.seek(end)
    return _Parts(b"", end, _MCAP_TAIL)


class _Chunk(NamedTuple):
    """A rosbag1 chunk: where it is, and (seconds, nanoseconds, offset) by connection."""

    position: int
    messages: dict[int, list[tuple[int, int, int]]]


def _scan_bag1(file: BinaryIO) -> _Parts:
    """Reads all complete chunks; the last one's index may be missing, and is made anew."""
    if file.read(len(_BAG1_MAGIC)) != _BAG1_MAGIC:
        raise ValueError("not a rosbag1 file")
    connections: dict[int, bytes] = {}
    chunks: list[_Chunk] = []
    records = _records(file)
    fields, _ = next(records, ({}, b""))
    if fields.get("op") != bytes([_BAG_HEADER]):
        raise ValueError("a rosbag1 file without its header")
    head_end = end = chunk_end = file.tell()
    for fields, data in records:
        code = fields["op"][0]
        if code == _CHUNK:
            try:
                chunks.append(_read_chunk(end, fields, data, connections))
            except Exception:  # decompressors raise all sorts
                break
            # The index records that follow the last one, whole or not, are written anew.
            chunk_end = file.tell()
        elif code != _INDEX:
            break
        end = file.tell()
    tail = _index_records(chunks[-1]) if chunks else b""
    index_position = chunk_end + len(tail)
    tail += b"".join(connections.values())
    tail += b"".join(map(_chunk_info, chunks))
    head = _BAG1_MAGIC + _bag_header(
        index_position, len(connections), len(chunks), head_end - len(_BAG1_MAGIC)
    )
    return _Parts(head, chunk_end, tail)


def _records(file: BinaryIO) -> Iterator[tuple[dict[str, bytes], bytes]]:
    """(header fields, data) of the complete records from here on."""
    while True:
        header, data = _sized(file), _sized(file)
        if header is None or data is None:
            return
        fields = _fields(header)
        if "op" not in fields:  # no record begins like that
            return
        yield fields, data


def _sized(file: BinaryIO) -> bytes | None:
    """A length in four bytes and as many bytes; None where the file ends before that."""
    start = file.read(4)
    if len(start) < 4:
        return None
    (length,) = struct.unpack("<I", start)
    data = file.read(length)
    return data if len(data) == length else None


def _fields(header: bytes) -> dict[str, bytes]:
    fields, at = {}, 0
    while at + 4 <= len(header):
        (length,) = struct.unpack_from("<I", header, at)
        name, _, value = header[at + 4 : at + 4 + length].partition(b"=")
        fields[name.decode("ascii", "replace")] = value
        at += 4 + length
    return fields


def _read_chunk(
    position: int, fields: dict[str, bytes], data: bytes, connections: dict[int, bytes]
) -> _Chunk:
    """The index of a chunk's messages; adds the connection records that it holds."""
    inside = io.BytesIO(_decompressed(fields["compression"], data))
    index: dict[int, list[tuple[int, int, int]]] = {}
    offset = 0
    for inner, _ in _records(inside):
        (number,) = struct.unpack("<I", inner["conn"])
        if inner["op"][0] == _CONNECTION:
            whole = inside.getbuffer()[offset : inside.tell()]
            connections.setdefault(number, bytes(whole))
        elif inner["op"][0] == _MESSAGE:
            index.setdefault(number, []).append((*struct.unpack("<II", inner["time"]), offset))
        offset = inside.tell()
    return _Chunk(position, index)


def _decompressed(compression: bytes, data: bytes) -> bytes:
    if compression == b"none":
        return data
    if compression == b"bz2":
        return bz2.decompress(data)
    if compression == b"lz4":
        raw: bytes = importlib.import_module("lz4.frame").decompress(data)
        return raw
    raise ValueError(f"chunks compressed by {compression.decode(errors='replace')}")


def _record(fields: dict[str, bytes], data: bytes) -> bytes:
    header = b"".join(
        struct.pack("<I", len(name) + 1 + len(value)) + name.encode() + b"=" + value
        for name, value in fields.items()
    )
    return struct.pack("<I", len(header)) + header + struct.pack("<I", len(data)) + data


def _bag_header(index_position: int, connections: int, chunks: int, size: int) -> bytes:
    """A bag header of ``size`` bytes, padded as the format has it."""
    fields = {
        "op": bytes([_BAG_HEADER]),
        "index_pos": struct.pack("<Q", index_position),
        "conn_count": struct.pack("<I", connections),
        "chunk_count": struct.pack("<I", chunks),
    }
    return _record(fields, b" " * (size - len(_record(fields, b""))))


def _index_records(chunk: _Chunk) -> bytes:
    return b"".join(
        _record(
            {
                "op": bytes([_INDEX]),
                "ver": struct.pack("<I", 1),
                "conn": struct.pack("<I", number),
                "count": struct.pack("<I", len(entries)),
            },
            b"".join(struct.pack("<III", *entry) for entry in entries),
        )
        for number, entries in chunk.messages.items()
    )


def _chunk_info(chunk: _Chunk) -> bytes:
    times = [entry[:2] for entries in chunk.messages.values() for entry in entries] or [(0, 0)]
    fields = {
        "op": bytes([_CHUNK_INFO]),
        "ver": struct.pack("<I", 1),
        "chunk_pos": struct.pack("<Q", chunk.position),
        "start_time": struct.pack("<II", *min(times)),
        "end_time": struct.pack("<II", *max(times)),
        "count": struct.pack("<I", len(chunk.messages)),
    }
    counts = (struct.pack("<II", n, len(entries)) for n, entries in chunk.messages.items())
    return _record(fields, b"".join(counts))
