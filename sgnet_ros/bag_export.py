"""Frames of a recording as a plain folder: `python -m sgnet_ros.bag_export drive.mcap data/drive`.

Each colour image goes with the depth nearest to it in time, registered to it, and with the labels
of its stamp where the bag has any. Files are named after the colour image's stamp in nanoseconds.
The folder is what training, evaluation and `--truth` of replay_eval take (docs/data.md).
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from sgnet_core.data.datasets.folder import (
    MILLIMETRES,
    camera_values,
    classes_values,
    write_json,
    write_text,
)
from sgnet_core.data.images import write_png
from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.models.model_file import ModelFileError
from sgnet_ros.recordings.bag_source import BagSource
from sgnet_ros.recordings.errors import BagError
from sgnet_ros.recordings.frames import Frame, name_of

EXAMPLES = """\
examples:
  a recording as frames, ready to be annotated:
    python -m sgnet_ros.bag_export drive.mcap data/drive
  with what the shipped model makes of it as a start:
    python -m sgnet_ros.bag_export drive.mcap data/drive --labels
  a bag with two cameras:
    python -m sgnet_ros.bag_export two.bag data/left --rgb-topic /left/color/image_raw \\
        --depth-topic /left/aligned_depth/image_raw
"""


class ExportError(ValueError):
    """What is asked for can't be written; the message says what to do."""


def export(
    source: BagSource, folder: Path, segmenter: Segmenter | None = None, progress: bool = False
) -> int:
    """Writes the frames of a bag into a plain folder; returns how many there are.

    Colour and labels are exact, depth is in whole millimetres. Where only some frames have labels,
    ``splits/labelled.txt`` names them. Frames that can't be written leave no files behind.

    Args:
        source: the bag.
        folder: made if need be; it must not hold frames yet.
        segmenter: labels the frames, as a start for annotation.
        progress: shows a progress bar.

    Raises:
        ExportError: the folder holds frames, or the bag has labels of its own and there is a
            segmenter, too.
        BagError: the bag is damaged within the first frame, or holds images that can't be read.
        OSError: a file can't be written; it names the file.
    """
    if (folder / "rgb").is_dir() and any((folder / "rgb").iterdir()):
        raise ExportError(f"{folder} holds frames already: remove it or choose another folder")
    if segmenter and source.topics.labels:
        raise ExportError(
            f"{source.name} has labels on {source.topics.labels} already: leave out --labels"
        )
    labelled: list[str] = []
    names: list[str] = []
    camera: dict[str, float] = {}
    for frame in tqdm(source, folder.name, total=source.count, unit="frame", disable=not progress):
        assert frame.stamp_ns is not None  # a bag's frames have one
        name = name_of(frame.stamp_ns)
        if name in names[-1:]:
            continue  # recorded twice
        if segmenter:
            frame = _labelled(frame, segmenter)
        own = camera_values(frame.intrinsics, MILLIMETRES)
        if not names:
            camera = own
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / "camera.json", camera)
        elif own != camera:
            (folder / "cameras").mkdir(exist_ok=True)
            write_json(folder / "cameras" / f"{name}.json", own)
        _write_frame(folder, name, frame)
        names.append(name)
        if frame.labels is not None:
            labelled.append(name)
    if labelled and len(labelled) < len(names):
        (folder / "splits").mkdir(exist_ok=True)
        write_text(folder / "splits" / "labelled.txt", "\n".join(labelled) + "\n")
    classes = segmenter.labels if segmenter else source.classes
    if labelled and classes:
        write_json(folder / "classes.json", classes_values(classes))
    return len(names)


def _labelled(frame: Frame, segmenter: Segmenter) -> Frame:
    labels = segmenter.segment(frame.rgb, frame.depth, frame.intrinsics).labels
    return Frame(frame.rgb, frame.depth, labels, frame.intrinsics, frame.stamp_ns)


def _write_frame(folder: Path, name: str, frame: Frame) -> None:
    for kind, image in (("rgb", frame.rgb), ("depth", frame.depth), ("labels", frame.labels)):
        if image is not None:
            (folder / kind).mkdir(parents=True, exist_ok=True)
            write_png(folder / kind / f"{name}.png", image)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python -m sgnet_ros.bag_export",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bag", type=Path, help=".bag, .mcap, .db3, or a rosbag2 folder")
    parser.add_argument("folder", type=Path, help="of the frames; made if missing")
    parser.add_argument("--rgb-topic", help="colour images, if the bag holds several")
    parser.add_argument("--depth-topic", help="depth images, if the bag holds several")
    parser.add_argument("--labels-topic", help="label images, if the bag holds several")
    parser.add_argument(
        "--labels",
        nargs="?",
        const="",
        metavar="MODEL",
        help="label the frames with this model, or with the one that comes with the package",
    )
    parser.add_argument("--device", default="auto", help="for --labels: auto, cpu, cuda, cuda:N")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 0, or 1 with one line on the standard error."""
    logging.basicConfig(format="[%(levelname)s] %(message)s")
    args = parse_arguments(argv)
    try:
        segmenter = None
        if args.labels is not None:
            segmenter = Segmenter(args.labels or None, args.device)
        source = BagSource(args.bag, args.rgb_topic, args.depth_topic, args.labels_topic)
        count = export(source, args.folder, segmenter, progress=True)
    except (BagError, ExportError, ModelFileError, OSError, RuntimeError) as error:
        print(f"bag_export: {error}", file=sys.stderr)
        return 1
    if not count:
        print(f"bag_export: {args.bag} holds no colour image with depth", file=sys.stderr)
        return 1
    labels = source.topics.labels
    print(f"{count} frames of {source.topics.rgb} and {source.topics.depth} in {args.folder}")
    if labels and not source.classes:
        print(
            f"the bag doesn't say what the ids on {labels} mean: write {args.folder}/classes.json"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
