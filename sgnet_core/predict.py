"""Label RGB-D images on the command line: one pair, many, or a recording.

python -m sgnet_core.predict recording.bag --out out/predict
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from sgnet_core.arguments import add_device, add_scales, count, positive, share
from sgnet_core.data.depth_units import depth_doubt
from sgnet_core.files import atomic_write
from sgnet_core.fleet.labeling import (
    LabelingJob,
    LabelingTotal,
    finished_before,
    label_recording,
    read_model,
    recordings_fingerprint,
)
from sgnet_core.fleet.manifest import FILE, Manifest
from sgnet_core.fleet.ray_workers import LOCAL, Workers, run_on_ray
from sgnet_core.fleet.storage import Destination, Source, find_sources, is_url, local_copy
from sgnet_core.geometry.holes import HolePolicy
from sgnet_core.inference.frames import Calibration, RgbdFrame, open_inputs, open_pairs
from sgnet_core.inference.labeling import Labeler, LabelingOptions
from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.models.labels import LabelSet
from sgnet_core.models.precision import PRECISIONS

EXAMPLES = """\
examples:
  a Kinect or RealSense pair (depth in millimeters) with the shipped weights:
    python -m sgnet_core.predict --rgb 7.rgb.jpg --depth 7.depth.png --out out/7
  all pairs in a folder, as NAME.rgb.jpg and NAME.depth.png, or only some of them:
    python -m sgnet_core.predict recording/ --out out/recording
    python -m sgnet_core.predict 'recording/00*.rgb.jpg' --out out/recording
  a plain folder (rgb/, depth/, camera.json), with point clouds:
    python -m sgnet_core.predict data/mine --ply --out out/mine
  a recording, rosbag1 or rosbag2, without ROS:
    python -m sgnet_core.predict kitchen.mcap --ply --out out/kitchen
  the recordings of a fleet, on all cores and GPUs of this machine, or of a cluster (docs/fleet.md):
    python -m sgnet_core.predict 'bags/*/*.mcap' --ray --out out/fleet
    python -m sgnet_core.predict 's3://robots/*.mcap' --ray head:6379 --out s3://robots/labels
  depth in units of 0.1 mm, as in YCB-Video, with the camera's intrinsics:
    python -m sgnet_core.predict --rgb a.png --depth b.png --depth-scale 0.0001 \\
        --intrinsics 1067 1068 313 241 --ply --out out/a
  a converted checkpoint, with scores averaged over three scales and saved as an array:
    python -m sgnet_core.predict --model sgnet_r101.safetensors --scales 0.8 1 2 \\
        --rgb a.png --depth b.png --out out/a --scores out/a/scores.npy

