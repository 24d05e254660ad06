"""Headers are read and changed without the message behind them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sgnet_msgs.msg import FrameStats
from std_msgs.msg import Header

from sgnet_ros.messages.serialized import parse_header, restamped


@given(st.integers(0, 2**31 - 1), st.integers(0, 10**9 - 1), st.text(max_size=20))
def test_headers_are_read_without_the_message(seconds: int, nanoseconds: int, frame: str) -> None:
    frame = frame.replace("\0", "").encode("utf-8", "ignore").decode()
    header = Header(frame_id=frame)
    header.stamp.sec, header.stamp.nanosec = seconds, nanoseconds
    data = serialize_message(FrameStats(header=header))
    assert parse_header(data) == (seconds * 10**9 + nanoseconds, frame)


def test_a_stamp_is_replaced_and_nothing_else() -> None:
    message = FrameStats(header=Header(frame_id="cam"), age_ms=2.5, drop_causes=["overload"])
    message.header.stamp.sec, message.header.stamp.nanosec = 5, 7
    changed = restamped(serialize_message(message), 12 * 10**9 + 34)
    message.header.stamp.sec, message.header.stamp.nanosec = 12, 34
    assert deserialize_message(changed, FrameStats) == message
    assert restamped(memoryview(changed), 12 * 10**9 + 34) == changed
