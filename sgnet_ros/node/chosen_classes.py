"""Classes that parameters select: for ~/ground, for ~/obstacles, and for the labels."""

from __future__ import annotations

from collections.abc import Collection

from sgnet_core.models.labels import LabelSet
from sgnet_ros.system.names import listed_names

_GROUND = frozenset(
    ("floor", "floor mat", "floor_mat", "rug", "carpet", "ground", "road", "sidewalk", "terrain")
)
"""Names of the classes that robots drive on, in all label sets of this package."""
_OVERHEAD = frozenset(("ceiling", "sky"))
"""Names of the classes that are neither ground nor obstacles."""


def ground_ids(labels: LabelSet, names: str | list[str] | None) -> list[int]:
    """Return the class ids of ``~/ground``; without names, those of floors and roads."""
    return ids_of(labels, listed_names(names) or _GROUND)


def obstacle_ids(labels: LabelSet, names: str | list[str] | None, ground: list[int]) -> list[int]:
    """Return the class ids of ``~/obstacles``; without names, all but ground, ceiling and sky."""
    if wanted := listed_names(names):
        return ids_of(labels, wanted)
    overhead = ids_of(labels, _OVERHEAD)
    return [i for i in labels.ids if i not in ground and i not in overhead]


def kept_ids(labels: LabelSet, names: str | list[str] | None) -> list[int] | None:
    """Return the class ids to keep in the labels; without names None, which keeps all."""
    wanted = listed_names(names)
    return ids_of(labels, wanted) if wanted else None


def unknown_names(labels: LabelSet, *lists: str | list[str] | None) -> list[str]:
    """Return the names that are not classes of the label set, without duplicates."""
    names = [name for each in lists for name in listed_names(each) if name not in labels.names]
    return list(dict.fromkeys(names))


def ids_of(labels: LabelSet, names: Collection[str]) -> list[int]:
    """Return the ids of the classes with these names, ascending; other names are ignored."""
    return [i for i, name in zip(labels.ids, labels.names, strict=True) if name in names]
