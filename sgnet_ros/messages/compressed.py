"""sensor_msgs/CompressedImage as NumPy arrays: image_transport's compressed and compressedDepth."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from PIL import Image

from sgnet_ros.messages.images import ImageArray, ImageError, ImageView

_CONFIG_HEADER = struct.Struct("<iff")
"""What compressed_depth_image_transport puts before the PNG: how depth was quantised (0, the only
way there is: by its inverse) and the two parameters of that."""


def compressed_rgb_view(message: Any) -> ImageView:
    """A JPEG or PNG colour image as (H, W, 3) uint8 RGB, 0..255; grey repeats its channel.

    Raises:
        ImageError: damaged, cut off, of another format, or not of 8 bits.
    """
    image = _decoded(message, 0)
    if image.mode not in ("RGB", "RGBA", "L", "LA", "P", "CMYK"):
        raise ImageError(
            "data", f"{message.format}: pixels of kind {image.mode}, not colours of 8 bits"
        )
    return ImageView(np.array(image.convert("RGB")), 1)


def compressed_depth_view(message: Any) -> ImageView:
    """A compressed depth image as (H, W): uint16 millimetres, or float32 metres with NaN.

    Of 32FC1 the 16-bit numbers i are quantised inverse depth: metres = A / (i − B), 0 = invalid.
    PNGs of 16 bits without compressedDepth's header are taken as they are.

    Raises:
        ImageError: damaged, cut off, RVL, or not of 16 bits.
    """
    encoding, _, codec = message.format.partition(";")
    if "rvl" in codec:
        raise ImageError(
            "format",
            f"'{message.format}' isn't supported: set the publisher's parameter "
            "compressedDepth.format (for older ones compressedDepth/format) to png",
        )
    if encoding not in ("16UC1", "mono16", "32FC1"):
        raise ImageError(
            "format", f"'{message.format}' is no depth; expected 16UC1 or 32FC1, compressedDepth"
        )
    has_header = "compressedDepth" in codec
    image = _decoded(message, _CONFIG_HEADER.size if has_header else 0)
    if not image.mode.startswith("I"):
        raise ImageError("data", f"{message.format}: a PNG of kind {image.mode}, not of 16 bits")
    numbers = np.array(image, np.uint16)
    if encoding != "32FC1" or not has_header:
        return ImageView(numbers, 1)
    _, a, b = _CONFIG_HEADER.unpack_from(message.data)
    return ImageView(_dequantized(numbers, a, b), 1)


def _dequantized(numbers: ImageArray, a: float, b: float) -> ImageArray:
    inverse = np.where(numbers > 0, numbers.astype(np.float32) - np.float32(b), np.nan)
    with np.errstate(all="ignore"):
        return np.asarray(np.float32(a) / inverse, np.float32)


def _decoded(message: Any, skip: int) -> Image.Image:
    """The picture behind ``skip`` bytes, read to its end."""
    try:
        image = Image.open(io.BytesIO(memoryview(message.data)[skip:]), formats=("JPEG", "PNG"))
        image.load()
        return image
    except Exception as error:  # damaged bytes raise all sorts in Pillow
        size = len(message.data)
        raise ImageError(
            "data", f"{size} bytes that can't be decoded as {message.format}: {error}"
        ) from error
