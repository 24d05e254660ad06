"""Bags: what is written is read back exactly; frames are found, matched and registered."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore

from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.geometry.lens import Camera
from sgnet_core.geometry.registration import DepthRegistration
from sgnet_ros.recordings.bag_source import BagSource
from sgnet_ros.recordings.bag_writer import BagWriter
from sgnet_ros.recordings.bags import Bag, is_bag
from sgnet_ros.recordings.errors import BagError

ROS2 = get_typestore(Stores.ROS2_JAZZY)
ROS1 = get_typestore(Stores.ROS1_NOETIC)
WIDTH, HEIGHT = 12, 8
K = (10.0, 0.0, 5.5, 0.0, 11.0, 3.5, 0.0, 0.0, 1.0)
MS = 10**6

Messages = list[tuple[str, int, Any]]


class Maker:
    """Messages of either ROS version, by their own message definitions."""

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

    def info(self, stamp: int, k: tuple[float, ...] = K, frame: str = "cam") -> Any:
        upper = self.ros == 1
        matrices = {"d": np.zeros(5), "k": np.array(k), "r": np.eye(3).ravel(), "p": np.zeros(12)}
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
        """A bag of these (topic, time in ns, message) in this version's format."""
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
    """Registered frames at 10 Hz, depth 4 ms after colour, and a second depth half way between."""
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


@pytest.mark.parametrize("ros, name", [(1, "a.bag"), (2, "a.db3"), (2, "a.mcap")])
def test_frames_of_every_format_are_exact(tmp_path: Path, ros: int, name: str) -> None:
    make = Maker(ros)
    path = make.write(tmp_path / name, recording(make))
    assert is_bag(path)
    source = BagSource(path)
    frames = list(source)
    assert len(frames) == 3
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.rgb, colors(i))
        np.testing.assert_array_equal(frame.depth, depths(i))  # the nearer one in time
        assert frame.labels is None
        assert frame.intrinsics == Intrinsics(10, 11, 5.5, 3.5, WIDTH, HEIGHT)
    assert source.rate_hz == pytest.approx(2 / 0.254)  # 3 images, first to last message
    assert len(list(source)) == 3  # a second pass starts from the beginning


def test_a_single_storage_file_is_a_bag(tmp_path: Path) -> None:
    make = Maker(2)
    folder = make.write(tmp_path / "a.mcap", recording(make))
    (folder / "metadata.yaml").unlink()
    assert is_bag(folder)
    assert len(list(BagSource(folder))) == 3
    assert len(list(BagSource(folder / "a.mcap"))) == 3


def test_ground_truth_is_joined_by_stamp_but_a_nodes_answer_is_not_taken(tmp_path: Path) -> None:
    make = Maker(2)
    messages = recording(make)
    mask = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)
    for i in (0, 2):
        stamp = 10**9 + i * 100 * MS
        late = stamp + 30 * MS  # recorded later than the image it belongs to
        messages += [("/cam/labels", late, make.image(mask + i, "mono8", stamp))]
    found = [f.labels for f in BagSource(make.write(tmp_path / "a.mcap", messages))]
    np.testing.assert_array_equal(found[0], mask)
    assert found[1] is None
    np.testing.assert_array_equal(found[2], mask + 2)

    stats = make.types["std_msgs/msg/String"]("whatever")
    answer = make.write(tmp_path / "b.mcap", [*messages, ("/cam/stats", 10**9, stats)])
    assert BagSource(answer).topics.labels is None


