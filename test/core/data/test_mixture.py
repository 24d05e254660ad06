"""Several data sets in one."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from sgnet_core.data.loading import ENDLESS
from sgnet_core.data.mixture import Mixture
from sgnet_core.data.sample import Sample
from sgnet_core.geometry.intrinsics import Intrinsics


class Numbered:
    """Frames whose depth says which set and index they are."""

    def __init__(self, name: int, length: int) -> None:
        self.name, self.length = name, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        assert index < self.length
        depth = np.full((2, 2), self.name * 1000 + index, np.float32)
        zeros = np.zeros((2, 2), np.uint8)
        return Sample(np.zeros((2, 2, 3), np.uint8), depth, zeros, Intrinsics(1, 1, 0, 0, 2, 2))


def frames(mixture: Mixture, positions: range) -> list[tuple[int, int]]:
    return [divmod(int(mixture[p].depth[0, 0]), 1000) for p in positions]


def test_every_set_gives_its_share_evenly_spread() -> None:
    mixture = Mixture([Numbered(1, 7), Numbered(2, ENDLESS)], [0.8, 0.2])
    for start in (0, 995, 3000):
        found = Counter(name for name, _ in frames(mixture, range(start, start + 10)))
        assert found == {1: 8, 2: 2}


def test_every_frame_of_a_set_comes_once_an_epoch_in_another_order() -> None:
    mixture = Mixture([Numbered(1, 20), Numbered(2, 5)], [0.5, 0.5])
    seen = [index for name, index in frames(mixture, range(80)) if name == 1]
    assert sorted(seen[:20]) == sorted(seen[20:]) == list(range(20))
    assert seen[:20] != seen[20:]


def test_endless_sets_give_every_frame_once() -> None:
    mixture = Mixture([Numbered(1, 20), Numbered(2, ENDLESS)], [0.75, 0.25])
    assert [i for name, i in frames(mixture, range(900, 1100)) if name == 2] == list(
        range(225, 275)
    )


def test_a_position_gives_the_same_frame_whatever_came_before() -> None:
    sets = [Numbered(1, 20), Numbered(2, 5)]
    mixture = Mixture(sets, [0.6, 0.4], seed=3)
    forwards = frames(mixture, range(1300))
    assert frames(Mixture(sets, [0.6, 0.4], seed=3), range(1200, 1210)) == forwards[1200:1210]
    assert frames(Mixture(sets, [0.6, 0.4], seed=4), range(1200, 1300)) != forwards[1200:]


def test_shares_that_give_no_frame_are_refused() -> None:
    sets = [Numbered(1, 20), Numbered(2, 5)]
    for shares in ((1.0, 0.0), (1.0, -0.5), (1.0, 1e-5), (1.0,)):
        with pytest.raises(ValueError, match="share"):
            Mixture(sets, shares)
