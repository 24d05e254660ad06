"""File names tell color from depth images and which of them belong together."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgnet_core.inference.image_names import DepthFinder, InputError, image_key, kind_of


@pytest.mark.parametrize(
    ("color", "depth", "key"),
    [
        ("7.rgb.jpg", "7.depth.png", "7"),
        ("0001-color.png", "0001-depth.png", "0001"),
        ("rgb/0001.jpg", "depth/0001.png", "0001"),
        ("color/a_12.png", "aligned_depth/a_12.npy", "a_12"),
        ("RGB_3.PNG", "Depth_3.PNG", "3"),
        ("depth_test/7.rgb.png", "depth_test/7.depth.png", "7"),
        ("color/5.png", "aligned_depth_to_color/5.png", "5"),
        ("image/5.png", "depth/5.png", "5"),
        ("plain.jpg", "plain_depth.tiff", "plain"),
    ],
)
def test_the_depth_image_of_a_color_image_is_found(
    tmp_path: Path, color: str, depth: str, key: str
) -> None:
    for name in (color, depth, "other.rgb.png", "other.depth.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert (kind_of(tmp_path / color), kind_of(tmp_path / depth)) == ("color", "depth")
    assert image_key(tmp_path / color) == image_key(tmp_path / depth) == key
    assert DepthFinder().find(tmp_path / color) == (tmp_path / depth)


@pytest.mark.parametrize(
    "name", ["0001-label.png", "labels/0001.png", "notes.txt", ".hidden.png", "K.txt"]
)
def test_labels_and_other_files_are_neither(tmp_path: Path, name: str) -> None:
    assert kind_of(tmp_path / name) == "other"


def test_a_frame_without_depth_has_none_and_one_with_two_is_refused(tmp_path: Path) -> None:
    (tmp_path / "depth").touch()  # a file, not a folder
    for name in ("1.rgb.png", "2.rgb.png", "2.depth.png", "2.depth.npy"):
        (tmp_path / name).touch()
    finder = DepthFinder()
    assert finder.find(tmp_path / "1.rgb.png") is None
    with pytest.raises(InputError, match=r"2\.rgb\.png has several depth images") as error:
        finder.find(tmp_path / "2.rgb.png")
    assert "2.depth.npy" in str(error.value)
