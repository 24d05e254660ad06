"""Labels for RGB-D images on the command line: one pair, many, or a recording.

python -m sgnet_core.predict recording.bag --out out/predict
"""

from __future__ import annotations

import argparse
import glob
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from sgnet_core.arguments import add_scales, positive
from sgnet_core.data.images import write_png
from sgnet_core.data.ply import write_ply
from sgnet_core.files import atomic_write
from sgnet_core.geometry.holes import HolePolicy
from sgnet_core.geometry.spatial import NEEDS_INTRINSICS
from sgnet_core.inference.frames import Calibration, Input, RgbdFrame, open_inputs, open_pairs
from sgnet_core.inference.segmenter import Prediction, Segmenter
from sgnet_core.models.labels import LabelSet
from sgnet_core.models.precision import PRECISIONS

OVERLAY_ALPHA = 0.5

EXAMPLES = """\
examples:
  a Kinect or RealSense pair (depth in millimetres) with the weights that come along:
    python -m sgnet_core.predict --rgb 7.rgb.jpg --depth 7.depth.png --out out/7
  all pairs in a folder, as NAME.rgb.jpg and NAME.depth.png, or only some of them:
    python -m sgnet_core.predict recording/ --out out/recording
    python -m sgnet_core.predict 'recording/00*.rgb.jpg' --out out/recording
  a plain folder (rgb/, depth/, camera.json), with point clouds:
    python -m sgnet_core.predict data/mine --ply --out out/mine
  a recording, rosbag1 or rosbag2, without ROS:
    python -m sgnet_core.predict kitchen.mcap --ply --out out/kitchen
  depth in units of 0.1 mm, as in YCB-Video, with the camera's intrinsics:
    python -m sgnet_core.predict --rgb a.png --depth b.png --depth-scale 0.0001 \\
        --intrinsics 1067 1068 313 241 --ply --out out/a
  a converted release, scores averaged over three scales, kept as an array:
    python -m sgnet_core.predict --model sgnet_r101.safetensors --scales 0.8 1 2 \\
        --rgb a.png --depth b.png --out out/a --scores out/a/scores.npy

The depth image must be registered to the colour image: same size, same viewpoint. Many images:
those that cannot be read are named and left out, and the exit status is then 1.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 0, 1 when frames had to be left out, 2 when an input cannot be used at all."""
    parser = _parser()
    args = parser.parse_args(argv)
    if bool(args.inputs) == bool(args.rgb or args.depth) or bool(args.rgb) != bool(args.depth):
        parser.error("give INPUT, or --rgb and --depth")
    if args.scores and not _is_pair(args):
        parser.error("--scores keeps those of one frame: give --rgb and --depth, a file each")
    try:
        return predict(args)
    except (ValueError, RuntimeError) as error:
        parser.exit(2, f"predict: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "\npredict: interrupted; the frames that were done are written\n")
    except OSError as error:
        parser.exit(2, f"predict: cannot write {error.filename}: {error.strerror}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sgnet_core.predict",
        description="Label every pixel of RGB-D images. One pair (--rgb, --depth) gives "
        "OUT/labels.png (one byte per pixel: the class id) and OUT/overlay.png (the classes drawn "
        "over the picture); several frames give OUT/labels/NAME.png and OUT/overlay/NAME.png. "
        "Prints the share of every class.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="colour images with depth images beside them, folders, globs, or bags (rosbag1, "
        "rosbag2, mcap)",
    )
    add("--model", metavar="M", help="model file (default: the weights that come along)")
    add("--rgb", metavar="F", help="8-bit colour image: PNG, JPEG, …; or a folder or glob of them")
    add(
        "--depth",
        metavar="F",
        help="16-bit PNG, or an array of metres in .npy or .npz; 0 and NaN: no measurement; or a "
        "folder or glob of them, with the colour images' names",
    )
    add(
        "--depth-scale",
        type=positive,
        metavar="S",
        help="metres per unit of an integer depth image, and of any in a bag (default: the camera "
        "file's or the bag's, or 0.001)",
    )
    add(
        "--intrinsics",
        type=float,
        nargs=4,
        metavar=("FX", "FY", "CX", "CY"),
        help="of the images, in pixels; needed by --ply and by models steered by 3D coordinates or "
        "HHA, where the input does not hold them (default: the camera file's or the bag's)",
    )
    add("--rgb-topic", metavar="T", help="color images of bags that hold several")
    add("--depth-topic", metavar="T", help="depth images of bags that hold several")
    add("--out", required=True, metavar="DIR", help="folder for the results, made if missing")
    add(
        "--ply",
        action="store_true",
        help="also write points.ply or points/NAME.ply: x y z in metres (optical frame), the "
        "overlay's red green blue, and the label",
    )
    add("--scores", metavar="F.npy", help="also write the class scores: float32 (C, H, W)")
    add_scales(parser)
    add(
        "--holes",
        choices=get_args(HolePolicy),
        help="how pixels without depth are filled before the network sees them (default: as the "
        "model was trained)",
    )
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: auto)")
    add(
        "--precision",
        default="auto",
        choices=PRECISIONS,
        help="default: auto (fp16 on a GPU, else fp32)",
    )
    return parser


def _is_pair(args: argparse.Namespace) -> bool:
    """Whether one colour and one depth image are named, and not folders or globs of them."""
    names = [args.rgb, args.depth]
    return all(
        name and not Path(name).is_dir() and (Path(name).exists() or not glob.has_magic(name))
        for name in names
    )


def predict(args: argparse.Namespace) -> int:
    """Reads, labels, writes and reports as the command's arguments say; returns the exit status.

    Raises:
        ValueError: an input cannot be used; the message names it.
        OSError: a result cannot be written.
    """
    matrix = tuple(args.intrinsics) if args.intrinsics else None
    calibration = Calibration(matrix, args.depth_scale, args.rgb_topic, args.depth_topic)
    if _is_pair(args):
        frame = calibration.read(Path(args.rgb), Path(args.depth))
        _label_pair(_labeller(args), frame, args.scores)
        return 0
    if args.inputs:
        inputs = open_inputs(args.inputs, calibration)
    else:
        inputs = [open_pairs(args.rgb, args.depth, calibration)]
    return _label_all(_labeller(args), inputs)


def _labeller(args: argparse.Namespace) -> Labeller:
    segmenter = Segmenter(args.model, args.device, args.precision)
    return Labeller(segmenter, Path(args.out), args.scales, args.ply, args.holes)


@dataclass
class Labeller:
    """Labels frames, writes what it finds, and counts the classes.

    Attributes:
        segmenter: the model.
        out: folder of the results.
        scales: factors of the input size whose scores are averaged.
        ply: whether point clouds are written too.
        holes: how pixels without depth are filled; None does as the model was trained.
        counts: (256,) pixels of every class so far.
    """

    segmenter: Segmenter
    out: Path
    scales: Sequence[float]
    ply: bool
    holes: HolePolicy | None = None
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))

    def require_intrinsics(self, frame: RgbdFrame) -> None:
        """Raises ValueError where the frame's intrinsics are needed and not known."""
        spatial = self.segmenter.model.config.spatial
        if frame.intrinsics is not None or not (self.ply or spatial in NEEDS_INTRINSICS):
            return
        reason = f"{self.segmenter.info.name} is steered by {spatial}" if not self.ply else "--ply"
        raise ValueError(
            f"{reason}, computed from the camera's intrinsics: give --intrinsics FX FY CX CY"
        )

    def label(self, frame: RgbdFrame, scores: bool = False) -> Prediction:
        """The prediction for a frame, with its overlay."""
        prediction = self.segmenter.segment(
            frame.rgb,
            frame.depth,
            frame.intrinsics,
            scores=scores,
            overlay=OVERLAY_ALPHA,
            scales=self.scales,
            holes=self.holes,
        )
        self.counts += np.bincount(prediction.labels.ravel(), minlength=256)
        return prediction

    def write(self, frame: RgbdFrame, prediction: Prediction, name: str | None) -> list[Path]:
        """The files written: ``out/labels.png`` …, or ``out/labels/NAME.png`` … with a name."""

        def path(kind: str, suffix: str) -> Path:
            file = f"{kind}{suffix}" if name is None else f"{kind}/{name}{suffix}"
            (self.out / file).parent.mkdir(parents=True, exist_ok=True)
            return self.out / file

        written = [path("labels", ".png"), path("overlay", ".png")]
        assert prediction.overlay is not None
        write_png(written[0], prediction.labels)
        write_png(written[1], prediction.overlay)
        if self.ply and frame.intrinsics is not None:
            written.append(path("points", ".ply"))
            colors, names = prediction.overlay, self.segmenter.labels.names
            write_ply(written[2], frame.depth, frame.intrinsics, colors, prediction.labels, names)
        return written


