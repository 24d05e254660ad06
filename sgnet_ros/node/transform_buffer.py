"""Poses between frames at a stamp: of fixed frames, and of moving frames if tf2 is installed."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np
from rclpy.time import Time

from sgnet_ros.messages.headers import stamp_ns
from sgnet_ros.messages.transforms import Pose, StaticTransforms, matrix_of

try:
    tf2_py: Any = importlib.import_module("tf2_py")
except ImportError:
    tf2_py = None

_JUMP_NS = 1_000_000_000  # transforms that arrive in another order than sent are less apart
_FRESH_NS = 500_000_000
"""Largest age of the newest pose at a later stamp."""


class TransformBuffer(StaticTransforms):
    """Tree of frames from ``/tf_static`` and, as soon as it is needed, from ``/tf``.

    One thread adds, any thread reads.
    """

    def __init__(self) -> None:
        super().__init__()
        self._wants_moving = threading.Event()
        self._buffer: Any = None if tf2_py is None else tf2_py.BufferCore()
        self._static: dict[str, Any] = {}  # child → message
        self._newest: dict[str, int] = {}  # child → newest stamp on /tf, nanoseconds

    @property
    def wants_moving(self) -> bool:
        """True once a requested pose was not in ``/tf_static``, if tf2 is installed.

        The owner subscribes to ``/tf`` only then, because ``/tf`` has many messages.
        """
        return self._wants_moving.is_set()

    def add(self, transforms: Iterable[Any]) -> None:
        """Add geometry_msgs/TransformStamped messages of ``/tf_static``."""
        transforms = list(transforms)
        super().add(transforms)
        for stamped in transforms:
            self._static[stamped.child_frame_id.lstrip("/")] = stamped
            self._set(stamped, static=True)

    def add_moving(self, transforms: Iterable[Any]) -> None:
        """Add geometry_msgs/TransformStamped messages of ``/tf``.

        A frame whose time jumps back (a looped bag, a restarted simulation) clears the buffer.
        """
        if self._buffer is None:
            return
        for stamped in transforms:
            stamp, child = stamp_ns(stamped.header), stamped.child_frame_id.lstrip("/")
            if stamp < self._newest.get(child, 0) - _JUMP_NS:
                self._newest.clear()
                self._buffer.clear()
                for static in self._static.values():
                    self._set(static, static=True)
            self._newest[child] = max(self._newest.get(child, 0), stamp)
            self._set(stamped, static=False)

    def between(self, source: str, target: str, stamp: int = 0) -> Pose | None:
        """Return (4, 4) float64 that takes points of ``source`` to ``target``, meters, or None.

        Moving poses are interpolated at ``stamp`` (nanoseconds). If the newest pose is older (see
        `is_behind`), by at most 0.5 s, it is used as it is.
        """
        pose = super().between(source, target)
        if pose is not None or self._buffer is None:
            return pose
        self._wants_moving.set()
        found = self._look_up(source, target, stamp)
        if found is None:
            return None
        pose = matrix_of(found.transform)
        return pose if np.isfinite(pose).all() else None

    def is_behind(self, source: str, target: str, stamp: int) -> bool:
        """Return whether `between` would use an older pose than the one at the stamp."""
        if self._buffer is None or super().between(source, target) is not None:
            return False
        found = self._look_up(source, target, stamp)
        return found is not None and stamp_ns(found.header) < stamp

    def _look_up(self, source: str, target: str, stamp: int) -> Any | None:
        """Return a TransformStamped, interpolated at the stamp or the newest, or None."""
        frames = target.lstrip("/"), source.lstrip("/")
        try:
            with suppress(tf2_py.ExtrapolationException):
                return self._buffer.lookup_transform_core(*frames, Time(nanoseconds=stamp))
            newest = self._buffer.lookup_transform_core(*frames, Time())
        except tf2_py.TransformException:  # the frames are not connected
            return None
        return newest if 0 <= stamp - stamp_ns(newest.header) <= _FRESH_NS else None

    def _set(self, stamped: Any, static: bool) -> None:
        if self._buffer is None:
            return
        add = self._buffer.set_transform_static if static else self._buffer.set_transform
        add(stamped, "sgnet")