def test_float_and_compressed_images_are_read(tmp_path: Path) -> None:
    make = Maker(2)
    metres = np.array([[0.0004, 1.2344, np.nan, np.inf, -1.0, 70.0]], np.float32)
    metres = np.resize(metres, (HEIGHT, WIDTH))
    png = io.BytesIO()
    Image.fromarray(colors(5)).save(png, "PNG")
    compressed = make.types["sensor_msgs/msg/CompressedImage"](
        make.header(10**9, "cam"), "bgr8; png compressed bgr8", np.frombuffer(png.getvalue(), "u1")
    )
    path = make.write(
        tmp_path / "a.mcap",
        [
            ("/cam/color/image_raw/compressed", 10**9, compressed),
            ("/cam/color/camera_info", 10**9, make.info(10**9)),
            ("/cam/depth_registered/image", 10**9, make.image(metres, "32FC1", 10**9)),
        ],
    )
    (frame,) = BagSource(path)
    np.testing.assert_array_equal(frame.rgb, colors(5))
    np.testing.assert_array_equal(frame.depth[0, :6], [0, 1234, 0, 0, 0, 0])


def test_frames_without_a_partner_in_time_are_left_out(tmp_path: Path) -> None:
    make = Maker(2)
    messages = [m for m in recording(make, frames=8) if "depth" not in m[0] or m[1] < 1.3e9]
    frames = list(BagSource(make.write(tmp_path / "a.mcap", messages)))
    assert len(frames) == 5  # the last depth is at 1.254 s, and colour at 1.4 s still near enough


def test_compressed_float_depth_is_dequantised(tmp_path: Path) -> None:
    make = Maker(2)
    inverse = np.full((HEIGHT, WIDTH), 5000, np.uint16)
    inverse[2, 3] = 0
    png = io.BytesIO()
    Image.fromarray(inverse).save(png, "PNG")
    a, b = 10_100.0, -1009.0  # metres = a / (number - b)
    compressed = make.types["sensor_msgs/msg/CompressedImage"](
        make.header(10**9, "cam"),
        "32FC1; compressedDepth png",
        np.frombuffer(struct.pack("<iff", 0, a, b) + png.getvalue(), "u1"),
    )
    messages: Messages = [
        ("/cam/color/image_raw", 10**9, make.image(colors(0), "rgb8", 10**9)),
        ("/cam/color/camera_info", 10**9, make.info(10**9)),
        ("/cam/depth_registered/image/compressedDepth", 10**9, compressed),
    ]
    (frame,) = BagSource(make.write(tmp_path / "a.mcap", messages))
    assert frame.depth[2, 3] == 0
    frame.depth[2, 3] = frame.depth[0, 0]
    assert (frame.depth == round(1000 * a / (5000 - b))).all()


def unregistered(make: Maker) -> Messages:
    """One frame whose depth camera stands 0.1 m to the right, turned, with its own calibration."""
    depth = np.full((HEIGHT, WIDTH), 2000, np.uint16)
    depth[2:5, 3:7] = 1000
    k = (8.0, 0, 5.0, 0, 8.0, 4.0, 0, 0, 1)
    return [
        ("/cam/color/image_raw", 10**9, make.image(colors(0), "rgb8", 10**9, "c_optical")),
        ("/cam/color/camera_info", 10**9, make.info(10**9, frame="c_optical")),
        ("/cam/depth/image_raw", 10**9, make.image(depth, "16UC1", 10**9, "d_optical")),
        ("/cam/depth/camera_info", 10**9, make.info(10**9, k, "d_optical")),
    ]


def registered(depth: npt.NDArray[Any], rgb: Intrinsics, pose: npt.NDArray[Any]) -> Any:
    """Depth of `unregistered`'s camera as the colour camera sees it."""
    camera = Camera(Intrinsics(8, 8, 5, 4, WIDTH, HEIGHT))
    metres = torch.from_numpy(depth.astype(np.float32))
    return DepthRegistration(camera, Camera(rgb), pose)(metres).numpy()


