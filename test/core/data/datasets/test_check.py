"""`prepare check`: every mistake is found and named, and a sound folder passes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from sgnet_core.data.datasets.check import check_folder
from sgnet_core.data.datasets.folder import PlainFolder
from sgnet_core.prepare import main
from write_files import change_files, save, write_json

H, W = 20, 30
CAMERA = {"width": W, "height": H, "fx": 25, "fy": 25, "cx": 14.5, "cy": 9.5, "depth_scale": 0.001}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three sound frames: a quarter of the depth at 0.75 m, three quarters at 3 m."""
    for name in "abc":
        save(tmp_path / "rgb" / f"{name}.png", np.full((H, W, 3), 80, np.uint8))
        depth = np.full((H, W), 3000, np.uint16)
        depth[:5] = 750
        save(tmp_path / "depth" / f"{name}.png", depth)
        labels = np.ones((H, W), np.uint8)
        labels[:10] = 0
        save(tmp_path / "labels" / f"{name}.png", labels)
    write_json(tmp_path / "camera.json", CAMERA)
    write_json(tmp_path / "classes.json", {"names": ["floor", "desk", "robot"]})
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "train.txt").write_text("a\nb\n")
    (tmp_path / "splits" / "val.txt").write_text("c\n")
    return tmp_path


def test_a_sound_folder_passes_and_is_described(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(folder)]) == 0
    report = capsys.readouterr().out
    assert "3 frames: no problems" in report
    histogram = {
        line.split("–")[0].strip(): line.split()[3] for line in report.splitlines() if "–" in line
    }
    assert histogram == {"0.5": "25.0%", "1": "0.0%", "2": "75.0%"}
    assert re.search(r"floor +50.00%", report) and re.search(r"desk +50.00%", report)
    assert "never: robot" in report


def depth(millimeters: int) -> np.ndarray:
    return np.full((H, W), millimeters, np.uint16)


