"""Count the scans of a JPEG file, each of which makes the decoder pass over the whole image."""

from __future__ import annotations

import mmap
import re

MAX_SCANS = 100
"""Maximum number of scans of a JPEG image. A progressive image usually has about ten. A scan takes
the decoder a long time even if it has few bytes."""

_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # coded pixels contain only FF00 and FFD0-D7
_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN = 0xD8, 0xD9, 0xDA
_WITHOUT_LENGTH = (0x01, _START_OF_IMAGE)


def count_scans(data: bytes | memoryview | mmap.mmap) -> int:
    """Return the number of scans in a JPEG file, at most `MAX_SCANS` + 1."""
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
