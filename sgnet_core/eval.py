"""Score a model on labeled frames.

python -m sgnet_core.eval --data rooms:1000:200 --report out/report.html
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch.utils.data import Subset

from sgnet_core.arguments import add_device, add_scales, image_size, not_negative, whole
from sgnet_core.data.catalog import open_dataset
from sgnet_core.data.depth_sensor import Sensed
from sgnet_core.data.loading import ENDLESS, Samples
from sgnet_core.evaluation.metrics import Scores
from sgnet_core.evaluation.report import (
    Extremes,
    Report,
    ScoredFrame,
    html_page,
    page_template,
    text_table,
)
from sgnet_core.evaluation.segmenter_masks import segmenter_masks
from sgnet_core.evaluation.training_curve import training_curve
from sgnet_core.files import atomic_write, check_writable
from sgnet_core.inference.segmenter import BACKENDS, Segmenter
from sgnet_core.models.labels import LabelSet, class_difference
from sgnet_core.models.model_file import default_model_path
from sgnet_core.models.precision import PRECISIONS, pick_precision
from sgnet_core.training.distributed import World, join_world

EXAMPLES = """\
examples:
  the shipped weights, on 200 rooms that are not in the training set:
    python -m sgnet_core.eval --data rooms:2000:200
  your own model on the validation split of a folder, with scores and report in files:
    python -m sgnet_core.eval --data data/mine:val --model runs/mine/best.safetensors \\
        --json runs/mine/val.json --report runs/mine/val.html
  scores averaged over three scales and the mirror images:
    python -m sgnet_core.eval --data data/nyuv2:test --model sgnet_r101.safetensors \\
        --scales 0.8 1 2 --flip
  on four GPUs, or with --device cpu in four processes:
    torchrun --nproc-per-node 4 -m sgnet_core.eval --data data/nyuv2:test

docs/evaluation.md describes how the scores are computed.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    args = _parser().parse_args(argv)
    try:
        with join_world(args.device) as (world, device):
            _run(args, world, device)
    except (ValueError, ModuleNotFoundError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\ninterrupted: no scores, because only a part of the data set was evaluated",
            file=sys.stderr,
        )
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sgnet_core.eval",
        description="Score a model on labeled frames: pixel accuracy, mean accuracy, IoU of "
        "every class and by distance, at the size of the labels.",
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
    add("--flip", action="store_true", help="also average the scores of the mirror images")
    size = "size of rendered rooms (default: 320x240)"
    add("--size", type=image_size, default=(240, 320), metavar="WxH", help=size)
    add_device(parser, PRECISIONS)
    add("--backend", default="auto", choices=BACKENDS, help="default: auto (by the model file)")
    add(
        "--input-height",
        type=whole,
        metavar="N",
        help="rows to which frames are resized; 0 keeps their size (default: as in the model file)",
    )
    add(
        "--depth-sensor",
        type=not_negative,
        metavar="STEP",
        help="add noise, quantization and holes of a simulated sensor to the depth; STEP is the "
        "quantization step of the stored depth in meters (NYUDv2 in 8 bits: 0.0392; fine depth: 0)",
    )
    add("--json", type=Path, metavar="F", help="also write the scores to this file")
    add("--report", type=Path, metavar="F", help="also write a report to this file (one HTML page)")
    return parser