def test_depth_is_registered_with_the_recorded_transforms(tmp_path: Path) -> None:
    make = Maker(2)
    tf = make.static_tf(
        [
            ("base", "c_optical", make.transform(0.3, 0.0)),
            ("base", "d_link", make.transform(0.0, 0.0)),
            ("d_link", "d_optical", make.transform(0.4, 0.2)),
        ]
    )
    path = make.write(tmp_path / "a.mcap", [*unregistered(make), ("/tf_static", 10**9, tf)])
    (frame,) = BagSource(path)

    pose = np.eye(4)  # depth in colour: 0.1 m along x, 0.2 rad about z
    pose[:2, :2] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    pose[0, 3] = 0.1
    depth = np.full((HEIGHT, WIDTH), 2.0)
    depth[2:5, 3:7] = 1.0
    expected = registered(depth, frame.intrinsics, pose)
    assert (expected[0, 4], expected[0, 3], expected[1, 8]) == (1, 2, 1)  # turned and shifted
    np.testing.assert_array_equal(frame.depth, np.rint(expected * 1000))


def test_librealsense_recordings_are_understood(tmp_path: Path) -> None:
    """Its recorder names both frames "0", and gives reference-to-stream transforms and units."""
    make = Maker(1)
    units = make.types["std_msgs/msg/Float32"](0.0005)
    place = {"color": "/device_0/sensor_1/Color_0", "depth": "/device_0/sensor_0/Depth_0"}
    messages: Messages = []
    for topic, time, message in unregistered(make):
        kind = "color" if "color" in topic else "depth"
        message.header.frame_id = "0"
        suffix = "info/camera_info" if "info" in topic else "image/data"
        messages += [(f"{place[kind]}/{suffix}", time, message)]
    messages += [
        (f"{place['color']}/tf/0", 1, make.transform(0.015, 0.01)),
        (f"{place['depth']}/tf/0", 1, make.transform(0.0, 0.0)),
        ("/device_0/sensor_0/option/Depth Units/value", 1, units),
    ]
    (frame,) = BagSource(make.write(tmp_path / "a.bag", messages))
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(0.01), -np.sin(0.01)], [np.sin(0.01), np.cos(0.01)]]
    pose[0, 3] = 0.015
    depth = np.full((HEIGHT, WIDTH), 1.0)
    depth[2:5, 3:7] = 0.5
    expected = registered(depth, frame.intrinsics, pose)
    np.testing.assert_array_equal(frame.depth, np.rint(expected * 1000))


def test_errors_name_the_file_and_the_remedy(tmp_path: Path) -> None:
    make = Maker(2)
    with pytest.raises(BagError, match=r"nowhere\.mcap does not exist"):
        BagSource(tmp_path / "nowhere.mcap")

    damaged = tmp_path / "damaged.mcap"
    damaged.write_bytes(b"\x89MCAP0\r\n and nothing that makes sense")
    with pytest.raises(BagError, match=r"damaged\.mcap .*mcap recover"):
        BagSource(damaged)
    damaged = tmp_path / "damaged.bag"
    damaged.write_bytes(b"#ROSBAG V2.0\nrubbish")
    with pytest.raises(BagError, match=r"damaged\.bag .*rosbag reindex"):
        BagSource(damaged)

    messages = unregistered(make)
    with pytest.raises(BagError, match=r"'d_optical'.*'c_optical'.*align_depth"):
        BagSource(make.write(tmp_path / "unregistered.mcap", messages))
    other = [m for m in messages if "color/camera_info" not in m[0]]  # depth's is there
    with pytest.raises(BagError, match="CameraInfo for /cam/color/image_raw"):
        BagSource(make.write(tmp_path / "uncalibrated.mcap", other))
    with pytest.raises(BagError, match=r"no depth image; .*/cam/color/image_raw \(color\)"):
        BagSource(make.write(tmp_path / "colour.mcap", messages[:2]))


