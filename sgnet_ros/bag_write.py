"""Convert a folder of frames to a bag: `python -m sgnet_ros.bag_write data/drive drive.mcap`.

This is the reverse of bag_export. The bag has color (rgb8), depth (16UC1, millimeters), CameraInfo
and, if the folder has labels, label images (mono8) and a ClassMap, on the default topics of
`sgnet.launch.py`. A frame named after its stamp keeps the stamp; other frames are `1 / --rate`
seconds apart.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rclpy.serialization import serialize_message
from rclpy.time import Time
from rosbags.convert import convert
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from std_msgs.msg import Header
from tqdm import tqdm

from sgnet_core.arguments import positive
from sgnet_core.models.info import ModelInfo
from sgnet_core.models.labels import LABEL_SETS, LabelSet
from sgnet_ros.messages.camera_model import info_message
from sgnet_ros.messages.definitions import message_definitions
from sgnet_ros.messages.headers import COLOR_FRAME
from sgnet_ros.messages.images import image_message
from sgnet_ros.messages.label_messages import class_map
from sgnet_ros.recordings.bag_writer import BagWriter
from sgnet_ros.recordings.errors import SourceError
from sgnet_ros.recordings.frames import CameraFrame, Source
from sgnet_ros.recordings.sources import FolderSource, PlainSource, open_source
from sgnet_ros.system.environment import prepare_environment

# Topics of realsense-ros, and names beside them for labels and classes.
_CAMERA = "/camera/camera/color"
TOPICS = {
    "rgb": (f"{_CAMERA}/image_raw", "sensor_msgs/msg/Image"),
    "info": (f"{_CAMERA}/camera_info", "sensor_msgs/msg/CameraInfo"),
    "depth": ("/camera/camera/aligned_depth_to_color/image_raw", "sensor_msgs/msg/Image"),
    "labels": (f"{_CAMERA}/labels", "sensor_msgs/msg/Image"),
    "classes": (f"{_CAMERA}/class_map", "sgnet_msgs/msg/ClassMap"),
}
DEFAULT_RATE_HZ = 10.0
STORAGES = {".mcap": "mcap", ".db3": "sqlite3", ".bag": "mcap", "": "mcap"}

EXAMPLES = """\
examples:
  one file that `ros2 bag play` and replay_eval take:
    python -m sgnet_ros.bag_write data/drive drive.mcap
  for ROS 1, frames without stamps in their names at 5 Hz:
    python -m sgnet_ros.bag_write data/kitchen kitchen.bag --rate 5
The suffix selects the format: .mcap, .db3 (sqlite3), .bag (rosbag1), or none (a rosbag2 folder with
mcap).
"""


def write(
    source: Source, path: Path, rate_hz: float = DEFAULT_RATE_HZ, progress: bool = False
) -> int:
    """Write frames as a bag, which replaces an existing one; return the number of frames.

    Args:
        source: frames, all of the same size.
        path: path of the bag; its suffix selects the format (`STORAGES`).
        rate_hz: rate of frames without stamps.
        progress: show a progress bar.

    Raises:
        SourceError: a frame cannot be read, the frames have several sizes, their stamps do not
            increase, or there is no frame.
        OSError: the bag cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    storage: Any = STORAGES[path.suffix]
    definitions = message_definitions("sgnet_msgs")
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
        target = path if not path.suffix else Path(scratch, path.stem)
        writer = BagWriter(target, definitions, storage)
        try:
            count = _fill(writer, source, rate_hz, progress)
        except BaseException:
            writer.discard()
            raise
        writer.close()
        if path.suffix == ".bag":
            finished = Path(scratch, path.name)
            _to_rosbag1(target, finished, definitions)
            os.replace(finished, path)
        elif path.suffix:
            os.replace(target / path.name, path)
    return count


