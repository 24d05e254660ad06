"""Recordings: rosbag1 and rosbag2 (sqlite3, mcap) read without ROS."""

from __future__ import annotations

import errno
import functools
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from rosbags.highlevel import AnyReader
from rosbags.interfaces import ConnectionExtRosbag2
from rosbags.rosbag2.reader import DirectoryReader
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from sgnet_ros.recordings.errors import BagError
from sgnet_ros.recordings.storages import Reader1, Reader2
from sgnet_ros.recordings.unpacking import UnpackingError, unpack_file

logger = logging.getLogger(__name__)

BAG_SUFFIXES = (".bag", ".mcap", ".db3")
_UNREADABLE_SUFFIXES = (".mcap.zstd", ".mcap.zst", ".db3.zstd", ".db3.zst", ".bag.active")
_REPAIR = {
    ".bag": "`rosbag reindex`",
    ".mcap": "`mcap recover`",
    ".db3": "`sqlite3 FILE .recover`, then `ros2 bag reindex`,",
    "": "`ros2 bag reindex`",
}
_READ_TYPES = {
    *("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/CameraInfo"),
    *("sensor_msgs/msg/RegionOfInterest", "std_msgs/msg/Header", "std_msgs/msg/Float32"),
    *("builtin_interfaces/msg/Time", "tf2_msgs/msg/TFMessage", "geometry_msgs/msg/Transform"),
    *("geometry_msgs/msg/TransformStamped", "geometry_msgs/msg/Vector3"),
    *("geometry_msgs/msg/Quaternion", "sensor_msgs/msg/Imu"),
}
_SQLITE_MAGIC = b"SQLite format 3\0"

_warned: set[Path] = set()  # damaged bags for which a warning was logged


def is_bag(path: Path) -> bool:
    """Return whether a file or folder is a bag, by the names of its files."""
    if path.is_dir():
        return (path / "metadata.yaml").is_file() or any(map(_is_bag_file, path.iterdir()))
    return _is_bag_file(path)


def _is_bag_file(path: Path) -> bool:
    hidden = path.name.startswith(".")  # macOS writes ._NAME beside NAME on other file systems
    return not hidden and path.name.lower().endswith((*BAG_SUFFIXES, *_UNREADABLE_SUFFIXES))


def _storage_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix in (".mcap", ".db3") and _is_bag_file(p))


def _packed_files(folder: Path) -> list[Path]:
    """Return the compressed storage files of a folder that are not also there uncompressed."""
    packed = (p for p in folder.iterdir() if p.name.endswith((".mcap.zstd", ".db3.zstd")))
    return sorted(p for p in packed if _is_bag_file(p) and not p.with_suffix("").exists())


