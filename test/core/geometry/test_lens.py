"""Lenses bend rays as OpenCV does, and rays come back from pixels."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.geometry.lens import Camera, Lens

PINHOLE = Intrinsics(95.0, 97.0, 60.5, 44.0, 121, 90)
LENSES = {
    "plumb_bob": Lens("plumb_bob", (-0.28, 0.09, 0.002, -0.001, -0.015)),
    "rational_polynomial": Lens(
        "rational_polynomial", (0.6, -2.6, 0.0008, -0.0003, 1.5, 0.49, -2.4, 1.4)
    ),
    "equidistant": Lens("equidistant", (-0.02, 0.01, -0.004, 0.0007)),
}


def opencv_pixels(camera: Camera, points: np.ndarray) -> np.ndarray:
    """(N, 3) points → (N, 2) pixels."""
    zero, d = np.zeros(3), np.array(camera.lens.coefficients)
    if camera.lens.model == "equidistant":
        pixels, _ = cv2.fisheye.projectPoints(
            points[:, None], zero[:, None], zero[:, None], camera.pinhole.matrix(), d[:, None]
        )
    else:
        pixels, _ = cv2.projectPoints(points[:, None], zero, zero, camera.pinhole.matrix(), d)
    return pixels[:, 0]


@pytest.mark.parametrize("name", LENSES)
def test_projection_is_opencvs(name: str) -> None:
    camera = Camera(PINHOLE, LENSES[name])
    rng = np.random.default_rng(0)
    points = np.stack([rng.uniform(-0.9, 0.9, 500), rng.uniform(-0.6, 0.6, 500), np.ones(500)], 1)
    points *= rng.uniform(0.4, 5, (500, 1))
    u, v = camera.project(torch.from_numpy(points.T))
    expected = opencv_pixels(camera, points)
    np.testing.assert_allclose(np.stack([u, v], 1), expected, atol=1e-9)
    pinhole = Camera(PINHOLE).project(torch.from_numpy(points.T))
    assert np.abs(np.stack(pinhole, 1) - expected).max() > 1.5, "the lens does nothing"


@pytest.mark.parametrize("name", LENSES)
def test_every_pixels_ray_leads_back_to_it(name: str) -> None:
    camera = Camera(PINHOLE, LENSES[name])
    rays = camera.rays().numpy()
    assert rays.shape == (2, 90, 121)
    points = np.concatenate([rays, np.ones((1, 90, 121))]).reshape(3, -1).T
    v, u = np.mgrid[:90, :121]
    np.testing.assert_allclose(
        opencv_pixels(camera, points), np.stack([u.ravel(), v.ravel()], 1), atol=1e-4
    )
    corners = camera.corner_rays()
    assert corners.shape == (2, 91, 122)
    back = camera.project(torch.cat((corners, torch.ones_like(corners[:1]))))
    assert back[0][3, 5].item() == pytest.approx(4.5, abs=1e-4)
    assert back[1][3, 5].item() == pytest.approx(2.5, abs=1e-4)


@settings(max_examples=40)
@given(
    st.tuples(
        st.floats(-0.4, 0.4),
        st.floats(-0.2, 0.2),
        st.floats(-0.01, 0.01),
        st.floats(-0.01, 0.01),
        st.floats(-0.1, 0.1),
    )
)
def test_any_lens_has_the_right_ray_or_none(coefficients: tuple[float, ...]) -> None:
    camera = Camera(PINHOLE, Lens("plumb_bob", coefficients))
    rays = camera.rays()
    u, v = camera.project(torch.cat((rays, torch.ones_like(rays[:1]))))
    expected_v, expected_u = np.mgrid[:90, :121]
    has_ray = rays.isfinite().all(0).numpy()
    assert has_ray[30:60, 45:75].all(), "the middle of the image is always there"
    np.testing.assert_allclose(u.numpy()[has_ray], expected_u[has_ray], atol=1e-3)
    np.testing.assert_allclose(v.numpy()[has_ray], expected_v[has_ray], atol=1e-3)


def test_rays_beyond_the_lens_do_not_fold_back_into_the_image() -> None:
    """With k1 = -0.3 the distorted radius grows up to r = 1.05 only."""
    camera = Camera(PINHOLE, Lens("plumb_bob", (-0.3,)))
    limit = 1 / math.sqrt(0.9)
    inside = camera.project(torch.tensor([limit - 0.01, 0.0, 1.0]))
    outside = camera.project(torch.tensor([limit + 0.01, 0.0, 1.0]))
    assert inside[0].isfinite()
    assert outside[0].isnan()
    far = limit * 1.732  # where the polynomial is back at the optical axis
    assert far * (1 - 0.3 * far**2) == pytest.approx(0, abs=1e-3)
    assert camera.project(torch.tensor([far, 0.0, 1.0]))[0].isnan()
    wide = Camera(Intrinsics(20.0, 20.0, 60.0, 45.0, 121, 90), camera.lens)
    assert wide.rays()[:, 45, 0].isnan().all(), "no ray leads there"
    assert wide.bend_px() == math.inf


def test_behind_the_camera_there_is_no_pixel() -> None:
    for lens in (Lens(), LENSES["equidistant"]):
        u, v = Camera(PINHOLE, lens).project(torch.tensor([[0.1, 0.1], [0.0, 0.0], [-1.0, 0.0]]))
        assert u.isnan().all() and v.isnan().all()


def test_a_lens_without_coefficients_is_a_pinhole() -> None:
    for lens in (Lens(), Lens("plumb_bob", (0.0,) * 5), Lens("", ()), Lens("none", (0.0,))):
        assert not lens.distorts
        camera = Camera(PINHOLE, lens)
        rays = camera.rays()
        assert rays[0, 7, 20].item() == (20 - 60.5) / 95
        assert rays[1, 7, 20].item() == (7 - 44.0) / 97
        assert camera.bend_px() == 0


def test_how_far_a_lens_bends_is_in_pixels() -> None:
    """The corner (0, 0): r² = 0.6368² + 0.4536², and half a percent of it at k1 = 0.01."""
    x, y = -60.5 / 95, -44 / 97
    camera = Camera(PINHOLE, Lens("plumb_bob", (0.001,)))
    shift = 0.001 * (x * x + y * y)
    assert camera.bend_px() == pytest.approx(shift * math.hypot(60.5, 45), rel=0.06)


@pytest.mark.parametrize(
    ("model", "coefficients", "words"),
    [
        ("thin_prism", (0.1,), "'thin_prism' is not one of plumb_bob.*rectified"),
        ("plumb_bob", (0.1, 0, 0, 0, 0, 0.3), "plumb_bob has 5 coefficients, got 6.*rectified"),
        ("equidistant", (math.nan,), "must be finite"),
    ],
)
def test_what_is_no_lens_is_refused(model: str, coefficients: tuple, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Lens(model, coefficients)


@settings(max_examples=60)
@given(
    st.sampled_from(["plumb_bob", "rational_polynomial", "equidistant"]),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=4),
)
def test_absurd_coefficients_give_true_rays_or_none(model: str, coefficients: list[float]) -> None:
    camera = Camera(Intrinsics(20.0, 20.0, 8.0, 6.0, 17, 13), Lens(model, tuple(coefficients)))
    rays = camera.rays()
    u, v = camera.project(torch.cat((rays, torch.ones_like(rays[:1]))))
    expected_v, expected_u = np.mgrid[:13, :17]
    has_ray = rays.isfinite().all(0).numpy()
    np.testing.assert_allclose(u.numpy()[has_ray], expected_u[has_ray], atol=1e-3)
    np.testing.assert_allclose(v.numpy()[has_ray], expected_v[has_ray], atol=1e-3)
    assert camera.bend_px() >= 0
