"""Tile sizes of the Triton kernel for deformable convolution, by the shape of the convolution.

Sizes come from a table, because autotuning cannot run while a CUDA graph is recorded. The rows are
computed for 132 multiprocessors (H100, H200), not measured; ``python tools/tile_sweep.py`` measures
the alternatives on a GPU and prints rows for this table.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

import torch
import triton


class Tile(NamedTuple):
    """Work of one program.

    Attributes:
        pixels: output pixels.
        outputs: output channels.
        channels: input channels per step.
        splits: number of programs that share the kernel positions of a tile: 1, 3 or 9.
        warps: warps per program.
        stages: software-pipeline stages.
    """

    pixels: int
    outputs: int
    channels: int
    splits: int = 1
    warps: int = 4
    stages: int = 2


class Row(NamedTuple):
    """Row of the table: the tile for convolutions with up to so many output channels and pixels."""

    outputs: int
    pixels: int
    tile: Tile


MANY = sys.maxsize

# Tiles are wide in output channels, because every tile samples its pixels again. 64 pixels are the
# minimum of Hopper's tensor cores. Sizes are powers of two, at least 16. Maps that give fewer tiles
# than there are multiprocessors split the kernel positions. For compute capability 9.0, no row
# spills registers, and shared memory stays below the 99 KB of small Ampere and Ada chips
# (`test/core/ops/test_triton_compiled.py`).
HALF = (
    Row(16, 1200, Tile(64, 16, 64, 9)),
    Row(16, 4800, Tile(64, 16, 64, 3)),
    Row(16, MANY, Tile(64, 16, 64)),
    Row(64, 1200, Tile(64, 64, 64, 9)),
    Row(64, 4800, Tile(64, 64, 64, 3)),
    Row(64, MANY, Tile(64, 64, 64)),
    Row(128, 1200, Tile(64, 128, 32, 9)),
    Row(128, 4800, Tile(64, 128, 32, 3)),
    Row(128, MANY, Tile(64, 128, 32)),
    Row(256, 1200, Tile(64, 256, 32, 9, warps=8)),
    Row(MANY, 600, Tile(64, 256, 32, 9, warps=8)),
    Row(MANY, 4800, Tile(64, 256, 32, 3, warps=8)),
    Row(MANY, MANY, Tile(64, 256, 32, warps=8)),
)
"""Tiles of float16 and bfloat16."""

SINGLE = (
    Row(16, 1200, Tile(64, 16, 32, 9)),
    Row(16, 4800, Tile(64, 16, 32, 3)),
    Row(16, MANY, Tile(64, 16, 32)),
    Row(64, 1200, Tile(64, 64, 32, 9)),
    Row(64, 4800, Tile(64, 64, 32, 3)),
    Row(64, MANY, Tile(64, 64, 32)),
    Row(128, 1200, Tile(64, 128, 32, 9, warps=8)),
    Row(MANY, 600, Tile(64, 128, 32, 9, warps=8)),
    Row(MANY, 4800, Tile(64, 128, 32, 3, warps=8)),
    Row(MANY, MANY, Tile(64, 128, 32, warps=8)),
)
"""Tiles of float32."""


def table(dtype: torch.dtype) -> tuple[Row, ...]:
    """Return the table of a numeric type."""
    return SINGLE if dtype == torch.float32 else HALF


def pick_tile(outputs: int, channels: int, pixels: int, dtype: torch.dtype) -> Tile:
    """Return the tile of the first row that fits a convolution, limited to its channels.

    Args:
        outputs, channels: output and input channels.
        pixels: output pixels of the whole batch.
        dtype: type of the features.
    """
    fits = (r.tile for r in table(dtype) if outputs <= r.outputs and pixels <= r.pixels)
    tile = next(fits)
    return tile._replace(
        outputs=min(tile.outputs, _block(outputs)), channels=min(tile.channels, _block(channels))
    )


def _block(count: int) -> int:
    """Return the smallest block of a tensor-core product that covers ``count`` channels."""
    return max(16, triton.next_power_of_2(count))
