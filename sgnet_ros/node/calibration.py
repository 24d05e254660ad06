"""Calibrations of a camera over time."""

from __future__ import annotations

from collections import deque

from sensor_msgs.msg import CameraInfo

from sgnet_ros.messages.camera_model import is_calibrated
from sgnet_ros.messages.headers import stamp_ns

_KEPT = 60  # messages: 2 s at 30 Hz, more than a frame waits for its partner


class CameraInfos:
    """Keep the latest CameraInfo messages of a topic and find the one for a stamp.

    Messages without a calibration, which drivers send while they start, are used only until a
    calibrated one arrives.
    """

    def __init__(self) -> None:
        self._calibrated: deque[CameraInfo] = deque(maxlen=_KEPT)
        self._uncalibrated: CameraInfo | None = None

    def receive(self, message: CameraInfo) -> None:
        """Store a message."""
        if is_calibrated(message):
            self._calibrated.append(message)
        else:
            self._uncalibrated = message

    @property
    def newest(self) -> CameraInfo | None:
        """The message received last, a calibrated one if there was one."""
        return self._calibrated[-1] if self._calibrated else self._uncalibrated

    def at(self, stamp: int) -> CameraInfo | None:
        """Return the calibration that was valid at a stamp in nanoseconds.

        This is the latest message that is not newer than the stamp. If all messages are newer
        (published once, after the images, or before time jumped back), it is the one received last.
        None before the first message.
        """
        valid = [m for m in self._calibrated if stamp_ns(m.header) <= stamp]
        if not valid:
            return self.newest
        # Of equal stamps, the last one.
        return max(reversed(valid), key=lambda m: stamp_ns(m.header))
