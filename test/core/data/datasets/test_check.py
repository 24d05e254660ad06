"""`prepare check`: every mistake is found and named, and a sound folder passes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sgnet_core.data.datasets.check import check_folder
from sgnet_core.data.datasets.folder import PlainFolder
from sgnet_core.prepare import main
from write_files import save, write_json

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


def millimeters_as_meters(f: Path) -> None:
    write_json(f / "camera.json", {**CAMERA, "depth_scale": 1})


def float_millimeters(f: Path) -> None:
    (f / "depth" / "b.png").unlink()
    save(f / "depth" / "b.npy", np.full((H, W), 2500.0, np.float32))


def meters_as_integers(f: Path) -> None:
    save(f / "depth" / "b.png", np.full((H, W), 3, np.uint16))


def eight_bits_in_sixteen(f: Path) -> None:
    depth = np.linspace(100, 255, H * W).reshape(H, W).astype(np.uint16)
    save(f / "depth" / "b.png", depth)


def eight_bits(f: Path) -> None:
    save(f / "depth" / "b.png", np.full((H, W), 100, np.uint8))


def no_depth_at_all(f: Path) -> None:
    save(f / "depth" / "b.png", np.zeros((H, W), np.uint16))


def smaller_depth(f: Path) -> None:
    save(f / "depth" / "b.png", np.full((H // 2, W // 2), 2000, np.uint16))


def larger_labels(f: Path) -> None:
    save(f / "labels" / "b.png", np.zeros((H + 1, W), np.uint8))


def camera_of_another_size(f: Path) -> None:
    write_json(f / "cameras" / "b.json", {**CAMERA, "width": 640, "height": 480})


def strange_ids(f: Path) -> None:
    labels = np.zeros((H, W), np.uint8)
    labels[0, :7] = 3
    labels[1, :2] = 90
    save(f / "labels" / "b.png", labels)


def no_intrinsics(f: Path) -> None:
    (f / "camera.json").rename(f / "cameras.json")


def broken_camera(f: Path) -> None:
    write_json(f / "camera.json", {**CAMERA, "fx": -1})


def broken_classes(f: Path) -> None:
    (f / "classes.json").write_text("[1]")


def missing_depth(f: Path) -> None:
    (f / "depth" / "b.png").unlink()


def missing_labels(f: Path) -> None:
    (f / "labels" / "b.png").unlink()


def truncated(f: Path) -> None:
    path = f / "rgb" / "b.png"
    path.write_bytes(path.read_bytes()[:60])


def orphan(f: Path) -> None:
    (f / "rgb" / "b.png").unlink()


def depth_twice(f: Path) -> None:
    save(f / "depth" / "b.npy", np.full((H, W), 2.0))


def empty_split(f: Path) -> None:
    (f / "splits" / "val.txt").write_text("\n")


def split_of_nothing(f: Path) -> None:
    (f / "splits" / "val.txt").write_text("c\nd\n")


def overlapping_splits(f: Path) -> None:
    (f / "splits" / "val.txt").write_text("b\nc\nc\n")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (
            millimeters_as_meters,
            [
                rf"depth/{name}.png: the median depth is 3000 m.*depth_scale 0.001 .* be 3 m"
                for name in "abc"
            ],
        ),
        (float_millimeters, [r"depth/b.npy: the median depth is 2500 m.*0.001 it would be 2.5 m"]),
        (meters_as_integers, [r"depth/b.png: the median depth is 0.003 m.*depth_scale 1 .*be 3 m"]),
        (eight_bits_in_sixteen, [r"depth/b.png: no value is above 255: is it an 8-bit"]),
        (eight_bits, [r"depth/b.png.*8-bit"]),
        (no_depth_at_all, [r"depth/b.png: no pixel has a depth"]),
        (smaller_depth, [r"depth/b.png: is 15x10, but .*rgb/b.png is 30x20"]),
        (larger_labels, [r"labels/b.png: is 30x21, but .*rgb/b.png is 30x20"]),
        (camera_of_another_size, [r"cameras/b.json: is 640x480, but .*rgb/b.png is 30x20"]),
        (strange_ids, [r"labels/b.png: .*not in classes.json: 3 \(7 .*, 90 \(2 pixels\)"]),
        (no_intrinsics, [rf"no intrinsics for {name}: .*camera.json" for name in "abc"]),
        (broken_camera, [r"camera.json: focal lengths"]),
        (broken_classes, [r"classes.json must hold"]),
        (missing_depth, [r"depth/b\(.png\|.npy\) does not exist"]),
        (missing_labels, [r"labels/b.png does not exist"]),
        (truncated, [r"rgb/b.png"]),
        (
            orphan,
            [
                r"depth/b.png: there is no color image of that name",
                r"labels/b.png: there is no color image of that name",
                r"splits/train.txt: names b, which is not in rgb/",
            ],
        ),
        (depth_twice, [r"depth/b.npy and b.png are the same frame: keep one"]),
        (empty_split, [r"splits/val.txt is empty"]),
        (split_of_nothing, [r"splits/val.txt: names d, which is not in rgb/"]),
        (
            overlapping_splits,
            [r"splits/val.txt: names b, and so does train.txt", r"val.txt: names c 2 times"],
        ),
    ],
)
def test_a_mistake_is_found_and_nothing_else(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    expected: list[str],
) -> None:
    damage(folder)
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
    strange_ids(folder)
    missing_depth(folder)
    empty_split(folder)
    assert len(check_folder(folder).problems) == 3


@pytest.mark.parametrize(
    ("made", "named", "problem"),
    [
        ([], "nowhere", "does not exist"),
        (["notes/"], "", "has no folder rgb: docs/data.md describes the layout"),
        (
            ["train.txt", "train/rgb/"],
            "",
            "is ESANet's NYUv2; only plain folders are checked",
        ),
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
