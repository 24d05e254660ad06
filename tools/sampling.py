"""Draw the sampling positions of S-Convs: ``python tools/sampling.py --out sampling.png``.

The picture shows the nine sampling positions of one S-Conv at a few output pixels: those of a plain
3x3 convolution, and those that the geometry moves and weights (Chen et al., IEEE TIP 2021, figure
1), on color and on depth.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from sgnet_core.data.catalog import open_dataset
from sgnet_core.data.images import read_depth, read_rgb, write_png
from sgnet_core.data.sample import Sample
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.models.labels import IGNORE_ID
from sgnet_core.models.model_file import ModelFileError
from sgnet_core.models.sconv import Guidance
from sgnet_core.models.sgnet import PlacedSConv, SGNet

Picture = npt.NDArray[np.uint8]
PANEL = 640
"""Width in pixels to which smaller frames are enlarged at most, by a whole number."""
COLORS = (
    (255, 90, 40),
    (60, 220, 90),
    (60, 160, 255),
    (250, 210, 40),
    (230, 90, 230),
    (70, 230, 230),
)


@dataclass(frozen=True)
class Sampling:
    """Sampling of one S-Conv at one output pixel; positions are (9, 2) y, x in frame pixels.

    Attributes:
        regular: positions of the plain convolution.
        guided: positions moved by the offsets.
        weight: (9,) factors in (0, 1).
    """

    regular: npt.NDArray[np.float64]
    guided: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64]


@torch.inference_mode()
def samplings(
    segmenter: Segmenter, sample: Sample, layer: int, points: Sequence[tuple[int, int]]
) -> list[Sampling]:
    """Return the sampling of a layer's first S-Conv at the output pixels nearest to ``points``.

    Args:
        segmenter: segmenter with the torch backend and S-Convs that a spatial input guides.
        sample: frame.
        layer: layer of the ResNet, 1 to 4.
        points: (y, x) pixels of the frame.

    Raises:
        ValueError: the model has no S-Conv with offsets in that layer.
    """
    height, guided = _guidances(segmenter, sample)
    with_offsets = (g for g in guided if g[0].layer == layer and g[0].sconv.offset_generator)
    placed, guidance = next(with_offsets, (None, None))
    if placed is None or guidance is None:
        raise ValueError(f"{segmenter.info.name} has no S-Conv with offsets in layer {layer}")
    offset = guidance.offset[0].double().cpu()
    mask = torch.ones(9, *offset.shape[1:]) if guidance.mask is None else guidance.mask[0]
    scale = sample.depth.shape[0] / height  # pixels of the frame per pixel of the network's input
    step, pixels = placed.sconv.stride, placed.stride * scale
    result = []
    for y, x in points:
        row = min(round(y / (pixels * step)), offset.shape[1] - 1)
        column = min(round(x / (pixels * step)), offset.shape[2] - 1)
        taps = [(row * step + i // 3 - 1, column * step + i % 3 - 1) for i in range(9)]
        regular = np.array(taps, dtype=np.float64)
        guided = regular + offset[:, row, column].view(9, 2).numpy()
        weight = mask[:, row, column].double().cpu().numpy()
        result.append(Sampling(regular * pixels, guided * pixels, weight))
    return result


@torch.inference_mode()
def movements(segmenter: Segmenter, sample: Sample) -> list[str]:
    """Describe how far each S-Conv moves its positions, and its weights, in one line each.

    Distances are in pixels of the S-Conv's input.
    """
    lines = []
    for placed, guidance in _guidances(segmenter, sample)[1]:
        distance = guidance.offset.double().cpu().reshape(9, 2, -1).norm(dim=1)
        text = f"positions moved by {distance.mean():.2f} pixels, 95 % of them by less than "
        line = f"layer {placed.layer}: {text}{distance.quantile(0.95):.2f}"
        if guidance.mask is not None:
            mask = guidance.mask.double().cpu()
            low, high = mask.quantile(0.05), mask.quantile(0.95)
            line += f"; weights {low:.2f} to {high:.2f} (5 % and 95 %)"
        lines.append(line)
    return lines


def _guidances(
    segmenter: Segmenter, sample: Sample
) -> tuple[int, list[tuple[PlacedSConv, Guidance]]]:
    """Return the number of rows of the network's input, and the guidance of each S-Conv."""
    image, spatial = segmenter.preprocess(sample.rgb, sample.depth, sample.intrinsics)
    height, width = image.shape[2:]
    model = segmenter.model
    if spatial is None or not isinstance(model, SGNet):
        return height, []
    return height, list(
        zip(model.sconvs(), model.spatial_branch(spatial, (height, width)), strict=True)
    )