Depth must be registered to the color image, with the same size and viewpoint. Of several frames,
the command skips and names those that it cannot read; the exit status is then 1, or 2 if it can
read none.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 if frames were skipped, or 2 if an input cannot be used."""
    parser = _parser()
    args = parser.parse_args(argv)
    if bool(args.inputs) == bool(args.rgb or args.depth) or bool(args.rgb) != bool(args.depth):
        parser.error("give INPUT, or --rgb and --depth")
    if args.scores and not _is_pair(args):
        parser.error(
            "--scores writes the scores of one frame: give one file for --rgb and one for --depth"
        )
    if args.ray is not None and not args.inputs:
        parser.error("--ray distributes recordings: give INPUT instead of --rgb and --depth")
    if args.ray is not None and args.device.startswith("cuda:"):
        parser.error("--ray assigns a GPU to each worker: set --device to auto, cuda or cpu")
    try:
        return predict(args)
    except (ValueError, RuntimeError) as error:
        parser.exit(2, f"predict: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "\npredict: interrupted; the results of the finished frames are written\n")
    except OSError as error:
        parser.exit(2, f"predict: cannot write {error.filename}: {error.strerror}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sgnet_core.predict",
        description="Label every pixel of RGB-D images. One pair (--rgb, --depth) gives "
        "OUT/labels.png (one byte per pixel: the class id) and OUT/overlay.png (the classes drawn "
        "over the picture); several frames give OUT/labels/NAME.png and OUT/overlay/NAME.png. "
        "It prints the share of every class.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="color images with depth images next to them, folders, globs, or bags (rosbag1, "
        "rosbag2, mcap)",
    )
    add("--model", metavar="M", help="model file (default: the shipped weights)")
    add("--rgb", metavar="F", help="8-bit color image: PNG, JPEG, …; or a folder or glob of them")
    add(
        "--depth",
        metavar="F",
        help="16-bit PNG, or an array of meters in .npy or .npz, in which 0 and NaN mean no "
        "measurement; or a folder or glob of them, named like the color images",
    )
    add(
        "--depth-scale",
        type=positive,
        metavar="S",
        help="meters per unit of depth images (default: from the camera file or the bag, or 0.001 "
        "for integers and 1 for floating-point numbers)",
    )
    add(
        "--intrinsics",
        type=float,
        nargs=4,
        metavar=("FX", "FY", "CX", "CY"),
        help="intrinsics of the color camera, in pixels (default: from the camera file or the "
        "bag); required for --ply and for models that use 3D coordinates or HHA",
    )
    add("--rgb-topic", metavar="T", help="topic of the color images, if the bag has several")
    add("--depth-topic", metavar="T", help="topic of the depth images, if the bag has several")
    add("--out", required=True, metavar="DIR", help="folder for the results, made if missing")
    add(
        "--ply",
        action="store_true",
        help="also write points.ply or points/NAME.ply: x y z in meters (optical frame), red green "
        "blue of the overlay, and the label",
    )
    add("--scores", metavar="F.npy", help="also write the class scores: float32 (C, H, W)")
    add_scales(parser)
    add(
        "--holes",
        choices=get_args(HolePolicy),
        help="policy that fills pixels without depth (default: as in training)",
    )
    add_device(parser, PRECISIONS)
    add(
        "--ray",
        nargs="?",
        const=LOCAL,
        metavar="ADDRESS",
        help="label recordings in parallel with Ray, each into OUT/NAME, on this machine or on "
        "the cluster at HOST:PORT; recordings that an earlier run has labeled are skipped",
    )
    add(
        "--ray-cores",
        type=count,
        default=1,
        metavar="N",
        help="CPU cores of each Ray worker (default: 1)",
    )
    add(
        "--max-failed",
        type=share,
        default=0.0,
        metavar="SHARE",
        help="with --ray: exit with 0 if at most this share of the recordings failed or lacks "
        "frames (default: 0)",
    )
    return parser


def _is_pair(args: argparse.Namespace) -> bool:
    """Return True if the arguments name one color and one depth image, not folders or globs."""
    names = [args.rgb, args.depth]
    return all(
        name and not Path(name).is_dir() and (Path(name).exists() or not glob.has_magic(name))
        for name in names
    )


def predict(args: argparse.Namespace) -> int:
    """Label the frames given by the arguments; return the exit status.

    Raises:
        ValueError: an input cannot be used.
        OSError: a result cannot be written.
    """
    matrix = tuple(args.intrinsics) if args.intrinsics else None
    calibration = Calibration(matrix, args.depth_scale, args.rgb_topic, args.depth_topic)
    options = LabelingOptions(args.scales, args.ply, args.holes)
    if _is_pair(args):
        frame = calibration.read(Path(args.rgb), Path(args.depth))
        segmenter = Segmenter(args.model, args.device, args.precision)
        _label_pair(Labeler(segmenter, options), frame, Path(args.out), args.scores)
        return 0
    path, model = read_model(args.model)
    job = LabelingJob(args.out, path, model, args.device, args.precision, calibration, options)
    if args.ray is not None:
        return _label_on_ray(job, args)
    return _label_here(job, args)


def _label_pair(labeler: Labeler, frame: RgbdFrame, out: Path, scores: str | None) -> None:
    """Label one pair and print the result; ``scores`` is the path of the file for scores."""
    labeler.require_intrinsics(frame)
    prediction = labeler.label(frame, scores is not None)
    written = labeler.write(out, frame, prediction, None)
    if scores is not None and prediction.scores is not None:
        written.append(Path(scores))
        written[-1].parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(scores) as file:
            np.save(file, prediction.scores)
    segmenter = labeler.segmenter
    height, width = prediction.labels.shape
    stages = ", ".join(f"{name} {ms:.0f}" for name, ms in prediction.stages_ms.items())
    print(f"{segmenter.info.name} on {segmenter.device}, {width}x{height}, ms: {stages}")
    counts = np.bincount(prediction.labels.ravel(), minlength=256)
    if doubt := depth_doubt(frame.depth):
        print(f"predict: labeled, but {doubt}", file=sys.stderr)
    print(shares(counts, segmenter.labels))
    print(f"written: {', '.join(map(str, written))}")


def _label_here(job: LabelingJob, args: argparse.Namespace) -> int:
    """Label all inputs into one folder; return 1 if frames were skipped."""

    def warn(text: str) -> None:
        tqdm.write(f"predict: {text}", sys.stderr)

    destination = Destination(job.destination)
    with contextlib.ExitStack() as stack:
        if args.rgb:
            recipe = job.recipe(None)
            sources = {args.rgb: args.rgb, args.depth: args.depth}
            inputs = [open_pairs(args.rgb, args.depth, job.calibration)]
        else:
            sources = {}
            for name in args.inputs:
                for source in find_sources([name]) if is_url(name) else [Source(name, "")]:
                    path = stack.enter_context(local_copy(source.path))
                    sources[str(path)] = source.path
            recipe = job.recipe(recordings_fingerprint(sources.values()))
            if manifest := finished_before(recipe, destination, ""):
                print(f"{destination.path(FILE)}: all frames are labeled; remove it to start again")
                return _report_here(manifest, destination)
            inputs = open_inputs(list(sources), job.calibration)
        labeler = job.labeler()
        bar = stack.enter_context(tqdm(total=sum(one.count for one in inputs), unit="frame"))
        manifest = label_recording(
            labeler, inputs, sources, recipe, destination, "", bar.update, warn
        )
    return _report_here(manifest, destination)


def _report_here(manifest: Manifest, destination: Destination) -> int:
    """Print a summary; return 1 if some frames were skipped, 2 if all were."""
    if not manifest.frames:
        print(f"predict: none of {len(manifest.left_out)} frames could be read", file=sys.stderr)
        return 2
    print(f"{manifest.model_name} on {manifest.device}: {manifest.frames} frames")
    print(shares(manifest.counts, manifest.label_set))
    print(f"written: {', '.join(destination.path(kind) for kind in manifest.kinds)}")
    if manifest.left_out:
        print(f"predict: {len(manifest.left_out)} frames were left out", file=sys.stderr)
    return 1 if manifest.left_out else 0


def _label_on_ray(job: LabelingJob, args: argparse.Namespace) -> int:
    """Label each recording into its own folder; return 1 if too many are incomplete."""
    sources = find_sources(args.inputs)
    workers = Workers(args.ray, args.ray_cores, gpus=args.device != "cpu")
    total = LabelingTotal()
    with (
        contextlib.closing(run_on_ray(job, sources, workers)) as outcomes,
        tqdm(total=len(sources), unit="recording") as bar,
    ):
        for source, outcome in outcomes:
            for line in total.add(source, outcome):
                tqdm.write(f"predict: {line}", sys.stderr)
            bar.set_postfix(frames=total.frames, incomplete=total.incomplete, refresh=False)
            bar.update()
    print(total.summary())
    if total.label_set:
        print(shares(total.counts, total.label_set))
    print(f"written: {job.destination}")
    return 1 if total.incomplete > args.max_failed * len(sources) else 0


def shares(counts: npt.NDArray[np.int64], label_set: LabelSet) -> str:
    """Return a table of the classes that occur, sorted by their share of the pixels.

    Args:
        counts: (256,) number of pixels by class id.
        label_set: the classes.
    """
    order = [index for index in np.argsort(-counts, kind="stable") if counts[index]]
    return "\n".join(
        f"{index:4d}  {label_set.names[index]:<16}{100 * counts[index] / counts.sum():6.1f} %"
        for index in order
    )


if __name__ == "__main__":
    sys.exit(main())
