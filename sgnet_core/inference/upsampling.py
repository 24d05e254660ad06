"""Turn class scores at the stride of the network into a mask at the size of the image.

Scores are upsampled as in the published evaluation, bilinear with aligned corners. The upsampled
scores would be 49 MB at 480x640 with 40 classes, for a mask of 0.3 MB. On the CPU, the mask is
therefore computed cell by cell from the surrounding scores, without the classes that cannot win.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgnet_core.ops.resize import resize_maps

Mask = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.intp]

NEGLIGIBLE = 12.0
"""Scores this far below the best add less than 1e-5 to the denominator of the softmax."""

PIXELS_AT_ONCE = 1 << 16
"""Number of pixels processed together on the CPU, so that their scores stay in the cache."""

VALUES_AT_ONCE = 1 << 26
"""Number of upsampled scores in memory at a time on other devices (256 MiB)."""


def best_labels(
    scores: Tensor, size: tuple[int, int], confidence: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Return the class with the best score at every pixel of the upsampled scores.

    Args:
        scores: (C, h, w) float32 logits, C ≤ 255, on any device.
        size: (H, W) of the mask.
        confidence: also return the softmax probability of the best class.

    Returns:
        (H, W) uint8 class ids, the lowest among equal scores, and (H, W) uint8 probability times
        255, or None. Both are on the device of the scores, for which this does not wait.
    """
    if scores.device.type == "cpu":
        labels, sure = best_by_cell(scores, size, confidence)
        return torch.from_numpy(labels), None if sure is None else torch.from_numpy(sure)
    if scores.is_cuda:
        from sgnet_core.ops.triton_support import fused_runs_on  # loads torch's compiler

        if fused_runs_on(scores.device):
            from sgnet_core.ops.triton_argmax import best_labels_fused  # needs Triton

            return best_labels_fused(scores, size, confidence)
    return best_by_rows(scores, size, confidence)


