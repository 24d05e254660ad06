"""Training and validation set: disjoint, the same every time, of the same classes."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgnet_core.data.datasets.frame_files import DatasetError
from sgnet_core.training.config import TrainConfig, load_config
from sgnet_core.training.holdout import hold_out, open_training_sets
from sgnet_core.training.summary import data_to_score

CONFIGS = Path(__file__).parents[3] / "config" / "train"


class Numbers:
    """A set whose samples are their indices."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return index


def parts(length: int, share: float) -> tuple[list[int], list[int]]:
    kept, held = hold_out(Numbers(length), share, "numbers")
    return [kept[i] for i in range(len(kept))], [held[i] for i in range(len(held))]  # type: ignore[misc]


@given(st.integers(20, 2000), st.floats(0.1, 0.5))
def test_every_frame_is_in_one_of_the_two(length: int, share: float) -> None:
    kept, held = parts(length, share)
    assert sorted(kept + held) == list(range(length))
    assert len(held) == pytest.approx(share * length, abs=6)
    assert (kept, held) == parts(length, share)


def test_nyus_training_images_are_held_out_in_ten_stretches() -> None:
    kept, held = parts(795, 0.1)
    assert (len(kept), len(held)) == (715, 80)
    starts = [i for i in held if i - 1 not in held]
    assert starts == [72, 152, 232, 312, 392, 471, 550, 629, 708, 787]
    assert all(i in held for start in starts for i in range(start, start + 8))


def test_a_small_folder_is_split_too(frames: Path) -> None:
    kept, held, labels = open_training_sets(str(frames), "holdout:0.5", (1, 1))
    assert labels.names == ("floor", "table", "robot")
    assert (len(kept), len(held)) == (5, 5)


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        ("rooms:1", "holdout:0.1", r"rooms:1 is endless.*rooms:OTHER_SEED:N"),
        ("rooms:1:3", "holdout:0.1", "rooms:1:3 has only 3 frames, too few"),
        ("rooms:1:100", "holdout:2", r"write holdout:SHARE"),
        ("rooms:1:100", "holdout:ten", r"write holdout:SHARE"),
    ],
)
def test_what_cannot_be_held_out_is_said(train: str, validation: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        open_training_sets(train, validation, (32, 48))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_no_configuration_chooses_its_model_on_test_images(path: Path) -> None:
    config = load_config(path)
    if path.stem.startswith("ablation"):
        return  # it scores the last iteration and chooses nothing
    assert not config.validation.endswith(":test")
    if path.stem.startswith(("nyuv2", "sunrgbd")):  # sets of two splits
        assert config.train.endswith(":train") and config.validation.startswith("holdout:")
        assert data_to_score(config) == config.train.replace(":train", ":test")


@pytest.mark.parametrize(
    ("train", "validation", "data"),
    [
        ("data/mine:train", "data/mine:val", "data/mine:val"),
        ("data/mine:train", "holdout:0.1", "data/mine:test"),
        ("data/mine", "holdout:0.1", None),  # most of it was trained on
        ("rooms:1", "rooms:1000:100", "rooms:2000:200 --size 320x240"),
        ("rooms:1:900", "holdout:0.1", "rooms:2000:200 --size 320x240"),
    ],
)
def test_a_model_is_to_be_scored_on_what_it_was_not_trained_on(
    train: str, validation: str, data: str | None
) -> None:
    assert data_to_score(TrainConfig(train=train, validation=validation)) == data


@pytest.mark.parametrize(
    ("train", "validation", "common"),
    [
        ("", ":val", "2 of the 2"),
        (":train", "", "8 of the 10"),
        (":train", ":val", None),
        ("rooms:4", "rooms:4:3", "3 of the 3"),
        ("rooms:4:2", "rooms:4:3", "2 of the 3"),
        ("rooms:4", "rooms:5:3", None),
    ],
)
def test_frames_that_are_trained_on_and_validated_on_are_counted(
    frames: Path, train: str, validation: str, common: str | None
) -> None:
    names = [name if "rooms" in name else f"{frames}{name}" for name in (train, validation)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        open_training_sets(*names, (32, 48))
    said = [str(warning.message) for warning in caught]
    assert len(said) == (common is not None), said
    assert all(
        f"{common} validation frames ({names[1]}) are also in the training set" in s for s in said
    )


def test_validation_has_an_end() -> None:
    with pytest.raises(DatasetError, match=r"rooms:2 is endless: .*for example rooms:2:100"):
        open_training_sets("rooms:1", "rooms:2", (32, 48))


def test_sets_of_different_classes_are_refused(frames: Path) -> None:
    with pytest.raises(DatasetError, match=r"in their classes: class 0 is 'floor' in .*boxes"):
        open_training_sets(str(frames), "rooms:4:2", (32, 48))


def test_two_folders_of_the_same_classes_need_no_name_for_them(
    frames: Path, tmp_path: Path
) -> None:
    shutil.copytree(frames, tmp_path / "val")
    _, held, labels = open_training_sets(str(frames), str(tmp_path / "val"), (1, 1))
    assert len(held) == 10 and labels.names == ("floor", "table", "robot")
