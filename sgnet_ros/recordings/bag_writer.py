"""Writer of recordings: rosbag2 folders of serialized messages, mcap or sqlite3."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore


class BagWriter:
    """Write serialized messages into a rosbag2 folder with one storage file.

    `close` moves the folder to ``path`` and replaces an existing one.

    Args:
        path: folder of the bag.
        definitions: text of each message type that is not a standard one of ROS, by name
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
        # The mcap file is named after its folder, which therefore has its final name already.
        folder = self._unfinished / path.name
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin[storage.upper()])
        if storage == "mcap":
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        self._connections: dict[str, Connection] = {}

    def add_topic(self, topic: str, msgtype: str, *, latched: bool = False) -> None:
        """Add a topic; players publish ``latched`` ones as reliable and transient local."""
        self._connections[topic] = self._writer.add_connection(
            topic,
            msgtype,
            typestore=self._typestore,
            offered_qos_profiles=[_qos(latched)],
        )

    def write(self, topic: str, data: bytes, time_ns: int) -> None:
        """Append one message: its CDR bytes, and its recording time in nanoseconds."""
        self._writer.write(self._connections[topic], time_ns, data)

    def close(self) -> None:
        """Finish the file and move the folder to its path."""
        self._writer.close()
        if self.path.exists():
            shutil.rmtree(self.path)
        os.replace(self._unfinished / self.path.name, self.path)
        self._unfinished.rmdir()

    def discard(self) -> None:
        """Delete what was written."""
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