def test_several_cameras_are_asked_for_by_name(tmp_path: Path) -> None:
    make = Maker(2)
    messages: Messages = []
    for side in ("left", "right"):
        for topic, time, message in recording(make, frames=1):
            messages += [(topic.replace("/cam", f"/{side}", 1), time, message)]
    path = make.write(tmp_path / "two.mcap", messages)
    with pytest.raises(BagError, match=r"/left/color/image_raw, /right/color.*--rgb-topic"):
        BagSource(path)
    (frame,) = BagSource(path, "/right/color/image_raw", "/right/depth/image")
    np.testing.assert_array_equal(frame.rgb, colors(0))
    with pytest.raises(BagError, match="no topic /centre"):
        BagSource(path, "/centre", "/right/depth/image")


def test_a_truncated_recording_is_read_as_far_as_it_goes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make = Maker(1)
    messages = [
        ("/chatter", i + 1, make.types["std_msgs/msg/String"]("x" * 2000)) for i in range(4)
    ]
    path = make.write(tmp_path / "a.bag", messages)
    data = bytearray(path.read_bytes())
    with Bag(path) as bag:
        whole = [m.data for _, _, m in bag.messages(["/chatter"])]
    assert whole == ["x" * 2000] * 4
    at = [i for i in range(len(data)) if data[i : i + 4] == (2000).to_bytes(4, "little")]
    data[at[2] : at[2] + 4] = (10**6).to_bytes(4, "little")  # the third string claims 1 MB
    path.write_bytes(data)
    with Bag(path) as bag:
        assert len(list(bag.messages(["/chatter"]))) == 2
    assert "a.bag is damaged after 2 messages" in caplog.text


def test_written_mcap_reads_back_byte_by_byte(tmp_path: Path) -> None:
    make = Maker(2)
    definition = "std_msgs/Header header\nfloat32 age_ms\nstring[] causes"
    writer = BagWriter(tmp_path / "out", {"made_up/msg/Stats": definition})
    writer.add_topic("/labels", "sensor_msgs/msg/Image")
    writer.add_topic("/stats", "made_up/msg/Stats", latched=True)
    sent = []
    for i in range(5):
        image = make.image(colors(i)[:, :, 0].copy(), "mono8", i, "cam")
        cdr = bytes(ROS2.serialize_cdr(image, "sensor_msgs/msg/Image"))
        sent.append(cdr)
        writer.write("/labels", cdr, 100 + i)
    assert not (tmp_path / "out").exists()  # a killed run leaves no half a bag under this name
    writer.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]

    from rosbags.rosbag2 import Reader

    with Reader(tmp_path / "out") as reader:
        got = [(c.topic, time, bytes(data)) for c, time, data in reader.messages()]
        qos = {c.topic: c.ext.offered_qos_profiles[0].durability.name for c in reader.connections}
    assert got == [("/labels", 100 + i, cdr) for i, cdr in enumerate(sent)]
    assert qos == {"/labels": "VOLATILE", "/stats": "TRANSIENT_LOCAL"}

    with Bag(tmp_path / "out") as bag:
        assert bag.topics["/stats"] == "made_up/msg/Stats"
        images = [m for _, _, m in bag.messages(["/labels"])]
    np.testing.assert_array_equal(images[3].data.reshape(HEIGHT, WIDTH), colors(3)[:, :, 0])


def test_a_second_run_replaces_the_bag_and_a_killed_ones_remains(tmp_path: Path) -> None:
    for value in (b"first", b"second"):
        writer = BagWriter(tmp_path / "out")
        writer.add_topic("/text", "std_msgs/msg/String")
        text = Maker(2).types["std_msgs/msg/String"](value.decode())
        writer.write("/text", bytes(ROS2.serialize_cdr(text, "std_msgs/msg/String")), 1)
        if value == b"first":
            writer.close()
    assert (tmp_path / ".out.partial").exists()  # the second one never got to close
    writer = BagWriter(tmp_path / "out")
    writer.add_topic("/text", "std_msgs/msg/String")
    writer.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    with Bag(tmp_path / "out") as bag:
        assert bag.counts["/text"] == 0