STRANGE_IDS = np.zeros((H, W), np.uint8)
STRANGE_IDS[0, :7], STRANGE_IDS[1, :2] = 3, 90
MISTAKES: dict[str, tuple[dict[str, object], list[str]]] = {
    "millimeters as meters": (
        {"camera.json": {**CAMERA, "depth_scale": 1}},
        [
            rf"depth/{name}.png: the median depth is 3000 m.*depth_scale 0.001 .* be 3 m"
            for name in "abc"
        ],
    ),
    "float millimeters": (
        {"depth/b.png": None, "depth/b.npy": np.full((H, W), 2500.0, np.float32)},
        [r"depth/b.npy: the median depth is 2500 m.*0.001 it would be 2.5 m"],
    ),
    "meters as integers": (
        {"depth/b.png": depth(3)},
        [r"depth/b.png: the median depth is 0.003 m.*depth_scale 1 .*be 3 m"],
    ),
    "8 bits in 16": (
        {"depth/b.png": np.linspace(100, 255, H * W).reshape(H, W).astype(np.uint16)},
        [r"depth/b.png: no value is above 255: is it an 8-bit"],
    ),
    "8 bits": ({"depth/b.png": depth(100).astype(np.uint8)}, [r"depth/b.png.*8-bit"]),
    "no depth": ({"depth/b.png": depth(0)}, [r"depth/b.png: no pixel has a depth"]),
    "smaller depth": (
        {"depth/b.png": depth(2000)[: H // 2, : W // 2]},
        [r"depth/b.png: is 15x10, but .*rgb/b.png is 30x20"],
    ),
    "larger labels": (
        {"labels/b.png": np.zeros((H + 1, W), np.uint8)},
        [r"labels/b.png: is 30x21, but .*rgb/b.png is 30x20"],
    ),
    "camera of another size": (
        {"cameras/b.json": {**CAMERA, "width": 640, "height": 480}},
        [r"cameras/b.json: is 640x480, but .*rgb/b.png is 30x20"],
    ),
    "strange ids": (
        {"labels/b.png": STRANGE_IDS},
        [r"labels/b.png: .*not in classes.json: 3 \(7 .*, 90 \(2 pixels\)"],
    ),
    "no intrinsics": (
        {"camera.json": None},
        [rf"no intrinsics for {name}: .*camera.json" for name in "abc"],
    ),
    "broken camera": ({"camera.json": {**CAMERA, "fx": -1}}, [r"camera.json: focal lengths"]),
    "a list for a number": (
        {"camera.json": {**CAMERA, "fx": [1]}},
        [r"camera.json: fx must be a number, got \[1\]"],
    ),
    "broken classes": ({"classes.json": [1]}, [r"classes.json must hold"]),
    "missing depth": ({"depth/b.png": None}, [r"depth/b\(.png\|.npy\) does not exist"]),
    "missing labels": ({"labels/b.png": None}, [r"labels/b.png does not exist"]),
    "truncated": ({"rgb/b.png": 60}, [r"rgb/b.png"]),
    "orphan": (
        {"rgb/b.png": None},
        [
            r"depth/b.png: there is no color image of that name",
            r"labels/b.png: there is no color image of that name",
            r"splits/train.txt: names b, which is not in rgb/",
        ],
    ),
    "depth twice": (
        {"depth/b.npy": np.full((H, W), 2.0)},
        [r"depth/b.npy and b.png are the same frame: keep one"],
    ),
    "empty split": ({"splits/val.txt": "\n"}, [r"splits/val.txt is empty"]),
    "split of nothing": (
        {"splits/val.txt": "c\nd\n"},
        [r"splits/val.txt: names d, which is not in rgb/"],
    ),
    "overlapping splits": (
        {"splits/val.txt": "b\nc\nc\n"},
        [r"splits/val.txt: names b, and so does train.txt", r"val.txt: names c 2 times"],
    ),
}


@pytest.mark.parametrize(("files", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_found_and_nothing_else(
    folder: Path, capsys: pytest.CaptureFixture[str], files: dict[str, object], expected: list[str]
) -> None:
    change_files(folder, files)
    problems = check_folder(folder).problems
    assert len(problems) == len(expected), problems
    for problem, pattern in zip(problems, expected, strict=True):
        assert str(folder) in problem
        assert re.search(pattern, problem), problem
    assert main(["check", str(folder)]) == 1
    report = capsys.readouterr().out
    assert all(problem in report for problem in problems)
    assert f"{len(problems)} problem" in report


def test_several_mistakes_are_all_reported(folder: Path) -> None:
    for mistake in ("strange ids", "missing depth", "empty split"):
        change_files(folder, MISTAKES[mistake][0])
    assert len(check_folder(folder).problems) == 3


@pytest.mark.parametrize(
    ("made", "named", "problem"),
    [
        ([], "nowhere", "does not exist"),
        (["notes.txt"], "notes.txt", "is not a folder"),
        (["notes/"], "", "has no folder rgb: docs/data.md describes the layout"),
        (["train.txt", "train/rgb/"], "", "is ESANet's NYUv2; only plain folders are checked"),
        (["leftImg8bit/"], "", "is Cityscapes; only plain folders are checked"),
    ],
)
def test_a_folder_that_is_none_says_what_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], made: list[str], named: str, problem: str
) -> None:
    for name in made:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.touch()
    assert main(["check", str(tmp_path / named)]) == 1
    report = capsys.readouterr().out
    assert f"{tmp_path / named}: " in report and problem in report
    assert "0 frames: 1 problem" in report


def test_a_folder_of_pictures_alone_is_told_what_else_it_takes(tmp_path: Path) -> None:
    save(tmp_path / "rgb" / "a.png", np.zeros((H, W, 3), np.uint8))
    problems = "\n".join(check_folder(tmp_path).problems)
    for missing in ("depth/a(.png|.npy)", "labels/a.png", "classes.json", "camera.json"):
        assert missing in problems


def test_65535_is_no_measurement_and_no_problem(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    depth = np.full((H, W), 2000, np.uint16)
    depth[:10] = 65535
    save(folder / "depth" / "b.png", depth)
    assert main(["check", str(folder)]) == 0
    assert "65" not in capsys.readouterr().out
    np.testing.assert_array_equal(PlainFolder(folder)[1].depth[::10, 0], [0, 2])


@pytest.mark.parametrize(
    ("number", "pixels", "farthest", "expected"),
    [
        (32001, 6, 4000, "1.0% of the measured pixels are exactly 32 m (32001 in the file)"),
        (4095, 30, 3600, "5.0% of the measured pixels are exactly 4.095 m (4095 in the file)"),
        (10000, 150, 8000, "25.0% of the measured pixels are exactly 10 m (10000 in the file)"),
        (65534, 150, 8000, "25.0% of the measured pixels are exactly 65.53 m (65534 in the file)"),
        (4095, 30, 4095, None),  # surfaces up to there
        (4095, 3, 3000, None),  # a few pixels
        (8000, 150, 7990, None),  # cut off
    ],
)
def test_another_number_for_no_measurement_is_reported(
    folder: Path, number: int, pixels: int, farthest: int, expected: str | None
) -> None:
    depth = np.linspace(900, farthest, H * W).astype(np.uint16)
    depth[:pixels] = number
    save(folder / "depth" / "b.png", depth.reshape(H, W))
    problems = check_folder(folder).problems
    assert len(problems) == (expected is not None)
    assert all(f"depth/b.png: {expected}" in problem for problem in problems)


def test_saturated_meters_are_reported(folder: Path) -> None:
    depth = np.linspace(1, 7, H * W, dtype=np.float32)
    depth[:60] = 10
    (folder / "depth" / "b.png").unlink()
    save(folder / "depth" / "b.npy", depth.reshape(H, W))
    [problem] = check_folder(folder).problems
    assert "depth/b.npy: 10.0% of the measured pixels are exactly 10 m, and almost" in problem


def masks(folder: Path, names: list[str], low: int) -> None:
    for name in "abc":
        labels = np.full((H, W), 255, np.uint8)
        labels[:10] = low
        save(folder / "labels" / f"{name}.png", labels)
    write_json(folder / "classes.json", {"names": names})


def test_masks_of_0_and_255_are_reported_with_the_entry_that_is_meant(folder: Path) -> None:
    masks(folder, ["background", "object"], low=0)
    [problem] = check_folder(folder).problems
    assert "object never occurs" in problem
    assert problem.endswith('write "ids": [0, 255] into classes.json')
    write_json(folder / "classes.json", {"names": ["background", "object"], "ids": [0, 255]})
    assert check_folder(folder).problems == []
    assert PlainFolder(folder)[0].labels[::10, 0].tolist() == [0, 1]


def test_labels_without_a_class_are_reported(folder: Path) -> None:
    masks(folder, ["background", "object"], low=255)
    [problem] = check_folder(folder).problems
    assert problem.endswith("labels: no pixel is labeled; all ids are 255")
