"""Run a network on batches of labeled frames, for training and validation."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from sgnet_core.data.images import overlay, write_png
from sgnet_core.data.loading import Batch, Samples, collate
from sgnet_core.data.sample import Sample
from sgnet_core.inference.upsampling import best_labels
from sgnet_core.models.preprocess import network_input
from sgnet_core.models.sgnet import Output, SGNet
from sgnet_core.models.views import input_size, resize_images

Mask = npt.NDArray[np.uint8]


def at_input_height(batch: Batch, input_height: int | None) -> Batch:
    """Resize images, depth and intrinsics to the input height of a model, but not the labels.

    Args:
        batch: frames of one size.
        input_height: rows of the input; None returns the batch itself.
    """
    height, width = batch.rgb.shape[2:]
    size = input_size(height, width, input_height)
    if size == (height, width):
        return batch
    rgb, depth = resize_images(batch.rgb, batch.depth, size)
    sy, sx = size[0] / height, size[1] / width
    fx, fy, cx, cy = batch.intrinsics.unbind(1)  # resized as in `Intrinsics.resized`
    moved = (fx * sx, fy * sy, (cx + 0.5) * sx - 0.5, (cy + 0.5) * sy - 0.5)
    return replace(batch, rgb=rgb, depth=depth, intrinsics=torch.stack(moved, dim=1))


def run_batch(model: SGNet, batch: Batch) -> Output:
    """Run the network on a batch, in the mode that the network is in."""
    kind = model.config.spatial
    rgb, spatial = network_input(kind, model.info, batch.rgb, batch.depth, batch.intrinsics)
    output: Output = model(rgb.contiguous(memory_format=torch.channels_last), spatial)
    return output


@torch.inference_mode()
def predict_masks(
    model: SGNet, samples: Samples, batch: int = 8, progress: bool = False
) -> Generator[tuple[Sample, Mask], None, None]:
    """Yield every sample with its predicted mask, (H, W) uint8 at the size of the labels.

    Frames are resized to the input height of the model, if it has one. The masks equal those of a
    float32 `Segmenter`, but no fused copy of the network is needed.

    Args:
        model: the network; its mode is restored at the end.
        samples: the frames.
        batch: number of frames that run together.
        progress: show a progress bar on stderr.
    """
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    try:
        for chunk in _batches(samples, batch, progress):
            frames = at_input_height(collate(chunk).to(device), model.info.input_height)
            logits = run_batch(model, frames).logits.float()
            for sample, scores in zip(chunk, logits, strict=True):
                height, width = sample.labels.shape
                yield sample, best_labels(scores.contiguous(), (height, width))[0].cpu().numpy()
    finally:
        model.train(training)


def _batches(samples: Samples, batch: int, progress: bool) -> Iterator[list[Sample]]:
    """Yield up to ``batch`` consecutive samples of one size at a time."""
    chunk: list[Sample] = []
    # leave=None removes a finished bar only if it is nested in another one, as in training.
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
    """Write a picture of the first samples, with color, depth, prediction and truth in each row.

    Args:
        model: the network.
        samples: the frames.
        path: PNG file to write.
        rows: largest number of rows.

    Raises:
        OSError: the file cannot be written.
    """
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