class Bag(AbstractContextManager["Bag"]):
    """An open recording; a context manager.

    Args:
        path: a rosbag1 file, a rosbag2 folder, or a single .mcap or .db3 file of one.

    Attributes:
        path: path of the bag.
        topics: message type (``sensor_msgs/msg/Image``, for rosbag1, too) of each topic.
        counts: number of messages of each topic.
        complete: False if an mcap file is truncated or damaged, or metadata.yaml is damaged, and
            after `messages` has met damage. All messages that can be read are read, and a warning
            gives their number.

    Raises:
        BagError: the file does not exist or cannot be read as a bag; the message names the command
            that makes it readable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _require_readable(path)
        self.complete = True
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        try:
            self._reader = self._opened()
            if not self.complete and not any(c.msgcount for c in self._reader.connections):
                raise ValueError("it holds no complete message")
        except Exception as error:  # the library passes on whatever damaged bytes lead to
            text = self._without_scratch(str(error))
            self._remove_scratch()
            if isinstance(error, BagError):
                raise BagError(text) from error
            raise BagError(
                f"{path} cannot be read as a bag ({text}); if the recording was interrupted, "
                f"{_REPAIR.get(path.suffix, _REPAIR[''])} may repair it"
            ) from error
        self.topics: dict[str, str] = {}
        self.counts: dict[str, int] = {}
        for connection in self._reader.connections:
            self.topics[connection.topic] = connection.msgtype
            self.counts[connection.topic] = (
                self.counts.get(connection.topic, 0) + connection.msgcount
            )
        if not self.complete and path not in _warned:
            _warned.add(path)
            logger.warning(
                "%s is damaged or was not finished: %d messages of %d topics can be read",
                *(path, sum(self.counts.values()), len(self.topics)),
            )

    def _opened(self) -> AnyReader:
        """Open the bag, or its storage files one by one if metadata.yaml is missing or wrong."""
        path = self.path
        if not path.is_dir():
            return self._reader_of([path])
        if (path / "metadata.yaml").is_file():
            if packed := _packed_files(path):
                return self._reader_of([*_storage_files(path), *map(self._unpacked, packed)])
            try:
                reader = self._reader_of([path])
                if self.complete:
                    return reader
                reader.close()  # metadata.yaml counts messages that are lost
            except BagError:
                raise
            except Exception as error:
                if not _storage_files(path):
                    raise
                logger.warning("%s/metadata.yaml cannot be used: %s", path, error)
                self.complete = False
        return self._reader_of(_storage_files(path))

    def _unpacked(self, file: Path) -> Path:
        """Return a compressed storage file unpacked in a temporary folder.

        Raises:
            BagError: the unpacked file would be too large.
        """
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="sgnet_bag_")
        target = Path(self._scratch.name, file.stem)
        try:
            unpack_file(file, target)
        except UnpackingError as error:
            raise BagError(
                f"{file} is refused, because {error}: if you trust it, unpack it with `zstd -d "
                f"{file}`"
            ) from error
        return target

    def _reader_of(self, paths: Sequence[Path]) -> AnyReader:
        """Open files, or one folder; set `complete` to False if a part is damaged."""
        # Older recorders write no message definitions; those of the standard messages have not
        # changed since.
        reader = AnyReader(paths, default_typestore=get_typestore(Stores.ROS2_JAZZY))
        if reader.is2:
            reader.readers = [Reader2(path) for path in paths]
        else:
            reader.readers = [Reader1(path) for path in paths]
        reader.open()
        storages: list[Any] = []
        for inner in reader.readers:
            storage = inner.storage if isinstance(inner, Reader2) else None
            storages += storage.storages if isinstance(storage, DirectoryReader) else [storage]
        self.complete &= all(getattr(storage, "complete", True) for storage in storages)
        if reader.is2:
            # `mcap convert` puts the messages of a rosbag1 file into MCAP as they are.
            encodings = {
                cast(ConnectionExtRosbag2, c.ext).serialization_format for c in reader.connections
            }
            reader.is2 = encodings != {"ros1"}
        self._check_definitions(reader)
        return reader

    def _check_definitions(self, reader: AnyReader) -> None:
        """Raise BagError if the bag's definition of a message lacks a field that is read."""
        standard = get_typestore(Stores.ROS2_JAZZY if reader.is2 else Stores.ROS1_NOETIC).fielddefs
        recorded = reader.typestore.fielddefs
        for name in _READ_TYPES & recorded.keys():
            fields = {field for field, _ in recorded[name][1]}
            missing = [field for field, _ in standard[name][1] if field not in fields]
            if missing:
                raise BagError(
                    f"{self.path} is damaged: its definition of {name} has no field {missing[0]}"
                )

    def of_type(self, *types: str) -> list[str]:
        """Return the topics of these message types that hold messages, sorted by name."""
        return sorted(t for t, kind in self.topics.items() if kind in types and self.counts[t])

    @property
    def duration_s(self) -> float:
        """Seconds between the first and the last message, by recording time."""
        return self._reader.duration * 1e-9

    def messages(self, topics: Sequence[str]) -> Iterator[tuple[str, int, Any]]:
        """Yield the messages of these topics by recording time: (topic, time in ns, message).

        Array fields are read-only NumPy arrays. If the file is damaged after some messages, the
        iteration ends there with a warning.

        Raises:
            BagError: not even the first message can be read.
        """
        connections = [c for c in self._reader.connections if c.topic in topics]
        read = 0
        try:
            for connection, time, data in self._reader.messages(connections) if connections else ():
                yield (
                    connection.topic,
                    time,
                    self._reader.deserialize(data, connection.msgtype),
                )
                read += 1
        except GeneratorExit:
            raise
        except BagError as error:
            raise BagError(self._without_scratch(str(error))) from error
        except Exception as error:  # as above
            text = self._without_scratch(str(error))
            if not read:
                raise BagError(f"{self.path}: no message can be read ({text})") from error
            self.complete = False
            logger.warning("%s is damaged after %d messages (%s)", self.path, read, text)

    def first(self, topic: str) -> Any:
        """Return the first message of a topic.

        Raises:
            BagError: the topic has no message, or it cannot be read.
        """
        for _, _, message in self.messages([topic]):
            return message
        raise BagError(f"{self.path} holds no message on {topic}")

    def serialized(self, message: Any) -> memoryview:
        """Return a message of this bag in ROS 2's serialization (CDR), even from a ROS 1 bag."""
        kind, store = message.__msgtype__, self._reader.typestore
        if self._reader.is2:
            return store.serialize_cdr(message, kind)
        return _ros2_types().ros1_to_cdr(store.serialize_ros1(message, kind), kind)

    def close(self) -> None:
        """Close the files."""
        self._reader.close()
        self._remove_scratch()

    def _remove_scratch(self) -> None:
        if self._scratch is not None:
            self._scratch.cleanup()

    def _without_scratch(self, text: str) -> str:
        """Replace the temporary folder of unpacked files by the bag's folder in a text."""
        return text.replace(self._scratch.name, str(self.path)) if self._scratch else text

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@functools.cache
def _ros2_types() -> Typestore:
    return get_typestore(Stores.ROS2_JAZZY)


