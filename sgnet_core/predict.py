"""Labels for one RGB-D image pair on the command line.

python -m sgnet_core.predict --rgb 0.rgb.png --depth 0.depth.png --out out/predict
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sgnet_core.camera import Intrinsics
from sgnet_core.files import atomic_write
from sgnet_core.images import read_depth, read_rgb, write_png
from sgnet_core.labels import LabelSet
from sgnet_core.segmenter import PRECISIONS, Segmenter
from sgnet_core.spatial import NEEDS_INTRINSICS

OVERLAY_ALPHA = 0.5

EXAMPLES = """\
examples:
  a Kinect or RealSense pair (depth in millimetres) with the weights that come along:
    python -m sgnet_core.predict --rgb 7.rgb.jpg --depth 7.depth.png --out out/7
  depth in units of 0.1 mm, as in YCB-Video:
    python -m sgnet_core.predict --rgb a.png --depth b.png --depth-scale 0.0001 --out out/a
  a converted release, scores averaged over three scales, kept as an array:
    python -m sgnet_core.predict --model sgnet_r101.safetensors --scales 0.8 1 2 \\
        --rgb a.png --depth b.png --out out/a --scores out/a/scores.npy

The depth image must be registered to the colour image: same size, same viewpoint.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 0, or 2 with one line on stderr when an input cannot be used."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        predict(args)
    except (ValueError, RuntimeError) as error:
        parser.exit(2, f"predict: {error}\n")
    except OSError as error:
        parser.exit(2, f"predict: cannot write {error.filename}: {error.strerror}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sgnet_core.predict",
        description="Label every pixel of one RGB-D image pair. Writes OUT/labels.png (one byte "
        "per pixel: the class id) and OUT/overlay.png (the classes drawn over the picture), and "
        "prints the share of every class.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", metavar="M", help="model file (default: the weights that come along)")
    add("--rgb", required=True, metavar="F", help="8-bit colour image: PNG, JPEG, …")
    add(
        "--depth",
        required=True,
        metavar="F",
        help="16-bit PNG, or an array of metres in .npy or .npz; 0 and NaN: no measurement",
    )
    add(
        "--depth-scale",
        type=_positive,
        default=0.001,
        metavar="S",
        help="metres per unit of an integer depth image (default: 0.001, millimetres)",
    )
    add(
        "--intrinsics",
        type=float,
        nargs=4,
        metavar=("FX", "FY", "CX", "CY"),
        help="of the images, in pixels; needed by models steered by 3D coordinates or HHA",
    )
    add("--out", required=True, metavar="DIR", help="folder for the results, made if missing")
    add("--scores", metavar="F.npy", help="also write the class scores: float32 (C, H, W)")
    add(
        "--scales",
        type=_positive,
        nargs="+",
        default=[1.0],
        metavar="S",
        help="factors of the input size whose scores are averaged (default: 1)",
    )
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: auto)")
    add("--precision", default="auto", choices=PRECISIONS, help="default: auto (fp16 on a GPU)")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text}")
    return value


def predict(args: argparse.Namespace) -> None:
    """Reads, labels, writes and reports one pair as the command's arguments say.

    Raises:
        ValueError: an input cannot be used; the message names it.
        OSError: a result cannot be written.
    """
    rgb = read_rgb(args.rgb)
    depth = read_depth(args.depth, args.depth_scale)
    height, width = rgb.shape[:2]
    camera = None
    if args.intrinsics:
        fx, fy, cx, cy = args.intrinsics
        camera = Intrinsics(fx, fy, cx, cy, width, height)
    segmenter = Segmenter(args.model, args.device, args.precision)
    if camera is None and segmenter.model.config.spatial in NEEDS_INTRINSICS:
        raise ValueError(
            f"{args.model} is steered by {segmenter.model.config.spatial}, computed from the "
            "camera's intrinsics: give --intrinsics FX FY CX CY"
        )
    try:
        prediction = segmenter.segment(
            rgb,
            depth,
            camera,
            scores=args.scores is not None,
            overlay=OVERLAY_ALPHA,
            scales=args.scales,
        )
    except ValueError as error:
        raise ValueError(f"{args.rgb}, {args.depth}: {error}") from error
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    write_png(out / "labels.png", prediction.labels)
    assert prediction.overlay is not None
    write_png(out / "overlay.png", prediction.overlay)
    if prediction.scores is not None:
        Path(args.scores).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(args.scores) as file:
            np.save(file, prediction.scores)
    stages = ", ".join(f"{name} {ms:.0f}" for name, ms in prediction.stages_ms.items())
    print(f"{segmenter.info.name} on {segmenter.device}, {width}x{height}, ms: {stages}")
    print(shares(prediction.labels, segmenter.labels))
    print(f"written: {out / 'labels.png'}, {out / 'overlay.png'}")


def shares(labels: npt.NDArray[np.uint8], label_set: LabelSet) -> str:
    """A table of the classes in a mask: id, name, share of the pixels; the largest first."""
    ids, counts = np.unique(labels, return_counts=True)
    rows = []
    for index in np.argsort(-counts, kind="stable"):
        share = 100 * counts[index] / labels.size
        rows.append(f"{ids[index]:4d}  {label_set.names[ids[index]]:<16}{share:6.1f} %")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
