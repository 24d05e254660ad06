"""Headers of serialized messages, read and changed without deserializing the message."""

from __future__ import annotations

import struct


def parse_header(data: bytes | memoryview) -> tuple[int, str]:
    """Return the stamp in nanoseconds and the frame of a serialized message.

    Deserializing an image would copy its pixels.

    Args:
        data: CDR bytes of a message that begins with a std_msgs/Header.
    """
    order = "<" if data[1] & 1 else ">"
    seconds, nanoseconds, length = struct.unpack_from(order + "iII", data, 4)
    return seconds * 10**9 + nanoseconds, bytes(data[16 : 16 + length - 1]).decode()


def restamped(data: bytes | memoryview, stamp_ns: int) -> bytes:
    """Return a serialized message with another stamp.

    Args:
        data: CDR bytes of a message that begins with a std_msgs/Header.
        stamp_ns: nanoseconds.
    """
    order = "<" if data[1] & 1 else ">"
    return b"".join((data[:4], struct.pack(order + "iI", *divmod(stamp_ns, 10**9)), data[12:]))
