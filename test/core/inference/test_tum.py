"""TUM's layout: color and depth images with times of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgnet_core.inference.frames import Calibration, open_inputs
from sgnet_core.inference.image_names import InputError
from sgnet_core.inference.tum import associate
from write_files import save, write_json

times = st.lists(st.integers(0, 400), max_size=12, unique=True).map(
    lambda numbers: [n / 200 for n in sorted(numbers)]
)


@given(times, times)
def test_matches_are_near_and_each_time_is_used_once(
    first: list[float], second: list[float]
) -> None:
    pairs = associate(first, second, gap=0.02)
    assert all(abs(first[i] - second[j]) <= 0.02 + 1e-9 for i, j in pairs)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    left = [t for i, t in enumerate(first) if i not in {i for i, _ in pairs}]
    free = [t for j, t in enumerate(second) if j not in {j for _, j in pairs}]
    assert not any(abs(a - b) < 0.0199 for a in left for b in free), "none that fits is left over"


def test_the_nearest_match_wins() -> None:
    assert associate([1.0, 1.015], [1.014]) == [(1, 0)]


def write_tum(folder: Path, lag: float) -> None:
    """Three color images at 100.0, 100.1, 100.2 s; depth k + 1 m, ``lag`` seconds later."""
    lines: dict[str, list[str]] = {"rgb": ["# color images"], "depth": ["# depth maps"]}
    for k in range(3):
        color, depth = f"{100 + k / 10:.6f}", f"{100 + k / 10 + lag:.6f}"
        save(folder / "rgb" / f"{color}.png", np.full((4, 6, 3), k, np.uint8))
        save(folder / "depth" / f"{depth}.png", np.full((4, 6), 5000 * (k + 1), np.uint16))
        lines["rgb"].append(f"{color} rgb/{color}.png")
        lines["depth"].append(f"{depth} depth/{depth}.png")
    for kind, text in lines.items():
        (folder / f"{kind}.txt").write_text("\n".join(text) + "\n")


def test_frames_are_associated_by_time_and_depth_is_in_its_unit(tmp_path: Path) -> None:
    write_tum(tmp_path, lag=0.015)
    [found] = open_inputs([str(tmp_path)], Calibration())
    assert found.count == 3
    for k, unread in enumerate(found.frames):
        frame = unread.read()
        assert unread.name == f"{100 + k / 10:.6f}"
        assert frame.rgb[0, 0, 0] == k
        np.testing.assert_allclose(frame.depth, k + 1, rtol=1e-6)
    [scaled] = open_inputs([str(tmp_path)], Calibration(depth_scale=0.001))
    np.testing.assert_allclose(next(iter(scaled.frames)).read().depth, 5)
    camera = {"width": 6, "height": 4, "fx": 5, "fy": 5, "cx": 3, "cy": 2, "depth_scale": 0.0001}
    write_json(tmp_path / "camera.json", camera)
    [known] = open_inputs([str(tmp_path)], Calibration())
    frame = next(iter(known.frames)).read()
    assert frame.intrinsics is not None and frame.intrinsics.fx == 5
    np.testing.assert_allclose(frame.depth, 0.5, rtol=1e-6)


def test_images_that_are_too_far_apart_are_counted(tmp_path: Path) -> None:
    write_tum(tmp_path, lag=0.05)
    words = r"none of the 3 color and 3 depth images are within 0\.02 s .* are 0\.050 s apart"
    with pytest.raises(InputError, match=words):
        open_inputs([str(tmp_path)], Calibration())
    (tmp_path / "rgb.txt").unlink()
    with pytest.raises(InputError, match=r"none of the 3 color images .* rgb\.txt and depth\.txt"):
        open_inputs([str(tmp_path)], Calibration())


def test_a_line_that_is_none_is_named(tmp_path: Path) -> None:
    write_tum(tmp_path, lag=0.0)
    (tmp_path / "depth.txt").write_text("100.0\n")
    with pytest.raises(InputError, match=r"depth\.txt: '100\.0' is not `timestamp filename`"):
        open_inputs([str(tmp_path)], Calibration())
