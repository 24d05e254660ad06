from __future__ import annotations

import pytest
from sensor_msgs.msg import CameraInfo, RegionOfInterest

from sgnet_core.camera import Intrinsics
from sgnet_ros.camera_model import intrinsics_of


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