def _fill(writer: BagWriter, source: Source, rate_hz: float, progress: bool) -> int:
    count, last_ns, first = 0, -1, None
    for kind in ("rgb", "info", "depth"):
        writer.add_topic(*TOPICS[kind])
    labeled = False
    bar = tqdm(source, writer.path.name, total=source.count, unit="frame", disable=not progress)
    for frame in bar:
        stamp_ns = frame.stamp_ns
        if stamp_ns is None:
            stamp_ns = round((count + 1) / rate_hz * 1e9)  # 0 would mean that there is no stamp
        first = first or frame
        _check(source, count, frame, first, stamp_ns, last_ns)
        if frame.labels is not None and not labeled:
            labeled = True
            writer.add_topic(*TOPICS["labels"])
            _write_classes(writer, source, stamp_ns)
        for kind, message in _messages(frame, stamp_ns):
            writer.write(TOPICS[kind][0], bytes(serialize_message(message)), stamp_ns)
        count, last_ns = count + 1, stamp_ns
    if not count:
        raise SourceError(f"{source.name} contains no frame")
    return count


def _check(
    source: Source, index: int, frame: CameraFrame, first: CameraFrame, stamp_ns: int, last_ns: int
) -> None:
    if frame.rgb.shape != first.rgb.shape:
        raise SourceError(
            f"{source.name}: frame {index} has another size than the first; a bag holds one "
            "camera: write the frames of each camera into a separate bag"
        )
    if stamp_ns <= last_ns:
        raise SourceError(
            f"{source.name}: frame {index} has the stamp {stamp_ns}, the one before it {last_ns}; "
            "name all frames after their stamps, or none"
        )


def _messages(frame: CameraFrame, stamp_ns: int) -> Iterator[tuple[str, Any]]:
    header = Header(stamp=Time(nanoseconds=stamp_ns).to_msg(), frame_id=COLOR_FRAME)
    if frame.intrinsics is not None:
        yield "info", info_message(frame.intrinsics, header)
    yield "rgb", image_message(frame.rgb, header)
    yield "depth", image_message(frame.depth, header)
    if frame.labels is not None:
        yield "labels", image_message(frame.labels, header)


def _write_classes(writer: BagWriter, source: Source, stamp_ns: int) -> None:
    """Write a ClassMap if the folder names the classes."""
    classes: LabelSet | None = LABEL_SETS.get(source.label_set or "")
    if isinstance(source, PlainSource):
        classes = source.classes
    if classes is None:
        return
    writer.add_topic(*TOPICS["classes"], latched=True)
    message = class_map(ModelInfo("ground truth", classes), Time().to_msg())
    writer.write(TOPICS["classes"][0], bytes(serialize_message(message)), stamp_ns)


def _to_rosbag1(bag: Path, path: Path, definitions: dict[str, str]) -> None:
    store = get_typestore(Stores.ROS1_NOETIC)
    for name, text in definitions.items():
        store.register(get_types_from_msg(text, name))
    convert(
        srcs=[bag],
        dst=path,
        dst_storage="",
        dst_version=0,
        compress=None,
        compress_mode="none",
        default_typestore=None,
        typestore=store,
        exclude_topics=[],
        include_topics=[],
        exclude_msgtypes=[],
        include_msgtypes=[],
    )


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        "python -m sgnet_ros.bag_write",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="folder of frames (docs/data.md)")
    parser.add_argument(
        "bag", type=Path, help="file or folder to write; an existing one is replaced"
    )
    parser.add_argument(
        "--rate", type=positive, default=DEFAULT_RATE_HZ, help="Hz, for frames without stamps"
    )
    args = parser.parse_args(argv)
    if args.bag.suffix not in STORAGES:
        parser.error(f"{args.bag}: a bag ends in .mcap, .db3 or .bag, or has no suffix")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 1 with one line on the standard error."""
    logging.basicConfig(format="[%(levelname)s] %(message)s")
    args = parse_arguments(argv)
    prepare_environment()  # to find the message definitions
    try:
        source = open_source(str(args.folder))
        if not isinstance(source, (PlainSource, FolderSource)):
            raise SourceError(f"{args.folder} is not a folder of frames")
        count = write(source, args.bag, args.rate, progress=True)
    except (SourceError, OSError) as error:
        print(f"bag_write: {error}", file=sys.stderr)
        return 1
    print(f"{count} frames in {args.bag}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
