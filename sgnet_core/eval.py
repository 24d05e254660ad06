"""Scores a model on labelled frames: ``python -m sgnet_core.eval --data rooms:1000:200``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from sgnet_core.data.catalog import open_dataset
from sgnet_core.data.loading import Batch, Samples, collate
from sgnet_core.data.sample import Sample
from sgnet_core.files import atomic_write
from sgnet_core.images import overlay, write_png
from sgnet_core.metrics import ConfusionMatrix
from sgnet_core.model_file import ModelFileError, default_model_path, load_model
from sgnet_core.network import Output, SGNet
from sgnet_core.spatial import spatial_input
from sgnet_core.upsampling import best_labels

Mask = npt.NDArray[np.uint8]


def run_batch(model: SGNet, batch: Batch) -> Output:
    """The network on a batch as it was loaded, in whatever mode the network is."""
    rgb = model.info.normalization(batch.rgb).contiguous(memory_format=torch.channels_last)
    output: Output = model(rgb, spatial_input(model.config.spatial, batch.depth, batch.intrinsics))
    return output


@torch.inference_mode()
def predict_masks(
    model: SGNet, samples: Samples, batch: int = 8, progress: bool = False
) -> Iterator[tuple[Sample, Mask]]:
    """Every sample with the (H, W) uint8 mask that the model predicts at the label's size.

    The samples run as they are, without resizing.
    """
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    try:
        for chunk in _batches(samples, batch, progress):
            tensors = collate(chunk).to(device)
            logits = run_batch(model, tensors).logits.float()
            for sample, scores in zip(chunk, logits, strict=True):
                height, width = sample.labels.shape
                yield sample, best_labels(scores.contiguous(), (height, width))[0]
    finally:
        model.train(training)


def _batches(samples: Samples, batch: int, progress: bool) -> Iterator[list[Sample]]:
    """Up to ``batch`` neighbouring samples of one size at a time."""
    chunk: list[Sample] = []
    for index in tqdm(range(len(samples)), disable=not progress, unit="frame"):
        sample = samples[index]
        if chunk and (len(chunk) == batch or sample.labels.shape != chunk[0].labels.shape):
            yield chunk
            chunk = []
        chunk.append(sample)
    if chunk:
        yield chunk


def evaluate(
    model: SGNet, samples: Samples, batch: int = 8, progress: bool = False
) -> ConfusionMatrix:
    """Confusion matrix over all samples, at the labels' own size."""
    confusion = ConfusionMatrix(model.config.num_classes)
    for sample, mask in predict_masks(model, samples, batch, progress):
        confusion.update(sample.labels, mask)
    return confusion


def prediction_sheet(model: SGNet, samples: Samples, path: Path, rows: int = 6) -> None:
    """A picture: colour, depth, prediction, truth of the first samples, one row each."""
    first = [samples[i] for i in range(min(rows, len(samples)))]
    first = [sample for sample in first if sample.labels.shape == first[0].labels.shape]
    strips = []
    for sample, mask in predict_masks(model, first, batch=rows):
        depth = np.clip(sample.depth / 5 * 255, 0, 255).astype(np.uint8)
        strips.append(
            np.hstack(
                [
                    sample.rgb,
                    np.repeat(depth[..., None], 3, axis=2),
                    overlay(sample.rgb, mask, model.info.labels, 0.6),
                    overlay(sample.rgb, sample.labels, model.info.labels, 0.6),
                ]
            )
        )
    write_png(path, np.vstack(strips))


def main(argv: list[str] | None = None) -> int:
    """Command line of evaluation; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sgnet_core.eval", description=__doc__)
    parser.add_argument("--data", required=True, help="rooms:SEED:N, e.g. rooms:1000:200")
    parser.add_argument("--model", type=Path, help="model file (default: the shipped weights)")
    parser.add_argument("--size", default="320x240", help="WxH of rendered rooms")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args(argv)
    try:
        width, height = (int(n) for n in args.size.split("x"))
        samples, labels = open_dataset(args.data, (height, width))
        model = load_model(args.model or default_model_path(), device=args.device)
        if model.info.labels.names != labels.names:
            raise ValueError(
                f"the model knows {model.info.labels.name}, the data is labelled in {labels.name}"
            )
    except (ValueError, ModelFileError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    confusion = evaluate(model, samples, progress=True)
    print(table(confusion, labels.names))
    if args.json:
        with atomic_write(args.json) as file:
            file.write(json.dumps(figures(confusion, len(samples)), indent=1).encode())
    return 0


def figures(confusion: ConfusionMatrix, frames: int) -> dict[str, object]:
    """The scores as JSON types; classes absent from the truth are null."""
    return {
        "pixel_accuracy": confusion.pixel_accuracy,
        "mean_accuracy": confusion.mean_accuracy,
        "miou": confusion.miou,
        "per_class_iou": [None if np.isnan(v) else float(v) for v in confusion.class_iou],
        "confusion": confusion.counts.tolist(),
        "frames": frames,
    }


def table(confusion: ConfusionMatrix, names: tuple[str, ...]) -> str:
    """The scores as text: one line per class present, then the means."""
    share = confusion.counts.sum(axis=1) / max(1, confusion.counts.sum())
    lines = [f"{'class':<16}{'IoU':>8}{'recall':>8}{'pixels':>9}"]
    rows = zip(names, confusion.class_iou, confusion.class_accuracy, share, strict=True)
    for name, iou, recall, part in rows:
        if part:
            lines.append(f"{name:<16}{iou:8.3f}{recall:8.3f}{part:9.2%}")
    absent = [name for name, part in zip(names, share, strict=True) if not part]
    if absent:
        lines.append(f"absent: {', '.join(absent)}")
    lines.append(
        f"mIoU {confusion.miou:.4f}   mean accuracy {confusion.mean_accuracy:.4f}   "
        f"pixel accuracy {confusion.pixel_accuracy:.4f}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
