"""Readers of rosbag1 and rosbag2 storages with bounded decompression."""

from __future__ import annotations

import re
from collections.abc import Collection, Generator
from functools import partial
from pathlib import Path

from rosbags.interfaces import Connection
from rosbags.rosbag1.reader import Chunk, Header, RecordType
from rosbags.rosbag1.reader import Reader as RosbagsReader1
from rosbags.rosbag2.reader import DirectoryReader
from rosbags.rosbag2.reader import Reader as RosbagsReader2
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sgnet_core.files import read_limited
from sgnet_ros.recordings import unpacking
from sgnet_ros.recordings.errors import BagError
from sgnet_ros.recordings.mcap_storage import McapStorage
from sgnet_ros.recordings.unpacking import UnpackingError, unpack

MAX_METADATA_BYTES = 1 << 20
"""Largest metadata.yaml that is read."""

# References, escaped letters, and every compression_mode other than none and message.
_SUSPICIOUS = re.compile(
    rb"""&|\\[xuU]|compression_mode['"]?\s*:(?![ \t]*(""|''|['"]?(none|message)['"]?)[ \t\r]*$)""",
    re.IGNORECASE | re.MULTILINE,
)
_TEXTS = {
    *("version", "storage_identifier", "compression_format", "compression_mode", "ros_distro"),
    *("name", "type", "serialization_format", "type_description_hash"),
}


class SqliteStorage(Sqlite3Reader):
    """One .db3 file; its name is escaped, because the library puts it into a URI as it is."""

    def __init__(self, path: Path) -> None:
        name = str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        super().__init__(Path(name))


class Folder(DirectoryReader):
    """A rosbag2 folder; its messages may be compressed one by one."""

    STORAGE_PLUGINS = {"mcap": McapStorage, "sqlite3": SqliteStorage}  # noqa: RUF012

    def open(self) -> None:
        if self._compression_mode() == "file":  # `Bag` has unpacked the files with the right name
            raise ValueError("compression_mode is FILE, but the storage files do not end in .zstd")
        super().open()
        self._packed = self.metadata.compression_mode == "message"
        self.metadata = self.metadata._replace(compression_mode=None)  # messages() unpacks

    def _compression_mode(self) -> str:
        """Return the compression_mode in metadata.yaml; empty if it is unknown.

        Raises:
            ValueError: the file is too large, or has a list where a text is expected, which a few
                lines of YAML references could make endless.
        """
        text = read_limited(str(self.path / "metadata.yaml"), MAX_METADATA_BYTES)
        if not _SUSPICIOUS.search(text):
            return ""  # do not parse it, which takes a second per 50 kB
        try:
            info = YAML(typ="safe").load(text)["rosbag2_bagfile_information"]
            topics = [topic["topic_metadata"] for topic in info["topics_with_message_count"]]
            mode = info.get("compression_mode", "")
        except (LookupError, AttributeError, TypeError, YAMLError):
            return ""  # opening the bag reports the error
        for values in (info, *topics):
            for key in set(values) & _TEXTS:
                if not isinstance(values[key], str | int | None):
                    raise ValueError(f"{key} is not a text")
        return str(mode).lower()

    def messages(
        self,
        connections: Collection[Connection],
        start: int | None = None,
        stop: int | None = None,
    ) -> Generator[tuple[Connection, int, bytes], None, None]:
        for connection, time, data in super().messages(connections, start, stop):
            if self._packed:
                limit = unpacking.MAX_RECORD_BYTES
                data = _unpacked(Path(str(self.path)), "message", data, "zstd", limit)
            yield connection, time, data


class Reader2(RosbagsReader2):
    """A rosbag2 folder or storage file."""

    STORAGE_PLUGINS = {  # noqa: RUF012
        "dir": Folder,
        ".mcap": McapStorage,
        ".db3": SqliteStorage,
    }


class Reader1(RosbagsReader1):
    """A rosbag1 file; no chunk is unpacked to more than its declared size."""

    def read_chunk(self) -> Chunk:
        assert self.bio
        start = self.bio.tell()
        header = Header.read(self.bio, RecordType.CHUNK)
        size, compression = header.get_uint32("size"), header.get_string("compression")
        self.bio.seek(start)
        chunk = super().read_chunk()
        path = Path(str(self.path))
        if size > (limit := unpacking.MAX_RECORD_BYTES):
            raise BagError(
                f"{path} holds a chunk of {size} bytes, more than the {limit} that are read at "
                "once: record with smaller chunks (`rosbag record --chunksize`)"
            )
        if compression == "none":
            return chunk
        unpacker = partial(_unpacked, path, "chunk", compression=compression, limit=size)
        return chunk._replace(decompressor=unpacker)


def _unpacked(path: Path, what: str, data: bytes, compression: str, limit: int) -> bytes:
    """Decompress a part of a bag.

    Raises:
        BagError: the unpacked part is larger than the limit.
    """
    try:
        return unpack(data, compression, limit)
    except UnpackingError as error:
        raise BagError(f"{path}: a {what} is refused, because {error}") from error
