"""Scores a model on labelled frames.

python -m sgnet_core.eval --data rooms:1000:200 --report out/report.html
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from sgnet_core.arguments import add_scales, count, image_size
from sgnet_core.data.catalog import open_dataset
from sgnet_core.data.images import overlay, write_png
from sgnet_core.data.loading import ENDLESS, Batch, Samples, collate
from sgnet_core.data.sample import Sample
from sgnet_core.evaluation.metrics import Scores
from sgnet_core.evaluation.report import (
    Extremes,
    Report,
    ScoredFrame,
    html_page,
    page_template,
    text_table,
)
from sgnet_core.files import atomic_write, check_writable
from sgnet_core.inference.segmenter import pick_device
from sgnet_core.inference.upsampling import best_by_rows, best_labels
from sgnet_core.models.fusion import fuse
from sgnet_core.models.labels import LabelSet, class_difference
from sgnet_core.models.model_file import default_model_path, load_model
from sgnet_core.models.preprocess import network_input
from sgnet_core.models.sgnet import Output, SGNet
from sgnet_core.models.views import at_input_height, mean_scores, mirrored, rescaled

Mask = npt.NDArray[np.uint8]

EXAMPLES = """\
examples:
  the weights that come along, on 200 rooms that training has not seen:
    python -m sgnet_core.eval --data rooms:2000:200
  your own model on the validation split of a folder, with everything written down:
    python -m sgnet_core.eval --data data/mine:val --model runs/mine/best.safetensors \\
        --json runs/mine/val.json --report runs/mine/val.html
  as published results are made: scores averaged over three scales and the mirror images:
    python -m sgnet_core.eval --data data/nyuv2:test --model sgnet_r101.safetensors \\
        --scales 0.8 1 2 --flip

