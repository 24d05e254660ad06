"""Camera models of images from sensor_msgs/CameraInfo, and such messages of pinhole cameras."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.geometry.lens import Camera, Lens

if TYPE_CHECKING:  # reading accepts any object with the message's fields, and needs no ROS
    from sensor_msgs.msg import CameraInfo
    from std_msgs.msg import Header


def is_rectified(image_topic: str) -> bool:
    """Return whether a topic's name has the word "rect" or "rectified", as image_pipeline's have.

    ``image_rect_color`` and ``/rect/image`` have it, ``/direct/image`` and ``/corrected`` do not.
    """
    return not {"rect", "rectified"}.isdisjoint(re.split("[/_]", image_topic))


def camera_of(info: CameraInfo, width: int, height: int, rectified: bool = False) -> Camera:
    """Return the camera of a ``width`` x ``height`` image that came with ``info``.

    A rectified image has the matrix P and no distortion; any other image has K and the distortion
    model (REP 104).

    Raises:
        ValueError: the distortion model is unknown, or for the reasons of `intrinsics_of`; the
            message names the remedy.
    """
    if rectified:
        return Camera(intrinsics_of(info, width, height, rectified=True))
    lens = Lens(info.distortion_model, tuple(float(d) for d in _field(info, "d")))
    return Camera(intrinsics_of(info, width, height), lens)


def intrinsics_of(info: CameraInfo, width: int, height: int, rectified: bool = False) -> Intrinsics:
    """Return the pinhole camera of a ``width`` x ``height`` image that came with ``info``.

    K, or P for a rectified image, describes the full sensor (REP 104). A smaller image shows the
    region of interest, binned.

    Raises:
        ValueError: the camera is uncalibrated (K[0] is 0, and for a rectified image P[0], too), K
            is not the matrix of a pinhole camera, or ``info`` describes an image of another size;
            the message names the remedy.
    """
    k = _field(info, "k")
    p = np.reshape(_field(info, "p"), (3, 4))
    by_p = rectified and bool(p[0, 0])
    if k[0] == 0 and not by_p:
        reason = ", and P applies to rectified images only" if p[0, 0] else ""
        raise ValueError(
            f"uncalibrated, K[0] is 0{reason}: calibrate the camera or load its calibration"
        )
    full = (info.width or width, info.height or height)  # some drivers leave the size at 0
    camera = Intrinsics.from_matrix(p[:, :3] if by_p else k, *full)
    if full == (width, height):
        return camera
    roi = info.roi
    window = (roi.width or full[0], roi.height or full[1])
    binned = (window[0] // max(info.binning_x, 1), window[1] // max(info.binning_y, 1))
    if binned != (width, height):
        raise ValueError(
            f"describes a {full[0]}x{full[1]} image, but the image is {width}x{height}: remap "
            "rgb/camera_info to the camera_info published beside this image topic"
        )
    return camera.cropped(roi.x_offset, roi.y_offset, *window).resized(width, height)


def is_calibrated(info: CameraInfo) -> bool:
    """Return whether K or P has a focal length; drivers without a calibration leave both 0."""
    return bool(_field(info, "k")[0] or _field(info, "p")[0])


def same_pinhole(a: Intrinsics, b: Intrinsics) -> bool:
    """Return whether two cameras show the same image, to half a pixel."""
    if (a.width, a.height) != (b.width, b.height):
        return False
    corners = np.array([[0, 0, 1], [a.width - 1, a.height - 1, 1]], np.float64)
    moved = corners @ np.linalg.inv(a.matrix()).T @ b.matrix().T
    return bool(np.abs(moved - corners).max() < 0.5)


def _field(info: Any, name: str) -> Any:
    """Return K, D or P, which ROS 1 spells in upper case."""
    return getattr(info, name) if hasattr(info, name) else getattr(info, name.upper())


def info_message(camera: Intrinsics, header: Header) -> CameraInfo:
    """Return the CameraInfo of a pinhole camera without distortion."""
    from sensor_msgs.msg import CameraInfo

    fx, fy, cx, cy = (float(f) for f in (camera.fx, camera.fy, camera.cx, camera.cy))
    return CameraInfo(
        header=header,
        width=camera.width,
        height=camera.height,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=[fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )
