"""Whatever a transform does to the image, the 3D points stay where they were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgnet_core.data.sample import Sample
from sgnet_core.data.transforms import Augmentation, crop, flip, recolor, resize
from sgnet_core.geometry.intrinsics import Intrinsics

STEP = 2.0**-10  # meters between the depths of neighboring pixels; exact in float32


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Every pixel has a depth of its own, so that it can be recognized wherever it goes."""
    height, width = draw(st.integers(4, 40)), draw(st.integers(4, 40))
    focal = st.floats(5, 200)
    center = st.floats(-20, 60)
    camera = Intrinsics(draw(focal), draw(focal), draw(center), draw(center), width, height)
    index = np.arange(height * width).reshape(height, width)
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[..., 0] = 5 * np.arange(width)
    rgb[..., 1] = 5 * np.arange(height)[:, None]
    return Sample(
        rgb,
        (1 + index * STEP).astype(np.float32),
        (index % 7).astype(np.uint8),
        camera,
        depth_exact=(2 + index * STEP).astype(np.float32),
        up=np.array((0.6, -0.8, 0), np.float32),
        camera_height=1.2,
    )


def back_projected(sample: Sample) -> np.ndarray:
    """(H, W, 3) meters, from the definition of the camera."""
    v, u = np.indices(sample.depth.shape)
    camera, z = sample.intrinsics, sample.depth.astype(np.float64)
    return np.stack([(u - camera.cx) / camera.fx * z, (v - camera.cy) / camera.fy * z, z], axis=-1)


def assert_same_scene(before: Sample, after: Sample, *, mirrored: bool, pixels: float) -> None:
    """Every pixel of ``after`` shows a pixel of ``before``, at most so many of its pixels off."""
    assert after.rgb.shape == (*after.depth.shape, 3) and after.labels.shape == after.depth.shape
    assert (after.intrinsics.height, after.intrinsics.width) == after.depth.shape
    seen = after.depth > 0
    source = np.rint((after.depth[seen].astype(np.float64) - 1) / STEP).astype(int)
    expected = back_projected(before).reshape(-1, 3)[source]
    points = back_projected(after)[seen]
    if mirrored:
        points[:, 0] *= -1
    camera = before.intrinsics
    reach = pixels * expected[:, 2:] / (camera.fx, camera.fy)
    assert (
        np.abs(points - expected)[:, :2] <= reach + 1e-6 * np.abs(expected).max(initial=0)
    ).all()
    np.testing.assert_array_equal(points[:, 2], expected[:, 2])
    np.testing.assert_array_equal(after.labels[seen], before.labels.reshape(-1)[source])
    assert (after.labels[~seen] == 255).all()


def assert_same_colors(before: Sample, after: Sample) -> None:
    """Color ramps by 5 a pixel in x and y, so that it tells where a pixel comes from."""
    seen = after.depth > 0
    source = np.rint((after.depth[seen].astype(np.float64) - 1) / STEP).astype(int)
    original = before.rgb.reshape(-1, 3)[source].astype(int)
    assert np.abs(after.rgb[seen].astype(int) - original).max(initial=0) <= 5


@settings(max_examples=60)
@given(samples(), st.integers(2, 70), st.integers(2, 70))
def test_resizing_keeps_the_points(sample: Sample, width: int, height: int) -> None:
    result = resize(sample, width, height)
    assert result.depth.shape == (height, width)
    # The nearest pixel's center is up to half a pixel away.
    assert_same_scene(sample, result, mirrored=False, pixels=0.5)
    if width >= sample.rgb.shape[1] and height >= sample.rgb.shape[0]:
        assert_same_colors(sample, result)
    assert result.camera_height == sample.camera_height and result.up is sample.up


@settings(max_examples=60)
@given(
    samples(), st.integers(-45, 45), st.integers(-45, 45), st.integers(1, 50), st.integers(1, 50)
)
def test_cropping_keeps_the_points(
    sample: Sample, left: int, top: int, width: int, height: int
) -> None:
    result = crop(sample, left, top, width, height)
    assert result.depth.shape == (height, width)
    assert_same_scene(sample, result, mirrored=False, pixels=0)
    h, w = sample.depth.shape
    inside = max(0, min(left + width, w) - max(left, 0)) * max(
        0, min(top + height, h) - max(top, 0)
    )
    seen = result.depth > 0
    assert seen.sum() == inside
    assert (result.rgb[~seen] == 127).all()
    assert_same_colors(sample, result)


@settings(max_examples=30)
@given(samples())
def test_flipping_mirrors_the_points(sample: Sample) -> None:
    result = flip(sample)
    assert_same_scene(sample, result, mirrored=True, pixels=0)
    np.testing.assert_array_equal(result.rgb, sample.rgb[:, ::-1])
    np.testing.assert_array_equal(result.up, np.array((-0.6, -0.8, 0), np.float32))
    back = flip(result)
    assert back.intrinsics.cx == pytest.approx(sample.intrinsics.cx)
    np.testing.assert_array_equal(back.depth, sample.depth)
    np.testing.assert_array_equal(back.depth_exact, sample.depth_exact)


