"""Classes that parameters name."""

from __future__ import annotations

import pytest

from sgnet_core.models.labels import CITYSCAPES19, NYU13, NYU40, LabelSet
from sgnet_ros.node.chosen_classes import ground_ids, kept_ids, obstacle_ids, unknown_names


def names(labels: LabelSet, ids: list[int]) -> set[str]:
    return {labels.names[i] for i in ids}


@pytest.mark.parametrize(
    ("labels", "ground"),
    [
        (NYU13, {"floor"}),
        (NYU40, {"floor", "floor mat"}),
        (CITYSCAPES19, {"road", "sidewalk", "terrain"}),
    ],
)
def test_every_label_set_has_ground_and_obstacles(labels: LabelSet, ground: set[str]) -> None:
    ids = ground_ids(labels, "")
    assert names(labels, ids) == ground
    obstacles = names(labels, obstacle_ids(labels, None, ids))
    assert obstacles == set(labels.names) - ground - {"ceiling", "sky"}


def test_named_classes_are_taken_from_a_list_or_a_text() -> None:
    for given in (["floor mat", "table"], "floor mat, table", "['floor mat', table]"):
        assert names(NYU40, ground_ids(NYU40, given)) == {"floor mat", "table"}
        assert names(NYU40, obstacle_ids(NYU40, given, [])) == {"floor mat", "table"}


def test_all_classes_are_kept_unless_some_are_named() -> None:
    assert kept_ids(NYU13, "") is None
    assert kept_ids(NYU13, None) is None
    assert kept_ids(NYU40, "wall, chair") == [0, 4]
    assert kept_ids(NYU40, ["unicorn"]) == []


def test_unknown_names_are_listed_once() -> None:
    assert unknown_names(NYU40, "wall, unicorn", ["unicorn", "chair", "Chair"], None) == [
        *("unicorn", "Chair")
    ]
