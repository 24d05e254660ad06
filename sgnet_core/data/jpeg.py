"""Number of passes over the pixels that a JPEG file asks of its decoder."""

from __future__ import annotations

import mmap
import re

MAX_SCANS = 100
"""Largest number of scans of a JPEG image. A progressive one usually has about ten, and each costs
a pass over the whole image, however few bytes it has."""

_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # not in coded pixels, which hold FF00, FFD0-D7
_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN = 0xD8, 0xD9, 0xDA
_WITHOUT_LENGTH = (0x01, _START_OF_IMAGE)


def count_scans(data: bytes | memoryview | mmap.mmap) -> int:
    """Return the number of scans in a JPEG file, or `MAX_SCANS` + 1 where there are more."""
    scans = at = 0
    while scans <= MAX_SCANS and (found := _MARKER.search(data, at)):
        at = found.end()
        marker = data[at - 1]
        if marker == _END_OF_IMAGE:
            break
        if marker not in _WITHOUT_LENGTH:
            scans += marker == _START_OF_SCAN
            at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return scans