@settings(max_examples=60)
@given(samples(), st.integers(4, 50), st.integers(4, 50), st.booleans(), st.integers(0, 2**32 - 1))
def test_a_whole_augmentation_keeps_the_points(
    sample: Sample, height: int, width: int, mirrored: bool, seed: int
) -> None:
    augmentation = Augmentation(scale=(0.5, 2.0), flip=float(mirrored))
    result = augmentation(sample, (height, width), np.random.default_rng(seed))
    assert result.depth.shape == (height, width)
    assert_same_scene(sample, result, mirrored=mirrored, pixels=0.5)
    # The exact depth goes the same way as the measured one: it is 1 m more in these samples.
    seen = result.depth > 0
    np.testing.assert_array_equal(result.depth_exact[seen], result.depth[seen] + 1)
    assert (result.depth_exact[~seen] == 0).all()


def plain_sample(height: int = 48, width: int = 64) -> Sample:
    rng = np.random.default_rng(0)
    return Sample(
        rng.integers(0, 256, (height, width, 3), np.uint8),
        rng.uniform(1, 5, (height, width)).astype(np.float32),
        rng.integers(0, 40, (height, width)).astype(np.uint8),
        Intrinsics.from_fov(width, height, 60),
    )


def test_no_augmentation_changes_nothing() -> None:
    sample = plain_sample()
    result = Augmentation()(sample, (48, 64), np.random.default_rng(1))
    for name in ("rgb", "depth", "labels"):
        np.testing.assert_array_equal(getattr(result, name), getattr(sample, name))
    assert result.intrinsics == sample.intrinsics


def test_scale_is_drawn_between_its_bounds_evenly_in_the_logarithm() -> None:
    sample = plain_sample()
    augmentation = Augmentation(scale=(0.5, 2.0))
    factors = np.array(
        [augmentation(sample, (48, 64), np.random.default_rng(i)).intrinsics.fx for i in range(300)]
    )
    factors /= sample.intrinsics.fx
    assert 0.5 <= factors.min() < 0.55 and 1.85 < factors.max() <= 2.0
    assert abs(np.log(factors).mean()) < 0.1


def test_at_scale_one_the_image_just_covers_the_crop() -> None:
    result = Augmentation()(plain_sample(48, 64), (60, 60), np.random.default_rng(0))
    # 48 rows become 60: no padding, and a crop in x alone.
    assert (result.labels != 255).all()
    assert result.intrinsics.fx == pytest.approx(plain_sample().intrinsics.fx * 60 / 48)


def test_color_and_blur_leave_geometry_and_labels_alone() -> None:
    sample = plain_sample()
    result = Augmentation(color=0.3, blur=1.0)(sample, (48, 64), np.random.default_rng(2))
    assert (result.rgb != sample.rgb).mean() > 0.5
    np.testing.assert_array_equal(result.depth, sample.depth)
    np.testing.assert_array_equal(result.labels, sample.labels)


def test_recoloring_stays_within_its_range() -> None:
    gray = np.full((8, 8, 3), 100, np.uint8)
    # A uniform gray has no contrast or saturation to change: brightness and white balance alone.
    results = np.array([recolor(gray, 0.2, np.random.default_rng(i))[0, 0] for i in range(200)])
    assert results.min() >= 100 * 0.8 * 0.9 * 0.8 - 1 and results.max() <= 100 * 1.2 * 1.1 * 1.2
    assert results.min() < 90 and results.max() > 110


def test_depth_dropout_takes_depth_only() -> None:
    sample = plain_sample()
    whole = Augmentation(depth_dropout=1.0)(sample, (48, 64), np.random.default_rng(0))
    assert not whole.depth.any()
    np.testing.assert_array_equal(whole.rgb, sample.rgb)
    np.testing.assert_array_equal(whole.labels, sample.labels)
    augmentation = Augmentation(depth_dropout=0.5)
    missing = [
        (augmentation(sample, (48, 64), np.random.default_rng(i)).depth == 0).mean()
        for i in range(200)
    ]
    # Half the frames lose everything, a quarter loses a rectangle, a quarter nothing.
    assert 0.4 < np.mean(np.array(missing) == 1) < 0.6
    assert 0.15 < np.mean([0 < m < 1 for m in missing]) < 0.35
    assert (sample.depth > 0).all(), "the sample itself was written to"


def test_the_same_generator_gives_the_same_sample() -> None:
    everything = Augmentation((0.5, 2.0), 0.5, 0.4, 0.5, 0.2)
    a, b = (everything(plain_sample(), (32, 40), np.random.default_rng(7)) for _ in range(2))
    for name in ("rgb", "depth", "labels"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.intrinsics == b.intrinsics


def test_holes_stay_holes_when_the_image_is_resized() -> None:
    sample = plain_sample()
    holed = sample.depth.copy()
    holed[::2] = 0
    sample = replace(sample, depth=holed)
    result = resize(sample, 90, 70).depth
    # No depth in between a hole and a measurement appears.
    assert set(np.unique(result)) <= set(np.unique(holed))


@pytest.mark.parametrize(
    "values",
    [
        {"scale": (0.0, 1.0)},
        {"scale": (2.0, 1.0)},
        {"flip": 1.5},
        {"blur": -0.1},
        {"depth_dropout": 2},
        {"color": 1.0},
    ],
)
def test_values_out_of_range_are_refused(values: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Augmentation(**values)