How the figures are computed: docs/evaluation.md.
"""


def run_batch(model: SGNet, batch: Batch, scale: float = 1.0) -> Output:
    """The network on a batch as it was loaded, in whatever mode the network is.

    Args:
        scale: factor by which the network's inputs are resized.
    """
    kind = model.config.spatial
    rgb, spatial = network_input(kind, model.info, batch.rgb, batch.depth, batch.intrinsics)
    rgb, spatial = rescaled(rgb, spatial, scale)
    output: Output = model(rgb.contiguous(memory_format=torch.channels_last), spatial)
    return output


@torch.inference_mode()
def predict_masks(
    model: SGNet,
    samples: Samples,
    batch: int = 8,
    progress: bool = False,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> Generator[tuple[Sample, Mask], None, None]:
    """Every sample with the (H, W) uint8 mask that the model predicts at the label's size.

    Frames are resized to the model's input height, if it has one. The logits of several views
    are averaged at the label's size, as `sgnet_core.Segmenter` does with ``scales``.

    Args:
        batch: frames at a time.
        progress: whether a bar on stderr shows it.
        scales: factors of the network's input size.
        flip: also run the mirror image of every scale.
    """
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    try:
        for chunk in _batches(samples, batch, progress):
            views = _view_logits(model, collate(chunk).to(device), scales, flip)
            for index, sample in enumerate(chunk):
                height, width = sample.labels.shape
                yield sample, _mask([view[index] for view in views], (height, width))
    finally:
        model.train(training)


def _view_logits(model: SGNet, batch: Batch, scales: Sequence[float], flip: bool) -> list[Tensor]:
    """(B, C, h, w) float32 logits of every view, those of mirror images mirrored back."""
    batch = at_input_height(batch, model.info.input_height)
    views = [run_batch(model, batch, scale).logits.float() for scale in scales]
    if flip:
        other = mirrored(batch)
        views += [run_batch(model, other, scale).logits.float().flip(3) for scale in scales]
    return views


def _mask(logits: Sequence[Tensor], size: tuple[int, int]) -> Mask:
    if len(logits) == 1:
        return best_labels(logits[0].contiguous(), size)[0].cpu().numpy()
    return best_by_rows(mean_scores(logits, size), size, confidence=False)[0].cpu().numpy()


def _batches(samples: Samples, batch: int, progress: bool) -> Iterator[list[Sample]]:
    """Up to ``batch`` neighbouring samples of one size at a time."""
    chunk: list[Sample] = []
    # Within another bar, as in training, this one goes when it is full.
    for index in tqdm(range(len(samples)), disable=not progress, unit="frame", leave=None):
        sample = samples[index]
        if chunk and (len(chunk) == batch or _sizes(sample) != _sizes(chunk[0])):
            yield chunk
            chunk = []
        chunk.append(sample)
    if chunk:
        yield chunk


def _sizes(sample: Sample) -> tuple[tuple[int, ...], ...]:
    return sample.rgb.shape, sample.labels.shape


def prediction_sheet(model: SGNet, samples: Samples, path: Path, rows: int = 6) -> None:
    """A picture: colour, depth, prediction, truth of the first samples, one row each."""
    first = [samples[i] for i in range(min(rows, len(samples)))]
    first = [sample for sample in first if _sizes(sample) == _sizes(first[0])]
    strips = []
    for sample, mask in predict_masks(model, first, batch=rows):
        far = np.percentile(sample.depth[sample.depth > 0], 95) if sample.depth.any() else 1.0
        depth = np.clip(sample.depth / far * 255, 0, 255).astype(np.uint8)
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
    args = _parser().parse_args(argv)
    try:
        _run(args)
    except (ValueError, ModuleNotFoundError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted: the scores of a part are not those of the set", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sgnet_core.eval",
        description="Score a model on labelled frames: pixel accuracy, mean accuracy, IoU of "
        "every class and by distance, at the labels' own size.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--data",
        required=True,
        metavar="D",
        help="rooms:SEED:N, FOLDER, FOLDER:SPLIT or a list file (docs/data.md)",
    )
    add("--model", type=Path, metavar="M", help="model file (default: the shipped weights)")
    add_scales(parser)
    add("--flip", action="store_true", help="average with the scores of the mirror images too")
    add("--size", type=image_size, default=(240, 320), metavar="WxH", help="of rooms (320x240)")
    add("--batch", type=count, default=8, metavar="N", help="frames at a time (default: 8)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: auto)")
    add("--json", type=Path, metavar="F", help="also write the figures to this file")
    add("--report", type=Path, metavar="F", help="also write a page with everything in it (HTML)")
    return parser


def _run(args: argparse.Namespace) -> None:
    """Evaluates as the command's arguments say, prints and writes.

    Raises:
        ValueError: the data set, the model or an option cannot be used.
        ModuleNotFoundError: the report needs a package that is not installed.
        OSError: a result cannot be written.
    """
    samples, labels = open_dataset(args.data, args.size)
    if len(samples) == ENDLESS:
        raise ValueError(f"{args.data} has no end: give a number of frames, as in {args.data}:200")
    path = args.model or default_model_path()
    model = fuse(load_model(path)).to(pick_device(args.device))
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    check_classes(model.info.labels, labels)
    # Whatever would stop the writing stops the command now, not after an hour of work.
    for output in filter(None, (args.json, args.report)):
        check_writable(output)
    if args.report:
        page_template()
    scores, extremes = Scores(len(labels)), Extremes()
    names = getattr(samples, "names", None)
    masks = predict_masks(
        model, samples, args.batch, progress=True, scales=args.scales, flip=args.flip
    )
    for index, (sample, mask) in enumerate(masks):
        miou = scores.add(sample.labels, mask, sample.depth).miou
        name = names[index] if names else f"frame {index}"
        extremes.add(ScoredFrame(name, miou, sample.rgb, sample.labels, mask))
    print(text_table(scores, labels.names))
    settings = {"data": args.data, "model": str(path), "scales": args.scales, "flip": args.flip}
    if args.json:
        _write(args.json, json.dumps({**scores.figures(), "classes": labels.names, **settings}))
    if args.report:
        curve = training_curve(path, model.info.training)
        report = Report(
            title=f"{model.info.name} on {args.data}",
            facts=_facts(args, path, model),
            scores=scores,
            labels=labels,
            extremes=extremes,
            curve=curve,
            iteration=model.info.training.get("iteration"),
        )
        _write(args.report, html_page(report))


def _facts(args: argparse.Namespace, path: Path, model: SGNet) -> dict[str, str]:
    height = model.info.input_height
    facts = {
        "model": path.name,
        "data": args.data,
        "classes": model.info.labels.name,
        "geometry": model.config.spatial,
        "input": f"{height} rows" if height else "the frames' own size",
        "scales": ", ".join(f"{scale:g}" for scale in args.scales),
        "mirror images": "averaged" if args.flip else "no",
    }
    iteration = model.info.training.get("iteration")
    return {**facts, "iterations": str(iteration)} if iteration else facts


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write(text.encode())
    print(f"written: {path}")


def check_classes(model: LabelSet, data: LabelSet) -> None:
    """Raises ValueError, which says what differs, unless both name the same classes in order."""
    if difference := class_difference(model, data, ("the model", "the data")):
        raise ValueError(
            f"the model knows {model.name} ({len(model)} classes), the data is labelled in "
            f"{data.name} ({len(data)} classes): {difference}"
        )


def training_curve(model_file: Path, training: Mapping[str, Any]) -> list[dict[str, float]]:
    """Records of a model's training with at least ``iteration`` and ``miou``, by iteration.

    They come from a list of such records in the model's training record, or from the ``log.csv``
    that training leaves beside the model; [] where there is neither.
    """
    lists = [value for value in training.values() if isinstance(value, list)]
    log = model_file.parent / "log.csv"
    if log.is_file():
        with open(log, newline="", encoding="utf-8") as file:
            lists.append(list(csv.DictReader(file)))
    for rows in lists:
        records = [_numbers(row) for row in rows if isinstance(row, Mapping)]
        records = [record for record in records if {"iteration", "miou"} <= set(record)]
        if records:
            return sorted(records, key=lambda record: record["iteration"])
    return []


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The entries that are numbers."""
    numbers = {}
    for key, value in row.items():
        try:
            numbers[key] = float(value)
        except (TypeError, ValueError):
            continue
    return numbers


if __name__ == "__main__":
    sys.exit(main())
