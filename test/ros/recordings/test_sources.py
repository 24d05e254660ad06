"""Folders and rooms as RGB-D frames; depth registered to color."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_ros.recordings.errors import SourceError
from sgnet_ros.recordings.frames import CameraFrame, in_millimeters
from sgnet_ros.recordings.sources import open_source

K = [[50.0, 0, 8.5], [0, 52.0, 6.0], [0, 0, 1]]
LAYOUTS = {
    "kinect": ("{}.rgb.png", "{}.depth.png", None),
    "ycb": ("{}-color.png", "{}-depth.png", "{}-label.png"),
    "plain": ("rgb/{}.png", "depth/{}.png", "labels/{}.png"),
}


def picture(seed: int, *shape: int, dtype: str = "u1") -> npt.NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


def make_folder(folder: Path, layout: str, count: int = 3) -> Path:
    """Frames of 18x12, depth in units of 0.1 mm except in the Kinect layout."""
    for sub in ("rgb", "depth", "labels"):
        (folder / sub).mkdir(parents=True)
    for i in range(count):
        images = (
            picture(i, 12, 18, 3),
            picture(100 + i, 12, 18, dtype="u2") * 300,
            picture(200 + i, 12, 18),
        )
        for name, image in zip(LAYOUTS[layout], images, strict=True):
            if name:
                Image.fromarray(image).save(folder / name.format(f"{i:06d}"))
    if layout == "kinect":
        np.savetxt(folder / "K.txt", np.array(K))
    else:
        settings = {"K": K, "depth_scale": 1e-4, "label_set": "made-up"}
        (folder / "camera.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_exact_frames(tmp_path: Path, layout: str) -> None:
    source = open_source(str(make_folder(tmp_path / "data", layout)))
    frames = list(source)
    assert len(frames) == source.count == 3
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.rgb, picture(i, 12, 18, 3))
        raw = picture(100 + i, 12, 18, dtype="u2") * 300
        expected = raw if layout == "kinect" else raw // 10  # multiples of 300: no rounding
        np.testing.assert_array_equal(frame.depth, expected)
        assert frame.intrinsics == Intrinsics(50, 52, 8.5, 6, 18, 12)
        if layout == "kinect":
            assert frame.labels is None
        else:
            np.testing.assert_array_equal(frame.labels, picture(200 + i, 12, 18))
    assert source.label_set == (None if layout == "kinect" else "made-up")
    assert len(list(source)) == 3  # again from the start


def test_resizing_adapts_intrinsics_and_does_not_mix_labels_or_depth(tmp_path: Path) -> None:
    path = str(make_folder(tmp_path / "data", "ycb", 1))
    (full,) = open_source(path)
    (half,) = open_source(path, (9, 6))
    assert half.intrinsics == full.intrinsics.resized(9, 6)
    assert half.rgb.shape == (6, 9, 3)
    # centers of the half-size pixels lie between two old ones: the later one is taken
    np.testing.assert_array_equal(half.depth, full.depth[1::2, 1::2])
    assert full.labels is not None
    np.testing.assert_array_equal(half.labels, full.labels[1::2, 1::2])
    block = full.rgb.reshape(6, 2, 9, 2, 3).mean((1, 3))
    assert np.abs(half.rgb.mean() - block.mean()) < 1
    assert half.rgb.std() < full.rgb.std() * 0.8  # averaged, not sampled

    (odd,) = open_source(path, (7, 5))
    columns = [int((i + 0.5) * 18 / 7) for i in range(7)]
    np.testing.assert_array_equal(odd.depth[2], full.depth[6][columns])


def test_meters_become_millimeters() -> None:
    # 65535 is how drivers mark that there is no measurement
    meters = np.array([0, 0.0004, 0.0006, 1.2345678, 65.535, 65.536, -1, np.nan, np.inf, -np.inf])
    expected = [0, 0, 1, 1235, 0, 0, 0, 0, 0, 0]
    np.testing.assert_array_equal(in_millimeters(meters), expected)


def test_errors_name_the_file_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere does not exist; give `rooms`"):
        open_source(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"empty holds no frames; expected .*K\.txt"):
        open_source(str(tmp_path / "empty"))
    (tmp_path / "video.avi").touch()
    with pytest.raises(SourceError, match=r"video\.avi is neither a folder nor a bag"):
        open_source(str(tmp_path / "video.avi"))

    folder = make_folder(tmp_path / "data", "ycb")
    (folder / "000001-depth.png").unlink()
    frames = iter(open_source(str(folder)))
    next(frames)
    with pytest.raises(SourceError, match=r"000001-depth\.png does not exist; restore it"):
        next(frames)
    picture_bytes = (folder / "000000-color.png").read_bytes()
    (folder / "000000-color.png").write_bytes(picture_bytes[:100])
    with pytest.raises(SourceError, match=r"000000-color\.png"):
        next(iter(open_source(str(folder))))
    Image.fromarray(picture(0, 12, 17, dtype="u2")).save(folder / "000002-depth.png")
    with pytest.raises(SourceError, match=r"000002-depth\.png is 17x12, .* 18x12: register"):
        list(islice(open_source(str(make_partly(folder))), 3))

    (folder / "camera.json").write_text(json.dumps({"K": K, "label_set": "nyu40"}))
    Image.fromarray(picture(0, 12, 18, dtype="u2")).save(folder / "000002-depth.png")
    with pytest.raises(SourceError, match=r"000002-label\.png has ids that are not in .* nyu40"):
        next(iter(open_source(str(folder))))

    (folder / "camera.json").write_text('{"K": [1, 2]}')
    with pytest.raises(SourceError, match=r"camera\.json does not contain a 3x3 camera matrix"):
        open_source(str(folder))
    (folder / "camera.json").write_text('{"K": [0, 0, 1, 0, 0, 1, 0, 0, 1]}')
    with pytest.raises(SourceError, match=r"camera\.json .*focal"):
        open_source(str(folder))
    (folder / "camera.json").unlink()
    with pytest.raises(SourceError, match=r"camera\.json is missing"):
        open_source(str(folder))


def make_partly(folder: Path) -> Path:
    """Leaves only frame 2 of a folder in the YCB layout."""
    for path in folder.glob("00000[01]-*"):
        path.unlink()
    return folder


def test_rooms_are_labeled_and_reproducible() -> None:
    source = open_source("rooms", (96, 64), rate_hz=5)
    assert source.count is None and source.label_set == "nyu40"
    frames = list(islice(source, 3))
    for frame in frames:
        assert frame.rgb.shape == (64, 96, 3)
        assert (frame.intrinsics.width, frame.intrinsics.height) == (96, 64)
        assert frame.labels is not None
        assert set(np.unique(frame.labels)) <= {*range(40), 255}
        assert 0.3 < np.median(frame.depth[frame.depth > 0]) / 1000 < 10
    np.testing.assert_array_equal(next(iter(source)).rgb, frames[0].rgb)
    assert (frames[0].rgb != frames[1].rgb).any()  # the camera moves


def test_a_frame_without_labels_stays_without() -> None:
    frame = CameraFrame(
        picture(0, 12, 18, 3),
        picture(1, 12, 18, dtype="u2"),
        None,
        Intrinsics(50, 50, 8.5, 5.5, 18, 12),
    )
    assert frame.resized((9, 6)).labels is None
