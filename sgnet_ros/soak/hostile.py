"""Random, repeatable messages for fault injection; most are invalid, some are valid."""

from __future__ import annotations

import array
import random
from collections.abc import Sequence
from typing import Any

from sensor_msgs.msg import CameraInfo, Image

COLORS = ("rgb8", "bgr8", "8UC3", "rgba8", "bgra8", "mono8")
DEPTHS = ("16UC1", "mono16", "32FC1")
_FOREIGN = (
    "",
    "rgb16",
    "32SC1",
    "yuv444",
    "bayer_rggb16",
    "RGB8",
    "rgb8\n",
    "16UC1; compressed",
    "é",
)
_BYTES_PER_PIXEL = {"rgba8": 4, "bgra8": 4, "32FC1": 4, "16UC1": 2, "mono16": 2, "mono8": 1}
_UINT32 = (0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1)
_FLOATS = (0.0, -1.0, 1e-300, 1e300, float("nan"), float("inf"), float("-inf"))
_FLOAT_BYTES = (b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\x80\xff", b"\1\0\0\0", b"\xff\xff\x7f\x7f")
"""float32, little-endian: NaN, ∞, -∞, the smallest, the greatest."""


def image(
    rng: random.Random,
    encodings: Sequence[str] = (*COLORS, *DEPTHS),
    size: tuple[int, int] | None = None,
) -> Image:
    """Return an image with random padding, byte order and values.

    In three of four images, up to three fields are changed: a step shorter than a row, truncated or
    doubled data, a size of 2³² - 1, an unknown encoding and so on. Floating-point depth contains
    NaN and ±∞.

    Args:
        rng: source of randomness.
        encodings: encodings to choose from.
        size: height and width; by default random, up to 12 each.
    """
    height, width = size or (rng.randint(1, 12), rng.randint(1, 12))
    encoding = rng.choice(encodings)
    step = width * _BYTES_PER_PIXEL.get(encoding, 3) + rng.choice((0, 0, 1, 2, 3, 4, 8, 61))
    data = bytearray(rng.randbytes(step * height))
    if encoding == "32FC1":
        for _ in range(rng.randint(0, 8)):
            at = rng.randrange(len(data) // 4) * 4
            data[at : at + 4] = rng.choice(_FLOAT_BYTES)
    message = Image(
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=rng.choice((0, 0, 0, 1, 255)),
        step=step,
        data=array.array("B", data),
    )
    for _ in range(rng.choice((0, 1, 2, 3))):
        _corrupt(message, rng)
    return message


def camera_info(rng: random.Random) -> CameraInfo:
    """Return a calibration in which any number, size or distortion may be invalid."""
    width, height = rng.randint(1, 64), rng.randint(1, 64)
    message = CameraInfo(width=width, height=height, distortion_model="plumb_bob")
    message.k = [50.0, 0.0, width / 2, 0.0, 50.0, height / 2, 0.0, 0.0, 1.0]
    for _ in range(rng.choice((0, 1, 2, 4, 9))):
        message.k[rng.randrange(9)] = rng.choice((*_FLOATS, rng.uniform(-100, 100)))
    if rng.random() < 0.3:
        message.width, message.height = rng.choice(_UINT32), rng.choice(_UINT32)
    if rng.random() < 0.3:
        message.binning_x, message.binning_y = rng.choice(_UINT32), rng.choice((0, 1, 2, 3))
    if rng.random() < 0.3:
        for field in ("x_offset", "y_offset", "width", "height"):
            setattr(message.roi, field, rng.choice((*_UINT32, rng.randint(0, 64))))
    if rng.random() < 0.3:
        message.d = [rng.choice(_FLOATS) for _ in range(rng.choice((0, 1, 4, 5, 8, 100)))]
        message.distortion_model = rng.choice(("", "plumb_bob", "equidistant", "no such model"))
        message.r = [rng.choice(_FLOATS) for _ in range(9)]
        message.p = [rng.choice(_FLOATS) for _ in range(12)]
    return message


def serialized(rng: random.Random, good: bytes) -> bytes:
    """Return invalid bytes: noise, or ``good`` truncated or with changed bytes."""
    kind = rng.randrange(3)
    if kind == 0:
        return rng.randbytes(rng.randint(0, 200))
    if kind == 1:
        return good[: rng.randrange(len(good))]
    changed = bytearray(good)
    for _ in range(rng.randint(1, 6)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _corrupt(message: Image, rng: random.Random) -> None:
    """Change one field at random."""
    size = len(message.data)
    values: dict[str, Any] = {
        "height": rng.choice((*_UINT32, message.height + 1)),
        "width": rng.choice((*_UINT32, message.width + 1)),
        "step": rng.choice((*_UINT32, max(0, message.step - 1), message.step // 2)),
        "encoding": rng.choice((*_FOREIGN, *COLORS, *DEPTHS)),
        "is_bigendian": rng.randrange(256),
        "data": rng.choice((0, 1, max(0, size - 1), size // 2, 2 * size)),
    }
    field = rng.choice(list(values))
    if field == "data":
        values["data"] = array.array("B", (message.data.tobytes() * 2)[: values["data"]])
    setattr(message, field, values[field])
