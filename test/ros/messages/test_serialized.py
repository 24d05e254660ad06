"""Headers are read without the message behind them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import serialize_message
from sgnet_msgs.msg import FrameStats
from std_msgs.msg import Header

from sgnet_ros.messages.serialized import parse_header


@given(st.integers(0, 2**31 - 1), st.integers(0, 10**9 - 1), st.text(max_size=20))
def test_headers_are_read_without_the_message(seconds: int, nanoseconds: int, frame: str) -> None:
    frame = frame.replace("\0", "").encode("utf-8", "ignore").decode()
    header = Header(frame_id=frame)
    header.stamp.sec, header.stamp.nanosec = seconds, nanoseconds
    data = serialize_message(FrameStats(header=header))
    assert parse_header(data) == (seconds * 10**9 + nanoseconds, frame)
