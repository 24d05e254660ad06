"""Export a bag to a plain folder: `python -m sgnet_ros.bag_export drive.mcap data/drive`.

Each color image is exported with the depth image nearest in time, registered to it, and with the
labels of the same stamp if the bag has any. Files are named after the color image's stamp in
nanoseconds. Frames with a damaged image are left out. Training, evaluation and `--truth` of
replay_eval read the folder (docs/data.md).
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from sgnet_core.arguments import positive
from sgnet_core.data.datasets.folder import MILLIMETERS, camera_values, classes_values
from sgnet_core.data.datasets.folder_writer import write_json, write_text
from sgnet_core.data.images import write_png
from sgnet_core.inference.segmenter import Segmenter
from sgnet_ros.recordings.bag_source import BagSource
from sgnet_ros.recordings.frames import CameraFrame, name_of
from sgnet_ros.recordings.matching import NoPairsError

EXAMPLES = """\
examples:
  a recording as frames, ready to be annotated:
    python -m sgnet_ros.bag_export drive.mcap data/drive
  with labels of the shipped model as a start:
    python -m sgnet_ros.bag_export drive.mcap data/drive --labels
  a bag with two cameras:
    python -m sgnet_ros.bag_export two.bag data/left --rgb-topic /left/color/image_raw \\
        --depth-topic /left/aligned_depth/image_raw
"""


class BagExportError(ValueError):
    """An export that is not possible; the message gives the remedy."""


def export(
    source: BagSource, folder: Path, segmenter: Segmenter | None = None, progress: bool = False
) -> int:
    """Write the frames of a bag into a plain folder; return their number.

    Color and labels are exact, depth is in whole millimeters. If only some frames have labels,
    ``splits/labeled.txt`` names them. Without known intrinsics there is no ``camera.json``.

    Args:
        source: the bag.
        folder: folder to write; created if missing. It must not contain frames yet.
        segmenter: labels the frames, as a start for annotation.
        progress: show a progress bar.

    Raises:
        BagExportError: the folder holds frames, the depth images hold no measurement, or the bag
            has labels of its own and there is a segmenter, too.
        BagError: the bag is damaged within the first frame, or no color image has depth.
        OSError: a file cannot be written; the error names it.
    """
    if (folder / "rgb").is_dir() and any((folder / "rgb").iterdir()):
        raise BagExportError(f"{folder} holds frames already: remove it or choose another folder")
    if segmenter and source.topics.labels:
        raise BagExportError(
            f"{source.name} has labels on {source.topics.labels} already: leave out --labels"
        )
    if source.geometry.median is None:
        raise BagExportError(
            f"{source.name}: the depth images on {source.topics.depth} hold no measurement, every "
            "pixel is 0, 65535 or NaN: choose another topic (--depth-topic) or record again"
        )
    labeled: list[str] = []
    names: set[str] = set()
    camera: dict[str, float] = {}
    for frame in tqdm(source, folder.name, total=source.count, unit="frame", disable=not progress):
        assert frame.stamp_ns is not None  # a bag's frames have one
        name = name_of(frame.stamp_ns)
        if name in names:
            continue  # recorded twice, as in a loop
        if segmenter:
            frame = _labeled(frame, segmenter)
        camera = _write_camera(folder, name, frame, camera)
        _write_frame(folder, name, frame)
        names.add(name)
        if frame.labels is not None:
            labeled.append(name)
    if labeled and len(labeled) < len(names):
        (folder / "splits").mkdir(exist_ok=True)
        write_text(folder / "splits" / "labeled.txt", "\n".join(labeled) + "\n")
    classes = segmenter.labels if segmenter else source.classes
    if labeled and classes:
        write_json(folder / "classes.json", classes_values(classes))
    return len(names)


def _labeled(frame: CameraFrame, segmenter: Segmenter) -> CameraFrame:
    labels = segmenter.segment(frame.rgb, frame.depth, frame.intrinsics).labels
    return replace(frame, labels=labels)


def _write_camera(
    folder: Path, name: str, frame: CameraFrame, first: dict[str, float]
) -> dict[str, float]:
    """Write the first camera, or one that differs from it; return the first one."""
    if frame.intrinsics is None:
        return first
    own = camera_values(frame.intrinsics, MILLIMETERS)
    if not first:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "camera.json", own)
    elif own != first:
        (folder / "cameras").mkdir(exist_ok=True)
        write_json(folder / "cameras" / f"{name}.json", own)
    return first or own


def _write_frame(folder: Path, name: str, frame: CameraFrame) -> None:
    for kind, image in (("rgb", frame.rgb), ("depth", frame.depth), ("labels", frame.labels)):
        if image is not None:
            (folder / kind).mkdir(parents=True, exist_ok=True)
            write_png(folder / kind / f"{name}.png", image)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        "python -m sgnet_ros.bag_export",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bag", type=Path, help=".bag, .mcap, .db3, or a rosbag2 folder")
    parser.add_argument("folder", type=Path, help="folder to write; created if missing")
    parser.add_argument("--rgb-topic", help="topic of the color images, if the bag has several")
    parser.add_argument("--depth-topic", help="topic of the depth images, if the bag has several")
    parser.add_argument("--labels-topic", help="topic of the label images, if the bag has several")
    parser.add_argument(
        "--intrinsics",
        type=float,
        nargs=4,
        metavar=("FX", "FY", "CX", "CY"),
        help="intrinsics of the color images in pixels (default: the bag's)",
    )
    parser.add_argument(
        "--depth-scale",
        type=positive,
        metavar="S",
        help="meters per unit of depth (default: the bag's)",
    )
    parser.add_argument(
        "--labels",
        nargs="?",
        const="",
        metavar="MODEL",
        help="label the frames with this model file (without a file: with the shipped weights)",
    )
    parser.add_argument("--device", default="auto", help="for --labels: auto, cpu, cuda or cuda:N")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 if it failed or left out frames, or 2 if it found no pairs."""
    logging.basicConfig(format="[%(levelname)s] %(message)s")
    args = parse_arguments(argv)
    try:
        segmenter = None
        if args.labels is not None:
            segmenter = Segmenter(args.labels or None, args.device)
        source = BagSource(
            args.bag,
            args.rgb_topic,
            args.depth_topic,
            args.labels_topic,
            intrinsics=args.intrinsics and tuple(args.intrinsics),
            depth_scale=args.depth_scale,
        )
        count = export(source, args.folder, segmenter, progress=True)
    except NoPairsError as error:
        print(f"bag_export: {error}", file=sys.stderr)
        return 2
    except (ValueError, OSError, RuntimeError) as error:
        print(f"bag_export: {error}", file=sys.stderr)
        return 1
    if not count:
        print(f"bag_export: {args.bag}: no frame could be read", file=sys.stderr)
        return 1
    labels = source.topics.labels
    print(f"{count} frames of {source.topics.rgb} and {source.topics.depth} in {args.folder}")
    if labels and not source.classes:
        print(f"the bag does not name the classes of {labels}: write {args.folder}/classes.json")
    if source.geometry.rgb is None:
        print(
            f"the bag has no usable CameraInfo: write {args.folder}/camera.json, or export "
            "again with --intrinsics FX FY CX CY"
        )
    if source.left_out:
        total = count + source.left_out
        print(f"bag_export: {source.left_out} of {total} frames left out", file=sys.stderr)
    return 1 if source.left_out else 0


if __name__ == "__main__":
    sys.exit(main())
