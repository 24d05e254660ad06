"""Classes of ~/ground and ~/obstacles."""

from __future__ import annotations

from sgnet_core.models.labels import LabelSet
from sgnet_ros.system.names import listed_names

_GROUND = frozenset(
    ("floor", "floor mat", "floor_mat", "rug", "carpet", "ground", "road", "sidewalk", "terrain")
)
"""Names of classes that robots drive on, over all label sets of this package."""
_OVERHEAD = frozenset(("ceiling", "sky"))
"""Names of classes that are neither driven on nor into."""


def ground_ids(labels: LabelSet, names: str | list[str] | None) -> list[int]:
    """Return the class ids of ``~/ground``; without names those of floors, roads and the like."""
    wanted = set(listed_names(names)) or _GROUND
    return [i for i, name in zip(labels.ids, labels.names, strict=True) if name in wanted]


def obstacle_ids(labels: LabelSet, names: str | list[str] | None, ground: list[int]) -> list[int]:
    """Return the class ids of ``~/obstacles``; without names all but ground, ceiling and sky."""
    wanted = set(listed_names(names))
    return [
        i
        for i, name in zip(labels.ids, labels.names, strict=True)
        if (name in wanted if wanted else i not in ground and name not in _OVERHEAD)
    ]
