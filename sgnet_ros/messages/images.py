"""sensor_msgs/Image as NumPy arrays, and back.

Arrays are views of the message's buffer, including row padding. A copy is made only if the layout
requires it, and is counted.
"""

from __future__ import annotations

import functools
import importlib
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # reading accepts any object with the message's fields, and needs no ROS
    from sensor_msgs.msg import Image
    from std_msgs.msg import Header

ImageArray = npt.NDArray[Any]

# Bytes per pixel, and which of them are red, green and blue. "8UC3" names no order; OpenCV's, as
# in RViz, is blue first, and cv_bridge's "passthrough" writes OpenCV images under that name.
_COLOR_LAYOUTS = {
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "8UC3": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
    "mono8": (1, (0, 0, 0)),
    "8UC1": (1, (0, 0, 0)),
}
# Encodings that OpenCV converts: bytes per pixel, buffer rows per image row, conversion code. ROS
# names a mosaic by its first four pixels, OpenCV by the second and third pixel of the second row.
_CONVERSIONS = {
    "bayer_rggb8": (1, 1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (1, 1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (1, 1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (1, 1, cv2.COLOR_BayerGB2RGB),
    "yuv422": (2, 1, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (2, 1, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, 1, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": (2, 1, cv2.COLOR_YUV2RGB_YUY2),
    "nv12": (1, 1.5, cv2.COLOR_YUV2RGB_NV12),
    "nv21": (1, 1.5, cv2.COLOR_YUV2RGB_NV21),
}
_DEPTH_TYPES = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}

GRAY_ENCODINGS = ("mono8", "8UC1")
COLOR_ENCODINGS = (*_COLOR_LAYOUTS, *_CONVERSIONS)
"""Encodings that `rgb_view` reads without cv_bridge; `GRAY_ENCODINGS` are among them."""
DEPTH_ENCODINGS = tuple(_DEPTH_TYPES)
"""Encodings that `depth_view` reads."""

_OUTPUT_ENCODINGS = {("u1", 2): "mono8", ("u1", 3): "rgb8", ("u2", 2): "16UC1", ("f4", 2): "32FC1"}


class ImageError(ValueError):
    """An image message that cannot be read; the text begins with the name of the invalid field."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class ImageView(NamedTuple):
    """Pixels of an image, and the number of copies that were made (0 to 2)."""

    array: ImageArray
    copies: int


def rgb_view(message: Image) -> ImageView:
    """Return a color image as (H, W, 3) uint8 RGB, 0..255.

    rgb8, rgba8, mono8 and 8UC1 become views (rows may be padded, gray has stride 0 over channels).
    bgr8, bgra8, 8UC3 (blue first), 8-bit Bayer mosaics and YUV (yuv422, uyvy, yuv422_yuy2, yuyv,
    nv12, nv21) cost one copy. Other encodings, such as those of 16 bits, are converted by cv_bridge
    if it is installed, and cost two.

    Raises:
        ImageError: unknown encoding, empty image, step too small, or too little data.
    """
    if message.encoding in _CONVERSIONS:
        return _through_opencv(message)
    layout = _COLOR_LAYOUTS.get(message.encoding)
    if layout is None:
        return _through_cv_bridge(message)
    channels, order = layout
    pixels = _pixels(message, np.dtype(np.uint8), channels)
    if order == (0, 1, 2):
        return ImageView(pixels[:, :, :3], 0)
    if channels == 1:
        # as_strided's shape check is broadcast_to's, but the view stays writable, as torch wants.
        repeated = (message.height, message.width, 3)
        strides = (pixels.strides[0], pixels.strides[1], 0)
        return ImageView(np.lib.stride_tricks.as_strided(pixels, repeated, strides), 0)
    rgb = np.empty((message.height, message.width, 3), np.uint8)
    for target, source in enumerate(order):  # plane by plane: 4 x faster than [:, :, ::-1]
        rgb[:, :, target] = pixels[:, :, source]
    return ImageView(rgb, 1)


def depth_view(message: Image) -> ImageView:
    """Return a depth image as (H, W): uint16 millimeters (16UC1, mono16) or float32 meters (32FC1).

    Invalid pixels stay as they are: 0, NaN and ±Inf (REP 117, REP 118). Big-endian or unaligned
    pixels cost one copy; all others become a view.

    Raises:
        ImageError: not a depth encoding, empty image, step too small, or too little data.
    """
    code = _DEPTH_TYPES.get(message.encoding)
    if code is None:
        raise ImageError(
            "encoding",
            f"'{message.encoding}' is not a depth encoding; expected 16UC1 or mono16 (millimeters) "
            "or 32FC1 (meters): remap depth/image_raw to the driver's depth topic",
        )
    order = ">" if message.is_bigendian else "<"
    pixels = _pixels(message, np.dtype(order + code), 1)[:, :, 0]
    native = pixels.dtype.newbyteorder("=")
    aligned = pixels.strides[0] % native.itemsize == 0 and pixels.flags.aligned
    if aligned and pixels.dtype == native:
        return ImageView(pixels, 0)
    return ImageView(pixels.astype(native), 1)


def image_message(array: ImageArray, header: Header) -> Image:
    """Return an array as a message with unpadded rows and an unchanged header.

    Args:
        array: (H, W, 3) uint8 RGB → rgb8, (H, W) uint8 → mono8, (H, W) uint16 → 16UC1 or
            (H, W) float32 → 32FC1.
        header: header of the image that this one was computed from.

    Raises:
        ValueError: the array has another shape or dtype.
    """
    encoding = _OUTPUT_ENCODINGS.get((array.dtype.str[1:], array.ndim))
    if encoding is None or (array.ndim == 3 and array.shape[2] != 3):
        raise ValueError(f"no encoding for {array.dtype} {array.shape}")
    height, width = array.shape[:2]
    from sensor_msgs.msg import Image

    message = Image(
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(sys.byteorder == "big"),
        step=width * array.itemsize * (3 if array.ndim == 3 else 1),
    )
    # Assigning an array to `data` makes rclpy check 900 KB byte by byte (100 ms at VGA); appending
    # to the buffer that the message already owns is one memcpy.
    message.data.frombytes(np.ascontiguousarray(array).data.cast("B"))
    return message


def _pixels(
    message: Image, dtype: np.dtype[Any], channels: int, rows_per_row: float = 1
) -> ImageArray:
    """Return a (H · rows_per_row, W, channels) view of the message's buffer, after checks."""
    height, width, step = int(message.height * rows_per_row), message.width, message.step
    if height == 0 or width == 0:
        raise ImageError("height" if height == 0 else "width", f"the image is {width}x{height}")
    row = width * channels * dtype.itemsize
    if step < row:
        raise ImageError(
            "step", f"{step} bytes per row, but {width} pixels of {message.encoding} take {row}"
        )
    size = len(message.data)
    if size < step * height:
        state = "truncated" if size else "empty"
        raise ImageError("data", f"{state}: {size} bytes, but step x height is {step * height}")
    strides = (step, channels * dtype.itemsize, dtype.itemsize)
    return np.ndarray((height, width, channels), dtype, buffer=message.data, strides=strides)


def _through_opencv(message: Image) -> ImageView:
    channels, rows_per_row, conversion = _CONVERSIONS[message.encoding]
    odd = [
        name
        for name, shared in (
            ("width", "bayer" not in message.encoding),
            ("height", rows_per_row > 1),
        )
        if shared and getattr(message, name) % 2
    ]
    if odd:
        size = getattr(message, odd[0])
        raise ImageError(odd[0], f"{size} is odd, but {message.encoding} stores pairs of pixels")
    pixels = _pixels(message, np.dtype(np.uint8), channels, rows_per_row)
    try:
        return ImageView(cv2.cvtColor(pixels, conversion), 1)
    except cv2.error as error:
        raise ImageError("encoding", f"OpenCV can't convert {message.encoding}: {error}") from error


def demosaiced(mosaic: ImageArray, encoding: str) -> ImageArray:
    """Return a Bayer mosaic (H, W) uint8 as (H, W, 3) uint8 RGB.

    Raises:
        ImageError: the encoding is none of the 8-bit Bayer encodings.
    """
    if encoding not in _CONVERSIONS:
        raise ImageError("format", f"'{encoding}' is none of {', '.join(COLOR_ENCODINGS)}")
    return cv2.cvtColor(mosaic, _CONVERSIONS[encoding][2])


@functools.cache
def _cv_bridge() -> Any:
    """Return a CvBridge, or None if cv_bridge cannot be imported."""
    try:
        return importlib.import_module("cv_bridge").CvBridge()
    except Exception:  # broken installations, such as cv_bridge of ROS 1, raise various errors
        return None


def _through_cv_bridge(message: Image) -> ImageView:
    known = ", ".join(COLOR_ENCODINGS)
    bridge = _cv_bridge()
    if bridge is None:
        raise ImageError(
            "encoding",
            f"'{message.encoding}' is not one of {known}; have the driver publish one of them, or "
            "install cv_bridge (package ros-<distribution>-cv-bridge)",
        )
    try:
        name, channels = bridge.encoding_to_dtype_with_channels(message.encoding)
        dtype = np.dtype(name).newbyteorder(">" if message.is_bigendian else "<")
        pixels = _pixels(message, dtype, channels)
        # cv_bridge misreads padded rows, and with NumPy 2 it cannot swap bytes.
        dense = SimpleNamespace(
            height=message.height,
            width=message.width,
            encoding=message.encoding,
            is_bigendian=int(sys.byteorder == "big"),
            step=message.width * channels * dtype.itemsize,
            data=pixels.astype(dtype.newbyteorder("=")).tobytes(),
        )
        return ImageView(bridge.imgmsg_to_cv2(dense, "rgb8"), 2)
    except ImageError:
        raise
    except Exception as error:  # CvBridgeError, cv2.error or NumPy's, depending on the version
        raise ImageError(
            "encoding", f"cv_bridge cannot turn '{message.encoding}' into rgb8: {error}"
        ) from error
