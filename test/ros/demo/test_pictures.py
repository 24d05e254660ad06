"""The demo's pictures: colors of depth, and the sheet with its legend."""

from __future__ import annotations

import numpy as np
import pytest

from sgnet_core.data.images import overlay
from sgnet_core.models.labels import NYU40
from sgnet_ros.demo.pictures import Picture, colorize_depth, contact_sheet


def test_depth_is_colored_from_near_to_far_and_holes_are_black() -> None:
    depth = np.array([[0, 500, 1000, 1100, 2000, 9000]], np.uint16)
    got = colorize_depth(depth, 1000, 2000)
    near, far = (230, 60, 40), (60, 50, 130)
    assert got[0, [0, 1, 2, 4, 5]].tolist() == [[0, 0, 0], [*near], [*near], [*far], [*far]]
    assert got[0, 3].tolist() == [240, 115, 45]  # half way to the second color


@pytest.mark.parametrize("with_truth", [False, True])
def test_a_contact_sheet_shows_the_pictures_and_the_classes_in_them(with_truth: bool) -> None:
    rng = np.random.default_rng(0)
    picture = Picture(
        stamp_ns=0,
        rgb=rng.integers(0, 256, (240, 320, 3), np.uint8),
        depth=np.full((240, 320), 1500, np.uint16),
        labels=np.full((240, 320), 4, np.uint8),
        overlay=rng.integers(0, 256, (240, 320, 3), np.uint8),
        truth=np.full((240, 320), 6, np.uint8) if with_truth else None,
    )
    sheet = contact_sheet([picture, picture], NYU40)
    top = 26  # of the titles
    for row in range(2):
        y = top + row * 246
        np.testing.assert_array_equal(sheet[y : y + 240, 6:326], picture.rgb)
        np.testing.assert_array_equal(sheet[y : y + 240, 658:978], picture.overlay)
        if picture.truth is not None:
            drawn = overlay(picture.rgb, picture.truth, NYU40, 0.6)
            np.testing.assert_array_equal(sheet[y : y + 240, 984:1304], drawn)
    legend = {tuple(c) for c in sheet[top + 2 * 246 :].reshape(-1, 3)}
    assert NYU40.colors[4] in legend
    assert (NYU40.colors[6] in legend) == with_truth
    assert NYU40.colors[1] not in legend
