"""MCAP files, also truncated ones, read with the `mcap` package in bounded memory."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from mcap.reader import SeekingReader
from mcap.records import Channel, Chunk, ChunkIndex, Footer, McapRecord, Message, Schema
from mcap.stream_reader import StreamReader, breakup_chunk
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)
from rosbags.rosbag2.metadata import ReaderMetadata, parse_qos

from sgnet_ros.recordings import unpacking
from sgnet_ros.recordings.errors import BagError
from sgnet_ros.recordings.unpacking import UnpackingError, unpack

_MAGIC = b"\x89MCAP0\r\n"
_ENCODINGS = ("cdr", "ros1")
_FORMATS = {
    "ros1msg": MessageDefinitionFormat.MSG,
    "ros2msg": MessageDefinitionFormat.MSG,
    "ros2idl": MessageDefinitionFormat.IDL,
    "omgidl": MessageDefinitionFormat.IDL,
}


@dataclass
class _Contents:
    """Channels of a file, the number of messages of each, and the time they span in ns.

    ``chunks`` is empty if the file has no index of its chunks.
    """

    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    counts: Counter[int] = field(default_factory=Counter)
    start_ns: int = 2**63 - 1
    end_ns: int = 0
    chunks: list[ChunkIndex] = field(default_factory=list)
    complete: bool = True


class McapStorage:
    """One .mcap file, with the interface that `rosbags.rosbag2.Reader` expects of a storage.

    A file that a crash or a full disk truncated is read up to its last complete record. A file
    without an index is read from its beginning to its end.

    Attributes:
        connections: channels with ROS messages.
        metadata: number of messages and the time that they span.
        complete: False if the file ends before its footer or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connections: list[Connection] = []
        self.metadata = ReaderMetadata(0, 2**63 - 1, 0, 0, None, None, None, None)
        self.complete = True
        self._chunks: list[ChunkIndex] = []

    def open(self) -> None:
        """Read the summary, or all records if there is no summary.

        Raises:
            BagError: the file is not MCAP, its messages are not those of ROS, or a chunk is larger
                than `unpacking.MAX_RECORD_BYTES`.
        """
        with self.path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise BagError(f"{self.path} is not an MCAP file: it begins with other bytes")
        found = self._summary() or self._scanned()
        self.complete, self._chunks = found.complete, found.chunks
        encodings = {channel.message_encoding for channel in found.channels.values()}
        if encodings and not encodings & {*_ENCODINGS}:
            raise BagError(
                f"{self.path} holds messages in {', '.join(sorted(encodings))}, not those of ROS: "
                "record the ROS topics with `ros2 bag record -s mcap`"
            )
        self.connections = [
            self._connection(channel, found)
            for channel in found.channels.values()
            if channel.message_encoding in _ENCODINGS
        ]
        count = found.counts.total()
        self.metadata = ReaderMetadata(
            found.end_ns - found.start_ns + 1 if count else 0,
            found.start_ns,
            found.end_ns + 1 if count else 0,
            count,
            *(None, None, None, None),
        )

    def close(self) -> None:
        """Forget the contents; no file is kept open."""
        self.connections = []

    def messages(
        self,
        connections: Collection[Connection],
        start: int | None = None,
        stop: int | None = None,
    ) -> Generator[tuple[Connection, int, bytes], None, None]:
        """Yield (connection, time in ns, bytes) of some channels by time.

        Without an index, messages are sorted only within each chunk.

        Raises:
            BagError: a chunk is larger than `unpacking.MAX_RECORD_BYTES`.
        """
        wanted = {connection.id: connection for connection in connections}
        found = self._indexed(wanted) if self._chunks else self._linear()
        for message in found:
            if message.channel_id not in wanted:
                continue
            if (start is None or message.log_time >= start) and (
                stop is None or message.log_time < stop
            ):
                yield wanted[message.channel_id], message.log_time, message.data

    def _summary(self) -> _Contents | None:
        """Read the file's summary; return None if it is missing or incomplete."""
        try:
            with self.path.open("rb") as file:
                summary = SeekingReader(
                    file, record_size_limit=unpacking.MAX_RECORD_BYTES
                ).get_summary()
        except Exception:  # the library raises various errors for damaged data
            return None
        if summary is None or summary.statistics is None:
            return None
        statistics = summary.statistics
        counts = Counter(statistics.channel_message_counts)
        if not counts.keys() <= summary.channels.keys() or (
            counts.total() != statistics.message_count
        ):
            return None
        return _Contents(
            summary.schemas,
            summary.channels,
            counts,
            statistics.message_start_time,
            statistics.message_end_time,
            summary.chunk_indexes,
        )

    def _scanned(self) -> _Contents:
        """Read the whole file for its channels and messages."""
        found = _Contents(complete=False)
        try:
            for record in self._records():
                if isinstance(record, Schema):
                    found.schemas[record.id] = record
                elif isinstance(record, Channel):
                    found.channels[record.id] = record
                elif isinstance(record, Message):
                    found.counts[record.channel_id] += 1
                    found.start_ns = min(found.start_ns, record.log_time)
                    found.end_ns = max(found.end_ns, record.log_time)
                found.complete |= isinstance(record, Footer)
        except BagError:
            raise
        except Exception:  # as above; the records before it are read
            found.complete = False
        return found

    def _linear(self) -> Iterator[Message]:
        """Yield the messages in the order of the file, up to where it is damaged."""
        try:
            for record in self._records():
                if isinstance(record, Message):
                    yield record
        except BagError:
            raise
        except Exception:
            if self.complete:
                raise

    def _records(self) -> Iterator[McapRecord]:
        """Yield all records; messages inside a chunk come in the order of their time."""
        with self.path.open("rb") as file:
            reader = StreamReader(
                file, emit_chunks=True, record_size_limit=unpacking.MAX_RECORD_BYTES
            )
            for record in reader.records:
                if isinstance(record, Chunk):
                    inside = self._unpacked(record)
                    yield from (r for r in inside if not isinstance(r, Message))
                    messages = (r for r in inside if isinstance(r, Message))
                    yield from sorted(messages, key=lambda m: m.log_time)
                else:
                    yield record

    def _indexed(self, wanted: Collection[int]) -> Iterator[Message]:
        """Yield the messages of the chunks that contain a wanted channel, by time."""
        waiting: list[tuple[int, int, int, Message]] = []  # chunks may overlap in time
        size, limit = 0, 2 * unpacking.MAX_RECORD_BYTES  # of these messages, in bytes
        with self.path.open("rb") as file:
            for number, index in enumerate(sorted(self._chunks, key=_start_time)):
                while waiting and waiting[0][0] <= index.message_start_time:
                    message = heapq.heappop(waiting)[-1]
                    size -= len(message.data)
                    yield message
                channels = index.message_index_offsets.keys()
                if channels and channels.isdisjoint(wanted):
                    continue
                file.seek(index.chunk_start_offset)
                reader = StreamReader(
                    file,
                    skip_magic=True,
                    emit_chunks=True,
                    record_size_limit=unpacking.MAX_RECORD_BYTES,
                )
                chunk = next(reader.records)
                if not isinstance(chunk, Chunk):
                    raise ValueError(f"no chunk at byte {index.chunk_start_offset}")
                for place, record in enumerate(self._unpacked(chunk)):
                    if isinstance(record, Message) and record.channel_id in wanted:
                        heapq.heappush(waiting, (record.log_time, number, place, record))
                        size += len(record.data)
                if size > limit:
                    raise BagError(
                        f"{self.path}: chunks that overlap in time hold more than {limit} bytes: "
                        "run `mcap sort` on it"
                    )
            while waiting:
                yield heapq.heappop(waiting)[-1]

    def _unpacked(self, chunk: Chunk) -> list[McapRecord]:
        """Return a chunk's records.

        Raises:
            BagError: the chunk is larger than `unpacking.MAX_RECORD_BYTES`.
            ValueError: the chunk is damaged.
        """
        size, limit = chunk.uncompressed_size, unpacking.MAX_RECORD_BYTES
        if size > limit:
            raise BagError(
                f"{self.path} holds a chunk of {size} bytes, more than the {limit} that are read "
                "at once: rewrite it with `mcap compress`, which makes smaller chunks"
            )
        if chunk.compression:
            try:
                data = unpack(chunk.data, chunk.compression, size)
            except UnpackingError as error:
                raise BagError(f"{self.path} is damaged: in a chunk, {error}") from error
            chunk = replace(chunk, compression="", data=data)
        if len(chunk.data) != size:
            raise ValueError(f"a chunk has {len(chunk.data)} of {size} bytes")
        return breakup_chunk(chunk, validate_crc=True)

    def _connection(self, channel: Channel, found: _Contents) -> Connection:
        schema = found.schemas.get(channel.schema_id)
        kind = schema.name if schema else ""
        if channel.message_encoding == "ros1" and "/msg/" not in kind:
            kind = kind.replace("/", "/msg/")
        definition = MessageDefinition(MessageDefinitionFormat.NONE, "")
        if schema is not None and schema.encoding in _FORMATS:
            text = schema.data.decode(errors="replace")
            definition = MessageDefinition(_FORMATS[schema.encoding], text)
        profiles = parse_qos(channel.metadata.get("offered_qos_profiles", ""))
        return Connection(
            id=channel.id,
            topic=channel.topic,
            msgtype=kind,
            msgdef=definition,
            digest="",
            msgcount=found.counts[channel.id],
            ext=ConnectionExtRosbag2(channel.message_encoding, profiles),
            owner=self,
        )


def _start_time(index: ChunkIndex) -> int:
    return index.message_start_time