def _require_readable(path: Path) -> None:
    """Raise BagError for a bag that does not exist, or that a known command has to repair first."""
    if not path.exists():
        raise BagError(f"{path} does not exist; name a .bag, .mcap or .db3 file or a bag folder")
    whole_folder = path.is_dir() and (path / "metadata.yaml").is_file()
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    if path.is_dir() and not whole_folder and not _storage_files(path):
        files = [file for file in files if _is_bag_file(file)]
        if not files:
            raise BagError(f"{path} holds no bag file (.mcap, .db3)")
    elif path.is_dir():
        files = _storage_files(path)
    for file in files:
        name = str(file)
        if name.lower().endswith((".zstd", ".zst")):
            raise BagError(
                f"{name} is a compressed file without a metadata.yaml that describes it: unpack it "
                f"with `zstd -d {name} -o {name.rpartition('.')[0]}`"
            )
        if name.endswith(".active"):
            raise BagError(
                f"{name} was not closed by its recorder: run `rosbag reindex {name}`, then "
                "remove .active from its name"
            )
        if file.suffix not in BAG_SUFFIXES:
            lower = file.with_suffix(file.suffix.lower())
            if lower.suffix not in BAG_SUFFIXES:
                raise BagError(f"{name} is not a bag: name a .bag, .mcap or .db3 file")
            raise BagError(f"{name}: the suffix of a bag is in lower case: `mv {name} {lower}`")
        if file.stat().st_size == 0:
            raise BagError(f"{name} is empty")
        if not os.access(file, os.R_OK):
            raise BagError(f"{name} cannot be read: {os.strerror(errno.EACCES)}")
        if file.suffix == ".db3":
            _require_finished(file)


def _require_finished(file: Path) -> None:
    """Raise BagError for an incomplete sqlite3 file, which SQLite would open without an error."""
    for journal in (Path(f"{file}-wal"), Path(f"{file}-journal")):
        if journal.is_file() and journal.stat().st_size:
            raise BagError(
                f"{file} was not closed by its recorder, and {journal.name} contains a part of it: "
                f"`sqlite3 {file} 'PRAGMA journal_mode=DELETE'` joins them"
            )
    with file.open("rb") as opened:
        header = opened.read(32)
    page, pages = int.from_bytes(header[16:18], "big"), int.from_bytes(header[28:32], "big")
    size, expected = file.stat().st_size, pages * (65536 if page == 1 else page)
    if header.startswith(_SQLITE_MAGIC) and size < expected:
        raise BagError(
            f"{file} is truncated, {size} of {expected} bytes; {_REPAIR['.db3']} may repair it"
        )
