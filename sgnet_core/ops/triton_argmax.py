"""Upsampling, argmax and its softmax probability in one Triton kernel.

The kernel interpolates the scores of each pixel and keeps only the best one. The upsampled scores,
49 MB at 480x640 with 40 classes, are never written to memory.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 128


@triton.jit
def _argmax_kernel(  # type: ignore[no-untyped-def]
    scores, labels, confidence,
    classes, h, w, height, width, scale_y, scale_x,
    CONFIDENCE: tl.constexpr,
    PIXELS: tl.constexpr,
):  # fmt: skip
    """Label PIXELS consecutive pixels: scores (C, h, w) float32, outputs (H, W) uint8."""
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    exists = pixel < height * width
    y = (pixel // width).to(tl.float32) * scale_y
    x = (pixel % width).to(tl.float32) * scale_x
    top = tl.minimum(y.to(tl.int32), h - 1)
    left = tl.minimum(x.to(tl.int32), w - 1)
    bottom = tl.minimum(top + 1, h - 1)
    right = tl.minimum(left + 1, w - 1)
    fy = y - top
    fx = x - left
    best = tl.full((PIXELS,), float("-inf"), dtype=tl.float32)
    winner = tl.full((PIXELS,), 0, dtype=tl.int32)
    total = tl.full((PIXELS,), 0.0, dtype=tl.float32)
    for c in range(classes):
        plane = scores + c * h * w
        upper = tl.load(plane + top * w + left, mask=exists, other=0.0)
        upper += fx * (tl.load(plane + top * w + right, mask=exists, other=0.0) - upper)
        lower = tl.load(plane + bottom * w + left, mask=exists, other=0.0)
        lower += fx * (tl.load(plane + bottom * w + right, mask=exists, other=0.0) - lower)
        value = upper + fy * (lower - upper)
        higher = value > best
        if CONFIDENCE:  # denominator of the softmax, relative to the best score so far
            peak = tl.maximum(value, best)
            total = total * tl.exp(best - peak) + tl.exp(value - peak)
        best = tl.where(higher, value, best)
        winner = tl.where(higher, c, winner)
    tl.store(labels + pixel, winner.to(tl.uint8), mask=exists)
    if CONFIDENCE:
        tl.store(confidence + pixel, (255.0 / total + 0.5).to(tl.uint8), mask=exists)


def best_labels_fused(
    scores: Tensor, size: tuple[int, int], confidence: bool
) -> tuple[Tensor, Tensor | None]:
    """Upsample scores, bilinear with aligned corners, and return the best class of every pixel.

    Args:
        scores: (C, h, w) float32, finite.
        size: (H, W) of the result.
        confidence: also return the softmax probability of the best class, times 255.

    Returns:
        (H, W) uint8 class ids, the lowest among equal scores, and (H, W) uint8 confidence or None,
        on the device of the scores.
    """
    height, width = size
    classes, h, w = scores.shape
    labels = torch.empty(size, dtype=torch.uint8, device=scores.device)
    sure = torch.empty_like(labels) if confidence else None
    with torch.cuda.device_of(scores):  # Triton launches on the current device
        _argmax_kernel[(triton.cdiv(height * width, BLOCK),)](
            scores.contiguous(), labels, labels if sure is None else sure,
            classes, h, w, height, width,
            (h - 1) / max(height - 1, 1), (w - 1) / max(width - 1, 1),
            CONFIDENCE=confidence, PIXELS=BLOCK,
        )  # fmt: skip
    return labels, sure
