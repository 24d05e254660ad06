"""Recordings: rosbag1 and rosbag2 (sqlite3, mcap) read without ROS, mcap written."""

from __future__ import annotations

import heapq
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from rosbags.highlevel import AnyReader
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from sgnet_ros.recordings.bag_recovery import recovered
from sgnet_ros.recordings.bag_recovery_db3 import Db3Path, Db3Storage, unfinished

logger = logging.getLogger(__name__)

BAG_SUFFIXES = (".bag", ".mcap", ".db3")
_REPAIR = {
    ".bag": "rosbag reindex",
    ".mcap": "mcap recover",
    ".db3": "ros2 bag reindex",
    "": "ros2 bag reindex",
}


_told: set[Path] = set()  # damaged bags, each of which is warned of once


class BagError(ValueError):
    """A bag that can't be read or doesn't hold what is asked for; the message names the file."""


def is_bag(path: Path) -> bool:
    """True for a bag file (by suffix) and for a folder that holds rosbag2 files."""
    if path.is_dir():
        return (path / "metadata.yaml").is_file() or bool(_storage_files(path))
    return path.suffix in BAG_SUFFIXES


def _storage_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix in (".mcap", ".db3"))


def _opened(files: Sequence[Path]) -> AnyReader:
    for path in files:
        for file in _storage_files(path) if path.is_dir() else [path]:
            if (
                file.suffix == ".db3"
                and not isinstance(file, Db3Path)
                and (why := unfinished(file))
            ):
                raise BagError(why)  # rosbags takes no notice
    # Bags of older recorders hold no message definitions; those of the standard messages have not
    # changed since.
    reader = AnyReader(files, default_typestore=get_typestore(Stores.ROS2_JAZZY))
    for inner in reader.readers:
        if isinstance(inner, Reader) and isinstance(inner.path, Db3Path):
            inner.storage = Db3Storage(inner.path)
    reader.open()
    return reader


def _readable(file: Path) -> Path:
    """The file itself, or one that shows what is there of it."""
    try:
        with closing(_opened([file])):
            return file
    except Exception:  # as above
        return recovered(file)


