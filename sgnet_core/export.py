"""Export a model as ONNX: ``python -m sgnet_core.export --model M --out F.onnx``.

`sgnet_core.inference.onnx_export` describes the inputs and outputs of the graph.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence

import numpy as np

from sgnet_core.data.catalog import open_dataset
from sgnet_core.inference.onnx_export import ExportError, export
from sgnet_core.models.labels import class_difference
from sgnet_core.models.model_file import default_model_path, load_model
from sgnet_core.models.sgnet import SGNet


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or exit with 2 and one line on stderr if the export fails."""
    parser = argparse.ArgumentParser(
        prog="python -m sgnet_core.export",
        description="Export a model as one ONNX file, which computes labels from images and depth "
        "of any size.",
    )
    parser.add_argument("--model", metavar="M", help="model file (default: the shipped weights)")
    parser.add_argument("--out", required=True, metavar="F.onnx", help="the file to write")
    parser.add_argument("--int8", action="store_true", help="quantize the convolutions to 8 bits")
    parser.add_argument(
        "--calibrate",
        "--calibration",
        default="rooms:1:48",
        metavar="DATASET",
        help="data set with typical frames, from which INT8 takes the ranges of values (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--score",
        metavar="DATASET",
        help="labeled data set on which the mIoU of INT8 is measured (default: the last quarter "
        "of the frames of --calibrate)",
    )
    args = parser.parse_args(argv)
    try:
        model = load_model(args.model or default_model_path())
        if args.int8:
            return _export_int8(model, args.out, args.calibrate, args.score)
        found = export(model, args.out)
    except (ValueError, ExportError) as error:
        parser.exit(2, f"export: {error}\n")
    except OSError as error:
        parser.exit(2, f"export: cannot write {error.filename}: {error.strerror}\n")
    print(
        f"written: {args.out} ({os.path.getsize(args.out) / 1e6:.1f} MB); against PyTorch: largest "
        f"difference of a logit {found.logits:.2g} of {found.scale:.3g}, "
        f"{found.same_labels:.2%} of the labels agree"
    )
    return 0


def _export_int8(model: SGNet, path: str, calibration: str, score: str | None) -> int:
    """Export in INT8, calibrated with frames of a data set, and print the accuracy."""
    from sgnet_core.evaluation.comparison import compare
    from sgnet_core.inference.quantization import quantize, split

    frames, _ = open_dataset(calibration, (240, 320))
    seen, unseen = split(frames)
    if score is not None:
        unseen, labels = open_dataset(score, (240, 320))
        if difference := class_difference(model.info.labels, labels, ("the model", score)):
            raise ValueError(f"{score} cannot score the model: their classes differ: {difference}")
    with tempfile.TemporaryDirectory() as folder:
        single = os.path.join(folder, "single.onnx")
        export(model, single)
        quantize(single, path, seen)
        found = compare(single, path, unseen)
    size = os.path.getsize(path) / 1e6
    print(f"written: {path} ({size:.1f} MB), calibrated with {len(seen)} frames of {calibration}")
    scored = f"{len(unseen)} frames of {score or calibration}"
    print(f"on {scored} {found.same_labels:.2%} of the labels agree with float32")
    if not np.isnan(found.miou).any():
        print(f"mIoU on {scored}: {found.miou[0]:.4f} in float32, {found.miou[1]:.4f} in INT8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
