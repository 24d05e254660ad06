"""RVL, the fast lossless compression of 16-bit depth images (Wilson, ISS 2017)."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from sgnet_core.data import images
from sgnet_ros.messages.images import ImageError

_SIZE = struct.Struct("<II")  # columns, rows
_BYTES_PER_PIXEL = 4  # at most: six nibbles of a 17-bit difference, and one of a run's length


def decode_rvl(data: bytes | memoryview) -> npt.NDArray[np.uint16]:
    """Decode columns and rows (32 bits each) and RVL data into (H, W) uint16, 0 = no measurement.

    The data repeat this sequence: the number of pixels without a measurement, the number of pixels
    with one, and the difference of each measurement from the one before, with the sign in the
    lowest bit. Each number consists of nibbles, three bits of the number and one bit that is set if
    another nibble follows. The nibbles fill little-endian 32-bit words from the highest on.

    Raises:
        ImageError: the data are truncated or do not fit the size, or the image has more than
            `sgnet_core.data.images.MAX_PIXELS` pixels.
    """
    if len(data) < _SIZE.size:
        raise ImageError("data", f"{len(data)} bytes are too few for an RVL image")
    width, height = _SIZE.unpack_from(data)
    pixels = width * height
    if not 0 < pixels <= images.MAX_PIXELS:
        raise ImageError(
            "data", f"RVL image of {width}x{height}; at most {images.MAX_PIXELS} pixels"
        )
    numbers = _numbers(data[_SIZE.size :][: _BYTES_PER_PIXEL * pixels + 64])
    values = numbers.tolist()
    runs: list[int] = []  # pixels without and with a measurement, alternating
    starts: list[int] = []  # indices of the runs' lengths in the numbers
    filled = at = 0
    while filled < pixels:
        if at + 1 >= len(values):
            raise ImageError("data", f"RVL data end after {filled} of {pixels} pixels")
        zeros, count = values[at], values[at + 1]
        runs += (zeros, count)
        starts.append(at)
        filled, at = filled + zeros + count, at + 2 + count
        if filled > pixels or at > len(values) or not zeros + count:
            raise ImageError("data", f"RVL data do not fit an image of {width}x{height}")
    headers = np.array(starts)
    coded = np.delete(numbers[:at], np.concatenate((headers, headers + 1)))
    depth = np.zeros(pixels, np.uint16)
    measured = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    depth[measured] = np.cumsum((coded >> 1) ^ -(coded & 1)).astype(np.uint16)
    return depth.reshape(height, width)


def _numbers(data: bytes | memoryview) -> npt.NDArray[np.int64]:
    """Decode the numbers of variable length; leave out an incomplete last one."""
    words = np.frombuffer(data[: len(data) // 4 * 4], "<u4")
    shifts = np.arange(28, -1, -4, dtype=np.uint32)
    nibbles = ((words[:, None] >> shifts) & 15).ravel().astype(np.int64)
    ends = np.flatnonzero(nibbles < 8)  # the highest bit says that another nibble follows
    if not ends.size:
        return np.zeros(0, np.int64)
    nibbles = nibbles[: ends[-1] + 1]
    starts = np.concatenate(([0], ends[:-1] + 1))
    place = np.arange(nibbles.size) - np.repeat(starts, ends - starts + 1)
    if place.max() > 10:
        raise ImageError("data", "not RVL data: a number has more than 32 bits")
    return np.add.reduceat((nibbles & 7) << (3 * place), starts)