class Bag(AbstractContextManager["Bag"]):
    """An open recording; a context manager.

    Args:
        path: a rosbag1 file, a rosbag2 folder, or a single .mcap or .db3 file of one.

    Attributes:
        path: as given.
        topics: message type (``sensor_msgs/msg/Image``, for rosbag1 too) of each topic.
        counts: number of messages of each topic.
        complete: whether the files are as their recorder meant them. If not, what can be read of
            them is read, and a warning says how much.

    Raises:
        BagError: there is no such file, or it isn't a bag that can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise BagError(
                f"{path} does not exist; name a .bag, .mcap or .db3 file or a bag folder"
            )
        files = [path]
        if path.is_dir() and not (path / "metadata.yaml").is_file():
            files = _storage_files(path)
        self.complete = True
        try:
            self._reader = _opened(files)
        except Exception as error:  # the library passes on whatever damaged bytes lead to
            self.complete = False
            try:
                files = [_readable(f) for f in (_storage_files(path) if path.is_dir() else files)]
                self._reader = _opened(files)
                if not any(c.msgcount for c in self._reader.connections):
                    raise BagError("it holds no complete message")
            except Exception:
                raise BagError(
                    f"{path} can't be read as a bag ({error}); if the recording was interrupted, "
                    f"`{_REPAIR.get(path.suffix, _REPAIR[''])}` may repair it"
                ) from error
        self._files = files
        self.topics: dict[str, str] = {}
        self.counts: dict[str, int] = {}
        for connection in self._reader.connections:
            self.topics[connection.topic] = connection.msgtype
            self.counts[connection.topic] = (
                self.counts.get(connection.topic, 0) + connection.msgcount
            )
        if not self.complete and path not in _told:
            _told.add(path)
            logger.warning(
                "%s is damaged or was not finished: %d messages of %d topics can be read",
                *(path, sum(self.counts.values()), len(self.topics)),
            )

    def of_type(self, *types: str) -> list[str]:
        """Topics of these message types that hold messages, sorted by name."""
        return sorted(t for t, kind in self.topics.items() if kind in types and self.counts[t])

    @property
    def duration_s(self) -> float:
        """Seconds between the first and the last message, by recording time."""
        return self._reader.duration * 1e-9

    def messages(self, topics: Sequence[str]) -> Iterator[tuple[str, int, Any]]:
        """Messages of these topics by recording time: (topic, time in ns, message).

        Array fields are read-only NumPy arrays. Where the file is damaged further in, what comes
        before is read, a warning is logged, and that is the end.

        Raises:
            BagError: not even the first message can be read.
        """
        connections = [c for c in self._reader.connections if c.topic in topics]
        read = 0
        try:
            for connection, time, data in self._raw(connections):
                yield (
                    connection.topic,
                    time,
                    self._reader.deserialize(data, connection.msgtype),
                )
                read += 1
        except GeneratorExit:
            raise
        except Exception as error:  # as above
            if not read:
                raise BagError(f"{self.path}: no message can be read ({error})") from error
            logger.warning("%s is damaged after %d messages (%s)", self.path, read, error)

    def _raw(self, connections: Sequence[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        """Serialised messages by recording time."""
        if self.complete:
            yield from self._reader.messages(connections)
            return

        # Without its index a file is read in its own order, which is that of time for each topic.
        def of(topic: str) -> Iterator[tuple[Connection, int, bytes]]:
            with closing(_opened(self._files)) as reader:
                yield from reader.messages([c for c in reader.connections if c.topic == topic])

        topics = sorted({connection.topic for connection in connections})
        yield from heapq.merge(*map(of, topics), key=lambda m: m[1])

    def first(self, topic: str) -> Any:
        """The first message of a topic.

        Raises:
            BagError: it has none, or it can't be read.
        """
        for _, _, message in self.messages([topic]):
            return message
        raise BagError(f"{self.path} holds no message on {topic}")

    def close(self) -> None:
        """Closes the files."""
        self._reader.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class BagWriter:
    """Writes serialised messages into a rosbag2 folder with one storage file.

    The folder appears at ``path``, in place of one that was there, when the writer is closed.

    Args:
        path: the bag's folder.
        definitions: text of each message type that isn't part of ROS's own, by name
            (``sgnet_msgs/msg/ClassMap``).
        storage: ``mcap`` (zstd-compressed) or ``sqlite3``.
    """

    def __init__(
        self,
        path: Path,
        definitions: Mapping[str, str] | None = None,
        storage: Literal["mcap", "sqlite3"] = "mcap",
    ) -> None:
        self.path = path
        self._typestore = get_typestore(Stores.ROS2_JAZZY)
        for name, text in (definitions or {}).items():
            self._typestore.register(get_types_from_msg(text, name))
        self._unfinished = path.with_name(f".{path.name}.partial")
        if self._unfinished.exists():  # of a run that was killed
            shutil.rmtree(self._unfinished)
        # The mcap file is named after its folder, so that has its final name from the start.
        folder = self._unfinished / path.name
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin[storage.upper()])
        if storage == "mcap":
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        self._connections: dict[str, Connection] = {}

    def add_topic(self, topic: str, msgtype: str, *, latched: bool = False) -> None:
        """Announces a topic; players offer ``latched`` ones reliable and transient local."""
        self._connections[topic] = self._writer.add_connection(
            topic,
            msgtype,
            typestore=self._typestore,
            offered_qos_profiles=[_qos(latched)],
        )

    def write(self, topic: str, data: bytes, time_ns: int) -> None:
        """Appends one message: its CDR bytes as DDS carries them, and when it was received."""
        self._writer.write(self._connections[topic], time_ns, data)

    def close(self) -> None:
        """Finishes the file and puts the folder in its place."""
        self._writer.close()
        if self.path.exists():
            shutil.rmtree(self.path)
        os.replace(self._unfinished / self.path.name, self.path)
        self._unfinished.rmdir()

    def discard(self) -> None:
        """Throws away what was written."""
        self._writer.abort()
        shutil.rmtree(self._unfinished)


def _qos(latched: bool) -> Qos:
    unlimited = QosTime(0, 0)
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=unlimited,
        lifespan=unlimited,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=unlimited,
        avoid_ros_namespace_conventions=False,
    )