def _run(args: argparse.Namespace, world: World, device: torch.device) -> None:
    """Evaluate, print and write the scores according to the arguments.

    Raises:
        ValueError: the data set, the model or an option cannot be used.
        ModuleNotFoundError: the report needs a package that is not installed.
        OSError: a result cannot be written.
    """
    samples, labels = open_dataset(args.data, args.size)
    if len(samples) == ENDLESS:
        raise ValueError(
            f"{args.data} is endless: give a number of frames, for example {args.data}:200"
        )
    if args.depth_sensor is not None:
        samples = Sensed(samples, args.depth_sensor)
    path = args.model or default_model_path()
    own_device = args.device if world.size == 1 else device
    segmenter = Segmenter(path, own_device, args.precision, args.backend, args.input_height)
    check_classes(segmenter.labels, labels)
    # Check before the evaluation that the files can be written.
    for output in filter(None, (args.json, args.report)):
        check_writable(output)
    if args.report:
        page_template()
    parts = world.gather(_score(segmenter, samples, args, world))
    if not world.is_main:
        return
    scores, extremes, times = _merged(parts)
    print(text_table(scores, labels.names))
    runs = _runs_as(args, segmenter)
    ms = statistics.median(times)
    print(
        f"{segmenter.info.name} runs as {', '.join(runs.values())}: {ms:.1f} ms per frame (median)"
    )
    settings = {"data": args.data, "model": str(path), "scales": args.scales, "flip": args.flip}
    settings |= {"depth_sensor": args.depth_sensor}
    settings |= {**runs, "input_height": segmenter.info.input_height, "ms_per_frame": ms}
    if args.json:
        _write(args.json, json.dumps({**scores.figures(), "classes": labels.names, **settings}))
    if args.report:
        info = segmenter.info
        report = Report(
            title=f"{info.name} on {args.data}",
            facts=_facts(args, path, segmenter),
            scores=scores,
            labels=labels,
            extremes=extremes,
            curve=training_curve(path, info.training),
            iteration=info.training.get("iteration"),
        )
        _write(args.report, html_page(report))


class _Part(NamedTuple):
    """Scores of some of the frames; ``ms`` are the milliseconds of the segmenter per frame."""

    scores: Scores
    extremes: Extremes
    ms: list[float]


def _score(segmenter: Segmenter, samples: Samples, args: argparse.Namespace, world: World) -> _Part:
    """Score the frames of this process: one of every ``world.size`` frames."""
    share = range(world.rank, len(samples), world.size)
    part = cast(Samples, Subset(cast(Any, samples), share))
    masks = segmenter_masks(segmenter, part, args.scales, args.flip, progress=world.is_main)
    names = getattr(samples, "names", None)
    scores, extremes, times = Scores(len(segmenter.labels)), Extremes(), list[float]()
    for index, (sample, mask, ms) in zip(share, masks, strict=True):
        times.append(ms)
        miou = scores.add(sample.labels, mask, sample.depth).miou
        name = names[index] if names else f"frame {index}"
        extremes.add(ScoredFrame(name, miou, sample.rgb, sample.labels, mask, index))
    return _Part(scores, extremes, times)


def _merged(parts: Sequence[_Part]) -> _Part:
    """Merge the scores of all parts of a data set."""
    scores = Scores(len(parts[0].scores.total.counts))
    frames: dict[int, ScoredFrame] = {}
    for part, extremes, _ in parts:
        scores += part
        frames.update({frame.index: frame for frame in (*extremes.best, *extremes.worst)})
    total = Extremes()
    for index in sorted(frames):
        total.add(frames[index])
    return _Part(scores, total, [ms for part in parts for ms in part.ms])


def _runs_as(args: argparse.Namespace, segmenter: Segmenter) -> dict[str, str]:
    dtype = pick_precision(args.precision, segmenter.device)
    return {
        "backend": segmenter.backend,
        "precision": str(dtype).removeprefix("torch."),
        "device": str(segmenter.device),
    }


def _facts(args: argparse.Namespace, path: Path, segmenter: Segmenter) -> dict[str, str]:
    info = segmenter.info
    height = info.input_height
    facts = {
        "model": path.name,
        "data": args.data,
        "classes": info.labels.name,
        "geometry": segmenter.model.config.spatial,
        "input": f"{height} rows" if height else "the frames' own size",
        "runs as": ", ".join(_runs_as(args, segmenter).values()),
        "scales": ", ".join(f"{scale:g}" for scale in args.scales),
        "mirror images": "averaged" if args.flip else "no",
        "depth": "as stored" if args.depth_sensor is None else "from a simulated sensor",
    }
    iteration = info.training.get("iteration")
    return {**facts, "iterations": str(iteration)} if iteration else facts


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write(text.encode())
    print(f"written: {path}")


def check_classes(model: LabelSet, data: LabelSet) -> None:
    """Raise ValueError, naming the difference, unless both have the same classes in order."""
    if difference := class_difference(model, data, ("the model", "the data")):
        raise ValueError(
            f"the model predicts {model.name} ({len(model)} classes), but the data is labeled with "
            f"{data.name} ({len(data)} classes): {difference}"
        )


if __name__ == "__main__":
    sys.exit(main())
