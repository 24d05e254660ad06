"""Folders as Windows and macOS archive them: extra files, names, endings of lines."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from sgnet_core.data.datasets.check import check_folder
from sgnet_core.data.datasets.folder import PlainFolder, read_camera, read_classes
from sgnet_core.data.datasets.frame_files import DatasetError
from write_files import save, write_json

H, W = 6, 8
CAMERA = {"width": W, "height": H, "fx": 7, "fy": 7, "cx": 3.5, "cy": 2.5}
NAMES = ("a b", "caf\u00e9", "\u6df1\u5ea6")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three frames whose depth and labels tell them apart; macOS stored the depth images."""
    for i, name in enumerate(NAMES):
        depth_name = unicodedata.normalize("NFD", name)
        save(tmp_path / "rgb" / f"{name}.PNG", np.full((H, W, 3), i, np.uint8))
        save(tmp_path / "depth" / f"{depth_name}.png", np.full((H, W), 1000 + i, np.uint16))
        save(tmp_path / "labels" / f"{name}.png", np.full((H, W), i, np.uint8))
    write_json(tmp_path / "camera.json", CAMERA)
    write_json(tmp_path / "classes.json", {"names": ["x", "y", "z"]})
    return tmp_path


def assert_frames(data: PlainFolder, expected: list[int]) -> None:
    assert [int(data[i].rgb[0, 0, 0]) for i in range(len(data))] == expected
    assert [round(float(data[i].depth[0, 0]) * 1000) - 1000 for i in range(len(data))] == expected
    assert [int(data[i].labels[0, 0]) for i in range(len(data))] == expected


def test_extra_files_are_passed_by_and_names_are_matched(folder: Path) -> None:
    (folder / "__MACOSX").mkdir()
    (folder / "splits").mkdir()
    for name in ("rgb/._a b.PNG", "depth/.DS_Store", "labels/Thumbs.db", "splits/._train.txt"):
        (folder / name).write_bytes(b"\x00\x05\x16\x07")
    (folder / "rgb" / "desktop.ini").write_text("[x]")
    assert_frames(PlainFolder(folder), [0, 1, 2])
    assert not [problem for problem in check_folder(folder).problems if "._" in problem]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_splits_may_name_the_images_and_come_from_windows(folder: Path, encoding: str) -> None:
    (folder / "splits").mkdir()
    lines = [f"rgb\\{NAMES[2]}.png", unicodedata.normalize("NFD", NAMES[1])]
    (folder / "splits" / "val.txt").write_bytes("\r\n".join(lines).encode(encoding))
    assert_frames(PlainFolder(folder, "val"), [2, 1])
    assert not check_folder(folder).problems


def test_numbers_that_json_cannot_hold_are_refused(tmp_path: Path) -> None:
    camera, classes = tmp_path / "camera.json", tmp_path / "classes.json"
    camera.write_text(json.dumps({**CAMERA, "width": float("inf")}))
    with pytest.raises(DatasetError, match=r"camera\.json: .*infinity"):
        read_camera(camera)
    classes.write_text(json.dumps({"names": ["x"], "ids": [float("inf")]}))
    with pytest.raises(DatasetError, match=r"classes\.json: ids are whole numbers"):
        read_classes(classes)
