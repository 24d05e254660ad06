"""Messages of a camera, and bags of them, in the formats of both ROS versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore

ROS2 = get_typestore(Stores.ROS2_JAZZY)
ROS1 = get_typestore(Stores.ROS1_NOETIC)
WIDTH, HEIGHT = 12, 8
K = (10.0, 0.0, 5.5, 0.0, 11.0, 3.5, 0.0, 0.0, 1.0)
MS = 10**6

Messages = list[tuple[str, int, Any]]


class Maker:
    """Makes messages of either ROS version by its own definitions, and bags of them."""

    def __init__(self, ros: int) -> None:
        self.ros = ros
        self.store = ROS1 if ros == 1 else ROS2
        self.types = self.store.types

    def header(self, stamp: int, frame: str) -> Any:
        time = self.types["builtin_interfaces/msg/Time"](stamp // 10**9, stamp % 10**9)
        fields = {"seq": 0} if self.ros == 1 else {}
        return self.types["std_msgs/msg/Header"](**fields, stamp=time, frame_id=frame)

    def image(self, array: npt.NDArray[Any], encoding: str, stamp: int, frame: str = "cam") -> Any:
        return self.types["sensor_msgs/msg/Image"](
            header=self.header(stamp, frame),
            height=array.shape[0],
            width=array.shape[1],
            encoding=encoding,
            is_bigendian=0,
            step=array.strides[0],
            data=np.frombuffer(array.tobytes(), np.uint8),
        )

    def info(
        self,
        stamp: int,
        k: tuple[float, ...] = K,
        frame: str = "cam",
        p: tuple[float, ...] = (0.0,) * 12,
    ) -> Any:
        upper = self.ros == 1
        matrices = {"d": np.zeros(5), "k": np.array(k), "r": np.eye(3).ravel(), "p": np.array(p)}
        roi = self.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
        return self.types["sensor_msgs/msg/CameraInfo"](
            header=self.header(stamp, frame),
            height=HEIGHT,
            width=WIDTH,
            distortion_model="plumb_bob",
            **{(name.upper() if upper else name): value for name, value in matrices.items()},
            binning_x=0,
            binning_y=0,
            roi=roi,
        )

    def transform(self, x: float, angle_z: float) -> Any:
        vector = self.types["geometry_msgs/msg/Vector3"](x, 0.0, 0.0)
        turn = (0.0, 0.0, float(np.sin(angle_z / 2)), float(np.cos(angle_z / 2)))
        rotation = self.types["geometry_msgs/msg/Quaternion"](*turn)
        return self.types["geometry_msgs/msg/Transform"](vector, rotation)

    def static_tf(self, edges: list[tuple[str, str, Any]]) -> Any:
        stamped = self.types["geometry_msgs/msg/TransformStamped"]
        return self.types["tf2_msgs/msg/TFMessage"](
            [stamped(self.header(0, parent), child, pose) for parent, child, pose in edges]
        )

    def write(self, path: Path, messages: Messages) -> Path:
        """Write a bag of these (topic, time in ns, message) in this version's format."""
        messages = sorted(messages, key=lambda m: m[1])
        kinds = {topic: m.__msgtype__ for topic, _, m in messages}
        if self.ros == 1:
            with Writer1(path) as bag1:
                links1 = {t: bag1.add_connection(t, k, typestore=ROS1) for t, k in kinds.items()}
                for topic, time, m in messages:
                    bag1.write(links1[topic], time, ROS1.serialize_ros1(m, m.__msgtype__))
            return path
        plugin = StoragePlugin.MCAP if path.suffix == ".mcap" else StoragePlugin.SQLITE3
        folder = path.with_suffix("")
        with Writer2(folder, version=9, storage_plugin=plugin) as bag2:
            links2 = {t: bag2.add_connection(t, k, typestore=ROS2) for t, k in kinds.items()}
            for topic, time, m in messages:
                bag2.write(links2[topic], time, ROS2.serialize_cdr(m, m.__msgtype__))
        return folder


def colors(seed: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def depths(seed: int) -> npt.NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(0, 9000, (HEIGHT, WIDTH), np.uint16)


def recording(make: Maker, frames: int = 3) -> Messages:
    """Return registered frames at 10 Hz, depth 4 ms after color, and another half way between."""
    messages: Messages = []
    for i in range(frames):
        stamp = 10**9 + i * 100 * MS
        rgb, depth = colors(i), depths(i)
        messages += [
            ("/cam/color/image_raw", stamp, make.image(rgb, "rgb8", stamp)),
            ("/cam/color/camera_info", stamp, make.info(stamp)),
            ("/cam/depth/image", stamp + 4 * MS, make.image(depth, "16UC1", stamp + 4 * MS)),
            ("/cam/depth/image", stamp + 54 * MS, make.image(depth + 1, "16UC1", stamp + 54 * MS)),
        ]
    return messages
