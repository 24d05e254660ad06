"""sensor_msgs/CompressedImage as NumPy arrays: image_transport's compressed and compressedDepth."""

from __future__ import annotations

import io
import struct
from typing import Any

import cv2
import numpy as np
from PIL import Image

from sgnet_core.data import images, jpeg
from sgnet_ros.messages.images import ImageArray, ImageError, ImageView, demosaiced
from sgnet_ros.messages.rvl import decode_rvl

_CONFIG_HEADER = struct.Struct("<iff")
"""Header of compressed_depth_image_transport before the image: the kind of quantization (always 0,
for inverse depth) and its parameters A and B."""

_PNG = b"\x89PNG\r\n\x1a\n"


def compressed_rgb_view(message: Any) -> ImageView:
    """Return a JPEG or PNG color image as (H, W, 3) uint8 RGB, 0..255; gray repeats its channel.

    Bayer mosaics, which image_transport compresses as gray images, are demosaiced.

    Raises:
        ImageError: the image is damaged, truncated, of another format, or not of 8 bits.
    """
    image = _decoded(message, 0)
    if image.mode not in ("RGB", "RGBA", "L", "LA", "P", "CMYK"):
        raise ImageError("data", f"{message.format}: pixels of mode {image.mode}, not 8-bit color")
    encoding = message.format.partition(";")[0].strip()
    if image.mode == "L" and encoding.startswith("bayer_"):
        return ImageView(demosaiced(np.array(image), encoding), 1)
    return ImageView(np.array(image.convert("RGB")), 1)


def compressed_depth_view(message: Any) -> ImageView:
    """Return a compressed depth image as (H, W): uint16 millimeters, or float32 meters with NaN.

    The 16-bit numbers i of a 32FC1 image are quantized inverse depth: meters = A / (i − B), 0 is
    invalid. A 16-bit PNG without the header of compressedDepth is taken as it is.

    Raises:
        ImageError: the image is damaged, truncated, or not of 16 bits.
    """
    encoding, _, codec = message.format.partition(";")
    encoding = encoding.strip()
    if encoding not in ("16UC1", "mono16", "32FC1"):
        raise ImageError(
            "format", f"'{message.format}' is not a depth format; expected 16UC1 or 32FC1"
        )
    has_header = bytes(memoryview(message.data)[: len(_PNG)]) != _PNG
    if encoding == "32FC1" and "compressedDepth" in codec and not has_header:
        raise ImageError("data", f"{message.format}: a PNG without the header that gives its unit")
    if "rvl" in codec:
        numbers = decode_rvl(memoryview(message.data)[_CONFIG_HEADER.size :])
    else:
        numbers = _png16(message, _CONFIG_HEADER.size if has_header else 0)
    if encoding != "32FC1" or not has_header:
        return ImageView(numbers, 1)
    _, a, b = _CONFIG_HEADER.unpack_from(message.data)
    return ImageView(_dequantized(numbers, a, b), 1)


def _png16(message: Any, skip: int) -> ImageArray:
    image = _decoded(message, skip)
    if not image.mode.startswith("I"):
        raise ImageError("data", f"{message.format}: a PNG of mode {image.mode}, not of 16 bits")
    return np.array(image, np.uint16)


def compressed_message(array: ImageArray, header: Any, codec: str) -> Any:
    """Return an image as the sensor_msgs/CompressedImage of image_transport's compressed plugin.

    Args:
        array: (H, W, 3) uint8 RGB or (H, W) uint8.
        header: header of the image that this one was computed from.
        codec: "png", lossless, or "jpeg".
    """
    from sensor_msgs.msg import CompressedImage

    color = array.ndim == 3
    pixels = cv2.cvtColor(array, cv2.COLOR_RGB2BGR) if color else array
    settings = [cv2.IMWRITE_PNG_COMPRESSION, 1] if codec == "png" else []
    _, encoded = cv2.imencode(".png" if codec == "png" else ".jpg", pixels, settings)
    encoding, stored = ("rgb8", "bgr8") if color else ("mono8", "")
    message = CompressedImage(header=header, format=f"{encoding}; {codec} compressed {stored}")
    message.data.frombytes(encoded.data)
    return message


def _dequantized(numbers: ImageArray, a: float, b: float) -> ImageArray:
    inverse = np.where(numbers > 0, numbers.astype(np.float32) - np.float32(b), np.nan)
    with np.errstate(all="ignore"):
        return np.asarray(np.float32(a) / inverse, np.float32)


def _decoded(message: Any, skip: int) -> Image.Image:
    """Decode the picture that follows the first ``skip`` bytes."""
    data = memoryview(message.data)[skip:]
    scans = 0
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
        if image.format != "PNG":
            scans = jpeg.count_scans(data)
        if image.width * image.height <= images.MAX_PIXELS and scans <= jpeg.MAX_SCANS:
            image.load()
            return image
    except Exception as error:  # Pillow raises various errors for damaged data
        size = len(message.data)
        raise ImageError(
            "data", f"{size} bytes that cannot be decoded as {message.format}: {error}"
        ) from error
    if scans > jpeg.MAX_SCANS:
        raise ImageError("data", f"a JPEG of more than {jpeg.MAX_SCANS} scans is not decoded")
    raise ImageError(
        "data", f"{image.width}x{image.height} pixels; at most {images.MAX_PIXELS} are decoded"
    )