def _label_pair(labeller: Labeller, frame: RgbdFrame, scores: str | None) -> None:
    """Labels and reports one pair; ``scores`` names the file for them."""
    labeller.require_intrinsics(frame)
    prediction = labeller.label(frame, scores is not None)
    written = labeller.write(frame, prediction, None)
    if scores is not None and prediction.scores is not None:
        written.append(Path(scores))
        written[-1].parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(scores) as file:
            np.save(file, prediction.scores)
    segmenter = labeller.segmenter
    height, width = prediction.labels.shape
    stages = ", ".join(f"{name} {ms:.0f}" for name, ms in prediction.stages_ms.items())
    print(f"{segmenter.info.name} on {segmenter.device}, {width}x{height}, ms: {stages}")
    print(shares(labeller.counts, segmenter.labels))
    print(f"written: {', '.join(map(str, written))}")


def _label_all(labeller: Labeller, inputs: Sequence[Input]) -> int:
    """Labels and reports many frames; 1 when some of them had to be left out."""
    done: set[str] = set()
    left_out = 0
    with tqdm(total=sum(one.count for one in inputs), unit="frame") as bar:
        for unread in itertools.chain.from_iterable(one.frames for one in inputs):
            bar.update()
            try:
                frame = unread.read()
                if unread.name in done:
                    raise ValueError(f"there are two frames {unread.name}: label one elsewhere")
            except ValueError as error:
                left_out += 1
                tqdm.write(f"predict: left out: {error}", sys.stderr)
                continue
            labeller.require_intrinsics(frame)
            try:
                prediction = labeller.label(frame)
            except ValueError as error:
                left_out += 1
                tqdm.write(f"predict: left out: {unread.name}: {error}", sys.stderr)
                continue
            labeller.write(frame, prediction, unread.name)
            done.add(unread.name)
    segmenter = labeller.segmenter
    print(f"{segmenter.info.name} on {segmenter.device}: {len(done)} frames")
    print(shares(labeller.counts, segmenter.labels))
    kinds = ("labels", "overlay", "points")[: 3 if labeller.ply else 2]
    print(f"written: {', '.join(str(labeller.out / kind) for kind in kinds)}")
    if left_out:
        print(f"predict: {left_out} frames were left out", file=sys.stderr)
    return 1 if left_out else 0


def shares(counts: npt.NDArray[np.int64], label_set: LabelSet) -> str:
    """A table of the classes found: id, name, share of the pixels; the largest first.

    Args:
        counts: (256,) pixels of every class.
    """
    order = [index for index in np.argsort(-counts, kind="stable") if counts[index]]
    return "\n".join(
        f"{index:4d}  {label_set.names[index]:<16}{100 * counts[index] / counts.sum():6.1f} %"
        for index in order
    )


if __name__ == "__main__":
    sys.exit(main())
