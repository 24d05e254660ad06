"""Draw boxes at their depths into an image in one Triton kernel; the nearest one is seen.

Registered depth is such an image. PyTorch's operators would need the number of covered pixels on
the host, which waits for the GPU and cannot be recorded in a CUDA graph.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 128


@triton.jit
def _nearest_kernel(  # type: ignore[no-untyped-def]
    boxes, depth, nearest,
    count, width,
    BOXES: tl.constexpr,
):  # fmt: skip
    """Draw BOXES boxes; boxes (4, N) int32, depth (N,) and nearest (H, W) bits of float32."""
    box = tl.program_id(0) * BOXES + tl.arange(0, BOXES)
    exists = box < count
    left = tl.load(boxes + box, mask=exists, other=0)
    top = tl.load(boxes + count + box, mask=exists, other=0)
    columns = tl.load(boxes + 2 * count + box, mask=exists, other=0) - left
    rows = tl.load(boxes + 3 * count + box, mask=exists, other=0) - top
    z = tl.load(depth + box, mask=exists, other=0)
    for down in range(tl.max(rows)):
        for right in range(tl.max(columns)):
            inside = (down < rows) & (right < columns)
            pixel = nearest + (top + down) * width + left + right
            tl.atomic_min(pixel, z, mask=inside, sem="relaxed")


def draw_nearest(boxes: Tensor, depth: Tensor, height: int, width: int) -> Tensor:
    """Return the smallest depth of the boxes that cover each pixel.

    Args:
        boxes: (4, N) int32 left, top, right, bottom; right and bottom lie outside the box. All are
            in the image; a box whose right is not beyond its left covers nothing.
        depth: (N,) float32, positive where the box covers anything.
        height, width: of the image.

    Returns:
        (H, W) float32, 0 where there is no box.
    """
    # Bits of positive floats are in the order of the floats; integers have an atomic minimum.
    infinite = torch.full((height, width), torch.inf, device=depth.device)
    count = depth.numel()
    with torch.cuda.device_of(depth):  # Triton launches on the current device
        _nearest_kernel[(triton.cdiv(count, BLOCK),)](
            boxes.contiguous(), depth.contiguous().view(torch.int32), infinite.view(torch.int32),
            count, width, BOXES=BLOCK,
        )  # fmt: skip
    return torch.where(infinite.isinf(), 0.0, infinite)
