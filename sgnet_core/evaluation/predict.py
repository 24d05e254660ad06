"""Run a network on labelled frames."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from sgnet_core.data.images import overlay, write_png
from sgnet_core.data.loading import Batch, Samples, collate
from sgnet_core.data.sample import Sample
from sgnet_core.inference.upsampling import best_by_rows, best_labels
from sgnet_core.models.preprocess import network_input
from sgnet_core.models.sgnet import Output, SGNet
from sgnet_core.models.views import at_input_height, mean_scores, mirrored, rescaled

Mask = npt.NDArray[np.uint8]


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
    """Up to ``batch`` neighboring samples of one size at a time."""
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
    """A picture: color, depth, prediction, truth of the first samples, one row each."""
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