def figure(
    segmenter: Segmenter, sample: Sample, layers: Sequence[int], points: Sequence[tuple[int, int]]
) -> Picture:
    """Draw a row per layer: plain positions on color, guided positions on color and on depth."""
    factor = max(1, PANEL // sample.rgb.shape[1])
    color, depth = (
        np.ascontiguousarray(image.repeat(factor, axis=0).repeat(factor, axis=1))
        for image in (sample.rgb, _painted(sample.depth))
    )
    rows = []
    for layer in layers:
        found = samplings(segmenter, sample, layer, points)
        panels = [(color, False), (color, True), (depth, True)]
        rows.append(np.hstack([_drawn(image, found, factor, guided) for image, guided in panels]))
    return np.vstack(rows)


def edge_points(depth: npt.NDArray[np.float32], count: int, seed: int = 0) -> list[tuple[int, int]]:
    """Return (y, x) of pixels beside steps in depth, spread over the frame without its border."""
    valid = (depth > 0).astype(np.float32)
    far = cv2.dilate(np.where(depth > 0, depth, 0), np.ones((9, 9)))
    near = cv2.erode(np.where(depth > 0, depth, 100), np.ones((9, 9)))
    step = np.where(cv2.erode(valid, np.ones((9, 9))) > 0, (far - near) / np.maximum(near, 0.1), 0)
    border = max(depth.shape) // 10
    step[:border] = step[-border:] = 0
    step[:, :border] = step[:, -border:] = 0
    noise = np.random.default_rng(seed).uniform(0.8, 1, step.shape)
    points = []
    for _ in range(count):
        y, x = np.unravel_index(np.argmax(np.minimum(step, 1) * noise), step.shape)
        points.append((int(y), int(x)))
        gap = max(depth.shape) // 6
        step[max(0, y - gap) : y + gap, max(0, x - gap) : x + gap] = 0
    return points


def _painted(depth: npt.NDArray[np.float32]) -> Picture:
    """Paint depth: near pixels bright, pixels without depth black."""
    farthest = max(float(depth.max()), 0.1)
    shade = np.clip((1 - depth / farthest) * 205 + 50, 0, 255).astype(np.uint8)
    painted = cv2.cvtColor(cv2.applyColorMap(shade, cv2.COLORMAP_BONE), cv2.COLOR_BGR2RGB)
    painted[depth <= 0] = 0
    return np.asarray(painted, dtype=np.uint8)


def _drawn(image: Picture, found: Sequence[Sampling], factor: int, guided: bool) -> Picture:
    """Draw the positions as dots that grow with the weight, and lines from the plain positions."""
    picture = image.copy()
    for sampling, color in zip(found, itertools.cycle(COLORS), strict=False):
        regular, moved = _pixels(sampling.regular, factor), _pixels(sampling.guided, factor)
        for start, end, weight in zip(regular, moved, sampling.weight, strict=True):
            size = round(1 + 6 * weight) if guided else 4
            if guided:
                cv2.line(picture, start, end, color, 1, cv2.LINE_AA)
            at = end if guided else start
            cv2.circle(picture, at, size + 1, (0, 0, 0), -1, cv2.LINE_AA)
            cv2.circle(picture, at, size, color, -1, cv2.LINE_AA)
    return picture


def _pixels(positions: npt.NDArray[np.float64], factor: int) -> list[tuple[int, int]]:
    """Return (x, y) in the enlarged picture."""
    return [(round((x + 0.5) * factor), round((y + 0.5) * factor)) for y, x in positions]


def _frame(args: argparse.Namespace) -> Sample:
    if args.rgb is None:
        samples, _ = open_dataset(args.data, (240, 320))
        return samples[args.index]
    if args.depth is None or args.intrinsics is None:
        raise ValueError("--rgb needs --depth and --intrinsics")
    rgb, depth = read_rgb(args.rgb), read_depth(args.depth, args.depth_scale)
    fx, fy, cx, cy = args.intrinsics
    intrinsics = Intrinsics(fx, fy, cx, cy, width=depth.shape[1], height=depth.shape[0])
    return Sample(rgb, depth, np.full(depth.shape, IGNORE_ID, np.uint8), intrinsics)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser("python tools/sampling.py", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", default="rooms:2000:20", help="data set of the frame")
    parser.add_argument("--index", type=int, default=1, help="number of the frame")
    parser.add_argument("--rgb", type=Path, help="color image, instead of --data")
    parser.add_argument("--depth", type=Path, help="depth image for --rgb")
    parser.add_argument("--depth-scale", type=float, default=0.001, help="meters per unit")
    parser.add_argument("--intrinsics", type=float, nargs=4, metavar=("FX", "FY", "CX", "CY"))
    parser.add_argument("--model", type=Path, help="model file; default: the shipped weights")
    parser.add_argument("--layers", type=int, nargs="+", default=[3, 4], choices=(1, 2, 3, 4))
    parser.add_argument("--points", type=int, default=6, help="output pixels to draw")
    parser.add_argument("--out", type=Path, required=True, help="PNG file")
    args = parser.parse_args(argv)
    if args.out.suffix.lower() != ".png":
        parser.error(f"--out must be a PNG file, FILE.png, got {args.out}")
    try:
        sample = _frame(args)
        points = edge_points(sample.depth, args.points)
        segmenter = Segmenter(args.model, backend="torch")
        write_png(args.out, figure(segmenter, sample, args.layers, points))
    except (ValueError, IndexError, ModelFileError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.out}: plain positions | guided positions | the same on depth")
    print("\n".join(movements(segmenter, sample)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
