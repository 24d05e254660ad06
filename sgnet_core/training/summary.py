"""Summary at the end of a run: scores, path of the model, and the next command."""

from __future__ import annotations

import json
import math
from pathlib import Path

from sgnet_core.training.config import TrainConfig
from sgnet_core.training.holdout import HOLDOUT


def summary(config: TrainConfig, folder: Path) -> str:
    """Return the scores of the best validation and the command to run next, as text."""
    record = json.loads((folder / "best.json").read_text(encoding="utf-8"))
    model = folder / "best.safetensors"
    scores = sorted(record["iou"].items(), key=lambda item: -item[1])
    rows = math.ceil(len(scores) / 2)
    cells = [f"{name:<20}{iou:6.3f}" for name, iou in scores]
    pairs = zip(cells, [*cells[rows:], ""], strict=False)
    lines = ["IoU of the classes in the validation set"]
    lines += [f"  {left}    {right}".rstrip() for left, right in list(pairs)[:rows]]
    lines += [
        f"best at iteration {record['iteration']}: mIoU {record['miou']:.4f}, "
        f"mean accuracy {record['mean_accuracy']:.4f}, "
        f"pixel accuracy {record['pixel_accuracy']:.4f} on {config.validation}",
        f"model: {model}",
    ]
    data = data_to_score(config)
    if data is None:
        lines.append(f"next: python -m sgnet_core.predict NEW_FRAMES --model {model} --out DIR")
    else:
        lines.append(f"next: python -m sgnet_core.eval --data {data} --model {model}")
    return "\n".join(lines)


def data_to_score(config: TrainConfig) -> str | None:
    """Return the data set on which `sgnet_core.eval` should score the finished model.

    Returns None if only the training set is known.
    """
    if config.validation.startswith("rooms:"):
        return _unseen_rooms(config)
    if config.validation.startswith(HOLDOUT):
        if config.train.startswith("rooms:"):
            return _unseen_rooms(config)
        data, colon, _ = config.train.rpartition(":")
        return f"{data}:test" if colon else None
    return config.validation


def _unseen_rooms(config: TrainConfig) -> str:
    height, width = config.size
    return f"rooms:2000:200 --size {width}x{height}"
