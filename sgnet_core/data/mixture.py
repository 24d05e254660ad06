"""Mix data sets, each with a fixed share of the frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sgnet_core.data.loading import ENDLESS, Samples
from sgnet_core.data.sample import Sample

PERIOD = 1000
"""Length of the repeated pattern of data sets; shares are rounded to multiples of 1/1000."""


class Mixture:
    """An endless data set that takes frames from several data sets by their shares.

    Each set is visited in its own shuffled epochs. A position always gives the same frame, so a run
    can stop and resume anywhere.

    Args:
        sets: the data sets.
        shares: positive shares of the frames; they are normalized to a sum of 1.
        seed: seed of the order.

    Raises:
        ValueError: a share is not positive or rounds to no frame.
    """

    def __init__(self, sets: Sequence[Samples], shares: Sequence[float], seed: int = 0) -> None:
        self.sets, self.seed = list(sets), seed
        wanted = np.asarray(shares, float)
        if len(wanted) != len(self.sets) or not (wanted > 0).all():
            raise ValueError(f"every data set needs a positive share, got {list(shares)}")
        self.pattern = _pattern(wanted / wanted.sum())
        self.counts = np.bincount(self.pattern, minlength=len(self.sets))
        if not self.counts.all():
            raise ValueError(f"a share below 1/{PERIOD} gives no frame: {list(shares)}")
        self._orders: dict[int, tuple[int, NDArray[np.int64]]] = {}

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, position: int) -> Sample:
        rounds, step = divmod(position, PERIOD)
        chosen = int(self.pattern[step])
        visit = rounds * int(self.counts[chosen]) + int((self.pattern[:step] == chosen).sum())
        return self.sets[chosen][self._index(chosen, visit)]

    def _index(self, chosen: int, visit: int) -> int:
        length = len(self.sets[chosen])
        if length == ENDLESS:
            return visit
        epoch = visit // length
        if self._orders.get(chosen, (-1,))[0] != epoch:
            order = np.random.default_rng((self.seed, chosen, epoch)).permutation(length)
            self._orders[chosen] = (epoch, order)
        return int(self._orders[chosen][1][visit % length])


def _pattern(shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the (PERIOD,) indices of the sets by position, evenly interleaved."""
    due = np.zeros(len(shares))
    pattern = np.empty(PERIOD, np.int64)
    for step in range(PERIOD):
        due += shares
        pattern[step] = due.argmax()
        due[pattern[step]] -= 1
    return pattern
