"""When a run has to stop because it no longer learns: loss or gradient not finite, or exploding."""

from __future__ import annotations

import math


class Diverged(FloatingPointError):
    """Training went wrong; the message says how, where the batch is and what helps."""


SETTLED = 20
"""Iterations before the running average of the loss says what is usual."""


def divergence(
    loss: float, norm: float, average: float, iteration: int, bound: float
) -> str | None:
    """What is wrong with an iteration, in words; None if nothing is.

    Args:
        loss: of the iteration. norm: of its gradient.
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
