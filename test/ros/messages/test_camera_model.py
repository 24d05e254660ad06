from __future__ import annotations

import pytest
from sensor_msgs.msg import CameraInfo, RegionOfInterest

from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.geometry.lens import Camera, Lens
from sgnet_ros.messages.camera_model import camera_of, intrinsics_of, is_rectified, same_pinhole


def info(width: int = 640, height: int = 480, **fields: object) -> CameraInfo:
    k = [500.0, 0.0, 320.5, 0.0, 510.0, 239.5, 0.0, 0.0, 1.0]
    return CameraInfo(width=width, height=height, k=k, **fields)


def test_k_is_the_camera_of_the_full_image() -> None:
    expected = Intrinsics(500, 510, 320.5, 239.5, 640, 480)
    assert intrinsics_of(info(), 640, 480) == expected
    assert intrinsics_of(info(0, 0), 640, 480) == expected, "a driver that leaves the size at 0"


def test_binning_halves_the_image_and_keeps_its_edges() -> None:
    binned = intrinsics_of(info(binning_x=2, binning_y=2), 320, 240)
    assert binned == Intrinsics(250, 255, 160, 119.5, 320, 240)


def test_a_region_of_interest_moves_the_principal_point() -> None:
    roi = RegionOfInterest(x_offset=100, y_offset=50, width=400, height=300)
    assert intrinsics_of(info(roi=roi), 400, 300) == Intrinsics(500, 510, 220.5, 189.5, 400, 300)
    binned = intrinsics_of(info(roi=roi, binning_x=4, binning_y=2), 100, 150)
    assert binned == Intrinsics(125, 255, 221 / 4 - 0.5, 190 / 2 - 0.5, 100, 150)


def test_an_uncalibrated_camera_is_refused() -> None:
    with pytest.raises(ValueError, match=r"K\[0\] is 0.*calibrate"):
        intrinsics_of(CameraInfo(width=640, height=480), 640, 480)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -500.0])
def test_an_impossible_focal_length_is_refused(value: float) -> None:
    broken = info()
    broken.k[0] = value
    with pytest.raises(ValueError, match="focal lengths must be positive and finite"):
        intrinsics_of(broken, 640, 480)


def test_the_camera_info_of_another_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"640x480 image, but the image is 848x480.*remap"):
        intrinsics_of(info(), 848, 480)


def test_p_without_k_is_used_only_for_rectified_images() -> None:
    """Accept K = 0 and a valid P, as the OAK driver sends them beside image_rect."""
    message = CameraInfo(width=640, height=480, p=P)
    expected = Intrinsics(480, 490, 310.5, 230.5, 640, 480)
    assert intrinsics_of(message, 640, 480, rectified=True) == expected
    with pytest.raises(ValueError, match=r"K\[0\] is 0, and P applies to rectified images only"):
        intrinsics_of(message, 640, 480)


D = [-0.28, 0.09, 0.002, -0.001, 0.01]
P = [480.0, 0.0, 310.5, 0.0, 0.0, 490.0, 230.5, 0.0, 0.0, 0.0, 1.0, 0.0]


def test_a_raw_image_has_the_lens() -> None:
    pinhole = Intrinsics(500, 510, 320.5, 239.5, 640, 480)
    raw = camera_of(info(d=D, distortion_model="plumb_bob", p=P), 640, 480)
    assert raw == Camera(pinhole, Lens("plumb_bob", tuple(D)))
    fisheye = camera_of(info(d=D[:4], distortion_model="equidistant"), 640, 480)
    assert fisheye.lens == Lens("equidistant", tuple(D[:4]))
    assert not camera_of(info(), 640, 480).lens.distorts
    with pytest.raises(ValueError, match=r"'my_own' is not one of.*rectified"):
        camera_of(info(d=D, distortion_model="my_own"), 640, 480)


def test_a_rectified_images_camera_is_p() -> None:
    rectified = camera_of(info(d=D, distortion_model="plumb_bob", p=P), 640, 480, rectified=True)
    assert rectified == Camera(Intrinsics(480, 490, 310.5, 230.5, 640, 480))
    binned = info(d=D, p=P, binning_x=2, binning_y=2)
    assert intrinsics_of(binned, 320, 240, True) == Intrinsics(240, 245, 155, 115, 320, 240)
    without_p = camera_of(info(d=D), 640, 480, rectified=True)
    assert without_p == Camera(Intrinsics(500, 510, 320.5, 239.5, 640, 480))


@pytest.mark.parametrize(
    ("topic", "rectified"),
    [
        ("/cam/image_rect", True),
        ("/cam/image_rect_color", True),
        ("/cam/depth/image_rect_raw/compressedDepth", True),
        ("/cam/image_rect/compressed", True),
        ("/cam/image_raw", False),
        ("/rectifier/image_raw/compressed", False),
    ],
)
def test_rectified_topics_are_known_by_name(topic: str, rectified: bool) -> None:
    assert is_rectified(topic) == rectified


def test_cameras_are_the_same_to_half_a_pixel() -> None:
    camera = Intrinsics(500, 510, 320.5, 239.5, 640, 480)
    assert same_pinhole(camera, Intrinsics(500.3, 510.3, 320.6, 239.4, 640, 480))
    assert not same_pinhole(camera, Intrinsics(500, 510, 321.1, 239.5, 640, 480))
    assert not same_pinhole(camera, Intrinsics(503, 510, 320.5, 239.5, 640, 480))
    assert not same_pinhole(camera, Intrinsics(500, 510, 320.5, 239.5, 640, 481))
