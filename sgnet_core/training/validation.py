"""Scores of a model during training, and the files of the best one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from sgnet_core.data.loading import Samples
from sgnet_core.evaluation.metrics import ConfusionMatrix
from sgnet_core.evaluation.predict import predict_masks
from sgnet_core.files import atomic_write
from sgnet_core.models.model_file import save_model
from sgnet_core.models.sgnet import SGNet


def score(
    model: SGNet, samples: Samples, batch: int, interrupted: Callable[[], bool]
) -> ConfusionMatrix | None:
    """Return the confusion matrix over all samples, or None once ``interrupted`` returns true."""
    confusion = ConfusionMatrix(model.config.num_classes)
    with contextlib.closing(predict_masks(model, samples, batch, progress=True)) as frames:
        for sample, mask in frames:
            if interrupted():
                return None
            confusion.update(sample.labels, mask)
    return confusion


def scores_of(confusion: ConfusionMatrix) -> dict[str, float]:
    """Return mIoU, pixel accuracy and mean accuracy, rounded to four digits."""
    names = ("miou", "pixel_accuracy", "mean_accuracy")
    return {name: round(getattr(confusion, name), 4) for name in names}


def save_best(
    model: SGNet, confusion: ConfusionMatrix, record: Mapping[str, float], folder: Path
) -> None:
    """Write ``best.safetensors``, and ``best.json`` with the record and the IoU of each class."""
    save_model(model, folder / "best.safetensors")
    scores = dict(zip(model.info.labels.names, confusion.class_iou, strict=True))
    present = {name: round(float(iou), 4) for name, iou in scores.items() if np.isfinite(iou)}
    with atomic_write(folder / "best.json") as file:
        file.write(json.dumps({**record, "iou": present}, indent=1).encode())
