"""Label space and color map for Hydra and Khronos."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from sgnet_core.models.labels import CITYSCAPES19, NYU13, NYU40, SUN37, LabelSet
from sgnet_ros.label_space import color_map, label_space, main

yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra train")


@pytest.mark.parametrize("labels", [NYU40, NYU13, SUN37, CITYSCAPES19], ids=lambda s: s.name)
def test_every_class_has_its_name_and_at_most_one_role(labels: LabelSet) -> None:
    space = yaml.safe_load(label_space(labels))
    assert space["total_semantic_labels"] == len(labels)
    assert [(e["label"], e["name"]) for e in space["label_names"]] == list(enumerate(labels.names))
    assert space["invalid_labels"] == [255]
    roles = space["object_labels"] + space["dynamic_labels"] + space["surface_places_labels"]
    assert len(set(roles)) == len(roles)
    assert set(roles) < set(labels.ids)
    rest = {labels.names[i] for i in labels.ids if i not in roles}
    assert rest <= {
        *("wall", "window", "door", "ceiling", "otherstructure"),
        *("building", "fence", "pole", "sky"),
    }


def test_roles_of_nyu40() -> None:
    space = yaml.safe_load(label_space(NYU40))
    roles = ("dynamic_labels", "surface_places_labels", "object_labels")
    names = {role: [NYU40.names[i] for i in space[role]] for role in roles}
    assert names["dynamic_labels"] == ["person"]
    assert names["surface_places_labels"] == ["floor", "floor mat"]
    assert {"chair", "table", "bed", "box"} <= set(names["object_labels"])


def test_names_that_yaml_would_convert_stay_texts() -> None:
    odd = ("no", "12", "a: b", 'say "x"', "{brace")
    labels = LabelSet("odd", odd, tuple((i, 2, 3) for i in range(5)))
    space = yaml.safe_load(label_space(labels))
    assert tuple(entry["name"] for entry in space["label_names"]) == odd
    assert [row[0] for row in csv.reader(color_map(labels).splitlines())][1:-1] == list(odd)


def test_colors_are_those_of_the_labels() -> None:
    rows = list(csv.DictReader(color_map(NYU13).splitlines()))
    assert list(rows[0]) == ["name", "red", "green", "blue", "alpha", "id"]
    for i, (row, color) in enumerate(zip(rows, NYU13.colors, strict=False)):
        assert (row["name"], int(row["id"]), row["alpha"]) == (NYU13.names[i], i, "255")
        assert (int(row["red"]), int(row["green"]), int(row["blue"])) == color
    assert rows[-1] == dict(zip(rows[0], ("unlabeled", "0", "0", "0", "255", "255"), strict=True))


def test_the_command_writes_both_files_of_a_model(
    tmp_path: Path, models: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", str(models["other"]), "--out", str(tmp_path / "new")]) == 0
    files = [tmp_path / "new" / f"cityscapes19_{end}" for end in ("label_space.yaml", "colors.csv")]
    assert capsys.readouterr().out.split() == [str(file) for file in files]
    assert files[0].read_text() == label_space(CITYSCAPES19)
    assert files[1].read_text() == color_map(CITYSCAPES19)


def test_a_model_that_is_missing_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--model", str(tmp_path / "gone.safetensors"), "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert "gone.safetensors" in capsys.readouterr().err
