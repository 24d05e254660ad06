"""How good a model is, and the files that say so: model, scores, pictures."""

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
    model: SGNet, samples: Samples, batch: int, broken_off: Callable[[], bool]
) -> ConfusionMatrix | None:
    """Confusion matrix over all samples; None once ``broken_off`` is true."""
    confusion = ConfusionMatrix(model.config.num_classes)
    with contextlib.closing(predict_masks(model, samples, batch, progress=True)) as frames:
        for sample, mask in frames:
            if broken_off():
                return None
            confusion.update(sample.labels, mask)
    return confusion


def scores_of(confusion: ConfusionMatrix) -> dict[str, float]:
    """The means, with four digits."""
    names = ("miou", "pixel_accuracy", "mean_accuracy")
    return {name: round(getattr(confusion, name), 4) for name in names}


def save_best(
    model: SGNet, confusion: ConfusionMatrix, record: Mapping[str, float], folder: Path
) -> None:
    """``best.safetensors``, and ``best.json``: the record and the IoU of the classes there are."""
    save_model(model, folder / "best.safetensors")
    scores = dict(zip(model.info.labels.names, confusion.class_iou, strict=True))
    present = {name: round(float(iou), 4) for name, iou in scores.items() if np.isfinite(iou)}
    with atomic_write(folder / "best.json") as file:
        file.write(json.dumps({**record, "iou": present}, indent=1).encode())
