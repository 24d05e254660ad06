"""Serialized messages, read and changed in part without deserializing them."""

from __future__ import annotations

import struct


def parse_header(data: bytes | memoryview) -> tuple[int, str]:
    """Return the stamp in nanoseconds and the frame of a serialized message.

    Reading the header alone takes no time, while deserializing an image copies its pixels.

    Args:
        data: CDR bytes of a message that begins with a std_msgs/Header.
    """
    order = "<" if data[1] & 1 else ">"
    seconds, nanoseconds, length = struct.unpack_from(order + "iII", data, 4)
    return seconds * 10**9 + nanoseconds, bytes(data[16 : 16 + length - 1]).decode()


def restamped(data: bytes | memoryview, stamp_ns: int) -> bytes:
    """Return a serialized message, which begins with a std_msgs/Header, under another stamp.

    Args:
        data: CDR bytes.
        stamp_ns: nanoseconds.
    """
    order = "<" if data[1] & 1 else ">"
    return b"".join((data[:4], struct.pack(order + "iI", *divmod(stamp_ns, 10**9)), data[12:]))