def best_by_rows(
    scores: Tensor, size: tuple[int, int], confidence: bool
) -> tuple[Tensor, Tensor | None]:
    """Compute `best_labels` from all classes at every pixel, a few rows at a time."""
    height, width = size
    last = scores.shape[1] - 1
    wide = resize_maps(scores[None], (last + 1, width))[0]  # (C, h, W)
    position = torch.arange(height, device=scores.device) * (last / max(height - 1, 1))
    labels = torch.empty(size, dtype=torch.uint8, device=scores.device)
    sure = torch.empty_like(labels) if confidence else None
    rows = max(1, VALUES_AT_ONCE // (len(scores) * width))
    for part in (slice(start, start + rows) for start in range(0, height, rows)):
        low = position[part].long().clamp(max=last)
        fraction = (position[part] - low)[:, None]
        values = torch.lerp(wide[:, low], wide[:, (low + 1).clamp(max=last)], fraction)
        best, labels[part] = values.max(dim=0)
        if sure is not None:
            sure[part] = ((best - values.logsumexp(dim=0)).exp() * 255).round()
    return labels, sure


def best_by_cell(
    scores: Tensor, size: tuple[int, int], confidence: bool
) -> tuple[Mask, Mask | None]:
    """Compute `best_labels` on the CPU from the classes that can win between four scores.

    A bilinear value lies between the least and the greatest of its four corner scores. So a class
    whose greatest score is below the least score of another class cannot win in the cell. In most
    cells, one class remains.
    """
    corners = scores.numpy()
    # A single row or column of scores is equivalent to two equal ones.
    corners = np.pad(corners, ((0, 0), *((0, int(n == 1)) for n in corners.shape[1:])), "edge")
    y, x = Axis.between(corners.shape[1], size[0]), Axis.between(corners.shape[2], size[1])
    greatest = _over_cells(np.maximum, corners)
    bar = _over_cells(np.minimum, corners).max(axis=0)  # (h − 1, w − 1)
    bar -= np.float32(1e-5) * np.abs(corners).max()  # margin for rounding
    can_win = greatest >= bar
    counts = greatest >= bar - np.float32(NEGLIGIBLE) if confidence else can_win
    only = can_win.argmax(axis=0).astype(np.uint8)
    labels = only.repeat(y.sizes, axis=0).repeat(x.sizes, axis=1)
    sure = np.full(size, 255, np.uint8) if confidence else None
    count = counts.sum(axis=0)
    row, column = np.nonzero((count > 1) & (y.sizes[:, None] > 0) & (x.sizes > 0))
    order = np.argsort(-count[row, column], kind="stable")
    row, column = row[order], column[order]
    step = max(1, PIXELS_AT_ONCE // (y.index.shape[1] * x.index.shape[1]))
    for part in (slice(start, start + step) for start in range(0, len(row), step)):
        i, j = row[part], column[part]
        cells = Cells(corners, can_win[:, i, j], counts[:, i, j], y, x, i, j)
        where = (y.index[i, :, None], x.index[j, None, :])
        best, labels[where] = cells.winners()
        if sure is not None:
            sure[where] = np.rint(255 / cells.exp_sum(best))
    return labels, sure


@dataclass(frozen=True)
class Axis:
    """Pixels of one image axis, grouped by the pair of scores that they lie between.

    Attributes:
        sizes: (n,) number of pixels of every group, which may be 0.
        index: (n, p) pixels of every group; short groups repeat their last pixel.
        fraction: (n, p) float32 position of the pixels between the two scores, 0..1.
    """

    sizes: Ints
    index: Ints
    fraction: Floats

    @classmethod
    def between(cls, scores: int, pixels: int) -> Axis:
        """Divide ``pixels`` into ``scores`` − 1 groups, with aligned corners; ``scores`` ≥ 2."""
        position = np.arange(pixels) * ((scores - 1) / max(pixels - 1, 1))
        group = np.minimum(position.astype(np.intp), scores - 2)
        sizes = np.bincount(group, minlength=scores - 1)
        ends = sizes.cumsum()
        index = (ends - sizes)[:, None] + np.arange(sizes.max())
        index = np.minimum(index, np.maximum(ends - 1, 0)[:, None])
        fraction = position[index] - np.arange(scores - 1)[:, None]
        return cls(sizes, index, fraction.astype(np.float32))


class Cells:
    """Cells in which more than one class counts, sorted by descending number of such classes.

    Args:
        corners: (C, h, w) scores.
        can_win: (C, N) classes that can win in each cell.
        counts: (C, N) classes that count for the confidence, a superset of ``can_win``.
        y, x: the axes of the image.
        row, column: (N,) indices of the cells.
    """

    def __init__(
        self,
        corners: Floats,
        can_win: Bools,
        counts: Bools,
        y: Axis,
        x: Axis,
        row: Ints,
        column: Ints,
    ) -> None:
        # Possible winners first, then the others that count, each in ascending order.
        order = 2 - can_win.astype(np.int8) - counts
        self.classes = np.argsort(order, axis=0, kind="stable")
        self.ranks = can_win.sum(axis=0).max()
        self.count = counts.sum(axis=0)
        self.corners = corners
        self.row, self.column = row, column
        self.down, self.right = y.fraction[row, :, None], x.fraction[column, None, :]

    def winners(self) -> tuple[Floats, Mask]:
        """Return the greatest score and its class at every pixel of the cells, both (N, p, q)."""
        classes = self.classes.astype(np.uint8)[:, :, None, None]
        best = self._values(0, len(self.row))
        labels = np.empty(best.shape, np.uint8)
        labels[:] = classes[0]
        for rank in range(1, self.ranks):
            n = self._with_rank(rank)
            values = self._values(rank, n)
            better = values > best[:n]
            np.maximum(best[:n], values, out=best[:n])
            np.copyto(labels[:n], classes[rank, :n], where=better)
        return best, labels

    def exp_sum(self, best: Floats) -> Floats:
        """Return Σ exp(score − best) over the classes that count, (N, p, q)."""
        total = np.zeros_like(best)
        for rank in range(self.count[0]):
            n = self._with_rank(rank)
            values = self._values(rank, n)
            values -= best[:n]
            total[:n] += np.exp(values, out=values)
        return total

    def _with_rank(self, rank: int) -> int:
        """Return the number of cells that have a class of that rank; they come first."""
        return int(np.searchsorted(-self.count, -rank))

    def _values(self, rank: int, n: int) -> Floats:
        """Interpolate the scores of the classes of one rank in the first n cells, (n, p, q)."""
        c, i, j = self.classes[rank, :n], self.row[:n], self.column[:n]
        right, down = self.right[:n], self.down[:n]
        a, b = (self.corners[c, i + k, j][:, None, None] for k in (0, 1))
        top = a + right * (self.corners[c, i, j + 1][:, None, None] - a)  # (n, 1, q)
        drop = b + right * (self.corners[c, i + 1, j + 1][:, None, None] - b) - top
        values: Floats = down * drop
        values += top
        return values


def _over_cells(extreme: np.ufunc, corners: Floats) -> Floats:
    """Reduce (C, h, w) to (C, h − 1, w − 1), the extreme of the four corners of every cell."""
    rows = extreme(corners[:, 1:], corners[:, :-1])
    result: Floats = extreme(rows[:, :, 1:], rows[:, :, :-1])
    return result
