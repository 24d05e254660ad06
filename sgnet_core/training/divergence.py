"""Detection of divergence: a loss or gradient that is not finite or explodes."""

from __future__ import annotations

import math


class Diverged(FloatingPointError):
    """Training diverged; the message says how, names the file of the batch and the remedy."""


SETTLED = 20
"""Iterations before the running average of the loss is representative."""


def divergence(
    loss: float, norm: float, average: float, iteration: int, bound: float
) -> str | None:
    """Return in words how an iteration diverged, or None.

    Args:
        loss: loss of the iteration.
        norm: norm of its gradient.
        average: running average of the loss.
        bound: largest loss, as a multiple of the average or of 1, whichever is more; 0 is off.
    """
    if not math.isfinite(loss):
        return f"the loss became {loss}"
    if not math.isfinite(norm):
        return f"the gradient's norm became {norm}"
    if bound and iteration >= SETTLED and loss > bound * max(average, 1.0):
        return f"the loss exploded: {loss:.3g} after {average:.3g} on average"
    return None
