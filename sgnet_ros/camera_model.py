"""sensor_msgs/CameraInfo as the intrinsics of one image."""

from __future__ import annotations

from sensor_msgs.msg import CameraInfo

from sgnet_core.camera import Intrinsics


def intrinsics_of(info: CameraInfo, width: int, height: int) -> Intrinsics:
    """The camera of an image of ``width`` x ``height`` pixels that ``info`` was published with.

    K is of the full sensor; where the image is smaller, it is the region of interest, binned.

    Raises:
        ValueError: the camera is uncalibrated (K[0] is 0), K is no pinhole camera, or ``info`` is
            of an image of another size; the text names the remedy.
    """
    if info.k[0] == 0:
        raise ValueError("uncalibrated, K[0] is 0: calibrate the camera or load its calibration")
    full = (info.width or width, info.height or height)  # some drivers leave the size at 0
    camera = Intrinsics.from_matrix(info.k, *full)
    if full == (width, height):
        return camera
    roi = info.roi
    window = (roi.width or full[0], roi.height or full[1])
    binned = (window[0] // max(info.binning_x, 1), window[1] // max(info.binning_y, 1))
    if binned != (width, height):
        raise ValueError(
            f"of a {full[0]}x{full[1]} image, but the image is {width}x{height}: remap "
            "rgb/camera_info to the camera_info published beside this image topic"
        )
    return camera.cropped(roi.x_offset, roi.y_offset, *window).resized(width, height)
