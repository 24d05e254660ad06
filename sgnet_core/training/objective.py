"""Training loss, normalized over the whole batch even if the batch is divided."""

from __future__ import annotations

import contextlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from sgnet_core.data.loading import ENDLESS, Batch, Samples
from sgnet_core.evaluation.predict import run_batch
from sgnet_core.models.labels import IGNORE_ID
from sgnet_core.models.sgnet import SGNet
from sgnet_core.ops.resize import resize_maps
from sgnet_core.training.config import TrainConfig

CLASS_SAMPLE = 200
"""Number of frames used to estimate the class frequencies."""

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Precision of the network's arithmetic; the loss is always computed in float32."""


class Objective(nn.Module):
    """A network and its loss: class-weighted cross-entropy of the head and the auxiliary head.

    Weighted cross-entropy is divided by the sum of the weights of all pixels of the batch, but a
    process or an accumulation step sees only a part of the batch. The caller therefore first sums
    `weight` over all parts; the losses of the parts then add up to the loss of the batch.

    Args:
        model: the network.
        class_weights: (C,) weights.
        config: gives precision, label_stride, label_smoothing and aux_weight.
    """

    def __init__(self, model: SGNet, class_weights: Tensor, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.class_weights = class_weights.cpu()
        self._weights_on_device = class_weights.to(next(model.parameters()).device)

    def weight(self, batch: Batch) -> float:
        """Return the sum of the class weights of the pixels in the loss."""
        counts = torch.bincount(self._labels(batch).reshape(-1), minlength=IGNORE_ID + 1).cpu()
        return float(counts[: len(self.class_weights)].double() @ self.class_weights.double())

    def forward(self, batch: Batch, weight: float) -> Tensor:
        """Return the loss of a part of a batch, a float32 scalar.

        Args:
            batch: the part.
            weight: sum of `weight` over all parts of the batch.
        """
        device = batch.rgb.device
        precision = AUTOCAST.get(self.config.precision)
        autocast = torch.autocast(device.type, precision) if precision else contextlib.nullcontext()
        with autocast:
            output = run_batch(self.model, batch)
        labels = self._labels(batch)
        loss = self._cross_entropy(output.logits, labels, weight)
        if output.aux is not None:
            loss = loss + self.config.aux_weight * self._cross_entropy(output.aux, labels, weight)
        return loss

    def _labels(self, batch: Batch) -> Tensor:
        return on_grid(batch.labels, self.config.label_stride)

    def _cross_entropy(self, logits: Tensor, labels: Tensor, weight: float) -> Tensor:
        scores = resize_maps(logits.float(), (labels.shape[1], labels.shape[2]))
        total = F.cross_entropy(
            scores,
            labels,
            self._weights_on_device,
            ignore_index=IGNORE_ID,
            reduction="sum",
            label_smoothing=self.config.label_smoothing,
        )
        return total / max(weight, 1e-12)  # 0 if no pixel is labeled


def on_grid(labels: Tensor, stride: int) -> Tensor:
    """Sample (B, H, W) labels on a grid from corner to corner: (B, ⌈H/stride⌉, ⌈W/stride⌉).

    `resize_maps` resizes scores to the same grid. Labels taken at a plain stride would end up to
    one stride before the last row and column, and the network would learn that offset.
    """
    if stride == 1:
        return labels
    rows, columns = (
        torch.linspace(0, n - 1, -(-n // stride), device=labels.device).round().long()
        for n in labels.shape[1:]
    )
    return labels[:, rows[:, None], columns]


def class_weights(samples: Samples, num_classes: int, balance: float) -> Tensor:
    """Return (C,) weights frequency^−β with mean 1 over the pixels; absent classes weigh 1.

    Raises:
        ValueError: no pixel of the sampled frames is labeled.
    """
    # The sample is spread over the set, because neighboring frames may show the same scene.
    step = 1 if len(samples) == ENDLESS else max(1, len(samples) // CLASS_SAMPLE)
    chosen = range(0, len(samples), step)[:CLASS_SAMPLE]
    if not balance and any((samples[i].labels != IGNORE_ID).any() for i in chosen):
        return torch.ones(num_classes)
    counts = np.zeros(256)
    for i in tqdm(chosen, desc="class frequencies", leave=False):
        counts += np.bincount(samples[i].labels.reshape(-1), minlength=256)
    labeled = counts[:num_classes].sum()
    if not labeled:
        raise ValueError(
            f"no pixel of the {len(chosen)} sampled training frames is labeled: check the label "
            "images and the ignored ids (classes.json)"
        )
    frequency = counts[:num_classes] / labeled
    present = frequency > 0
    weights = np.where(present, np.where(present, frequency, 1.0) ** -balance, 0.0)
    weights /= (weights * frequency).sum()
    return torch.from_numpy(np.where(present, weights, 1.0)).float()
