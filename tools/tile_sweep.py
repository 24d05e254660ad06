"""Compare tiles of the deformable convolution's kernel with those of its table.

For every shape of an S-Conv or a weight generator, the command times the tile of
`sgnet_core.ops.triton_tiles` and the tiles that differ from it in one number, as CUDA graphs. Then
it prints rows for the table, with the fastest tile of every shape.

    python tools/tile_sweep.py --seconds 60 --json out/tiles.json

Without a GPU, one tiny shape runs in Triton's interpreter, as a test of the command.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

CUDA = torch.cuda.is_available()
if not CUDA:
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported

from sgnet_core.benchmark.measure import run_timed  # noqa: E402
from sgnet_core.benchmark.operator import RECORDED_CALLS, SCONV_SHAPES  # noqa: E402
from sgnet_core.ops.triton_deform import run_kernel  # noqa: E402
from sgnet_core.ops.triton_tiles import Row, Tile, pick_tile  # noqa: E402

ROUNDS = 5


@dataclass(frozen=True)
class Shape:
    """A convolution: channels, outputs, size (H, W) of the features, stride, numeric type."""

    channels: int
    outputs: int
    height: int
    width: int
    stride: int
    dtype: str

    @property
    def pixels(self) -> int:
        """Number of output pixels."""
        return -(-self.height // self.stride) * -(-self.width // self.stride)

    def __str__(self) -> str:
        size = f"{self.height}x{self.width}/{self.stride}"
        return f"{self.channels}->{self.outputs} at {size} {self.dtype}"


@dataclass(frozen=True)
class Measured:
    """Median time of a tile for a shape; ``failure`` is the reason why it cannot run, or empty."""

    shape: Shape
    tile: Tile
    microseconds: float
    failure: str = ""


def shapes() -> Iterator[Shape]:
    """Yield the shapes of SGNet-R101 at 480x640 and of the light network at 240x320."""
    if not CUDA:
        yield Shape(16, 16, 2, 2, 1, "float32")
        return
    for dtype in ("float16", "float32"):
        for channels, height, width, stride in SCONV_SHAPES:
            yield Shape(channels, channels, height, width, stride, dtype)
        for height, width in ((120, 160), (60, 80), (30, 40)):
            yield Shape(64, 9, height, width, 1, dtype)
        for channels, height, width in ((128, 60, 80), (256, 30, 40), (512, 15, 20)):
            yield Shape(channels // 2, channels, height, width, 2, dtype)
            yield Shape(32, 9, height, width, 2, dtype)


def neighbors(tile: Tile) -> Iterator[Tile]:
    """Yield the tiles that differ from ``tile`` in one number."""
    choices = {
        "splits": (1, 3, 9),
        "pixels": (tile.pixels // 2, 2 * tile.pixels),
        "channels": (tile.channels // 2, 2 * tile.channels),
        "outputs": (tile.outputs // 2, 2 * tile.outputs),
        "stages": (3, 4),
        "warps": (4, 8),
    }
    for name, values in choices.items():
        for value in values:
            least = 16 if name in ("pixels", "channels", "outputs") else 1
            if value >= least and value != getattr(tile, name):
                yield tile._replace(**{name: value})


def measure(shape: Shape, tile: Tile) -> Measured:
    """Time a tile; a tile that does not fit the GPU has infinite time."""
    device = torch.device("cuda" if CUDA else "cpu")
    dtype = getattr(torch, shape.dtype)
    h, w = -(-shape.height // shape.stride), -(-shape.width // shape.stride)
    x = torch.randn(1, shape.channels, shape.height, shape.width, device=device, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    offset = torch.randn(1, 18, h, w, device=device)
    mask = torch.rand(1, 9, h, w, device=device, dtype=dtype)
    weight = torch.randn(shape.outputs, shape.channels, 3, 3, device=device, dtype=dtype)
    weight = weight.contiguous(memory_format=torch.channels_last)  # as in `Segmenter`

    def run() -> object:
        return run_kernel(x, offset, weight, mask, None, shape.stride, False, tile)

    try:
        seconds = [run_timed(run, device, RECORDED_CALLS).seconds for _ in range(ROUNDS)]
    except Exception as error:  # Triton's and CUDA's errors have no common base
        return Measured(shape, tile, float("inf"), f"{type(error).__name__}: {error}")
    return Measured(shape, tile, 1e6 * sorted(seconds)[ROUNDS // 2])


def sweep(seconds: float) -> Iterator[list[Measured]]:
    """Measure shape by shape within ``seconds``; yield the tiles of each, the table's first."""
    end = time.monotonic() + seconds
    for shape in shapes():
        dtype = getattr(torch, shape.dtype)
        tile = pick_tile(shape.outputs, shape.channels, shape.pixels, dtype)
        found = []
        for candidate in (tile, *neighbors(tile)):
            if time.monotonic() > end:
                break
            found.append(measure(shape, candidate))
        if found:
            yield found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a tile of the table cannot run."""
    parser = argparse.ArgumentParser(
        prog="python tools/tile_sweep.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seconds", type=float, default=600.0, help="for all shapes (default: 600)"
    )
    parser.add_argument("--json", type=Path, metavar="F", help="also write all times as JSON")
    args = parser.parse_args(argv)
    every: list[Measured] = []
    rows, broken = [], False
    for found in sweep(args.seconds):
        every += found
        current, best = found[0], min(found, key=lambda each: each.microseconds)
        broken |= bool(current.failure)
        print(f"{current.shape}: {current.microseconds:.1f} us {tuple(current.tile)}", end="")
        print(f"; best {best.microseconds:.1f} us {tuple(best.tile)} {current.failure}", flush=True)
        shape = best.shape
        rows.append((shape.dtype, Row(shape.outputs, shape.pixels, best.tile)))
        if args.json:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps([asdict(each) for each in every], indent=1) + "\n")
    for dtype, row in sorted(rows, key=lambda item: item[:1] + item[1][:2]):
        print(f"{dtype}: Row({row.outputs}, {row.pixels}, Tile{tuple(row.tile)}),")
    return 1 if broken or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
