"""A camera that plays rooms, images or a bag: `python -m sgnet_ros.camera --source rooms`.

The camera publishes `rgb/image_raw` (rgb8), `depth/image_raw` (16UC1, millimeters),
`rgb/camera_info`, and `rgb/labels` (mono8 ground truth) if the source has labels, best effort and
with one stamp per frame. It ends with the source; rooms, and any source with `--loop`, are endless.
It prints one line of JSON about the source at the start, and one about the sent images at the end.

With `--controlled`, another program sends commands as lines of JSON to the standard input:
`{"show": SIZE}` publishes the first frame once and answers with its stamp in nanoseconds;
`{"draw": SIZE, "rate": HZ}` renders rooms in advance, publishes the first frame once a second
meanwhile, and answers with the number of rooms; `{"play": SIZE, "rate": HZ}` plays. SIZE is
[width, height], or null for the size of the source.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import numpy as np
import rclpy
import torch
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from sgnet_core.arguments import frame_size, positive
from sgnet_ros.messages.camera_model import info_message
from sgnet_ros.messages.headers import COLOR_FRAME
from sgnet_ros.messages.images import image_message
from sgnet_ros.recordings.errors import BagError, SourceError
from sgnet_ros.recordings.frames import CameraFrame, Size, Source
from sgnet_ros.recordings.read_ahead import read_ahead
from sgnet_ros.recordings.sources import open_source
from sgnet_ros.system.environment import prepare_environment
from sgnet_ros.system.interrupts import Interrupts
from sgnet_ros.system.spinning import spin_for, spin_until

DEFAULT_RATE_HZ = 10.0

_SUBSCRIBER_WAIT_S = 10.0  # then the camera plays without subscribers, as a real one
_RENDER_S = 30.0  # longest time to render rooms before playing them
_RENDER_BYTES = 256 << 20
_STILL_S = 1.0  # between two images while rooms are rendered
_LINGER_S = 0.5  # so that the last images are sent before the process ends


class CameraDriver(Node):
    """Node that publishes a source as a camera driver would; call `run`.

    Args:
        args: the command line, as `parse_arguments` returns it.
        interrupts: deferred while a frame is published and counted.

    Raises:
        SourceError, BagError: the source cannot be played.
    """

    def __init__(self, args: argparse.Namespace, interrupts: Interrupts) -> None:
        super().__init__("camera")
        self._args = args
        self._interrupts = interrupts
        self._size: Size | None = args.size
        self._rate_hz = float(args.rate or DEFAULT_RATE_HZ)
        self.source, self._first = self._open()
        if args.rate is None and self.source.rate_hz is not None:
            self._rate_hz = self.source.rate_hz
        qos = qos_profile_sensor_data
        self._rgb = self.create_publisher(Image, "rgb/image_raw", qos)
        self._depth = self.create_publisher(Image, "depth/image_raw", qos)
        self._info = self.create_publisher(CameraInfo, "rgb/camera_info", qos)
        self._labels = None
        if self._first.labels is not None:
            self._labels = self.create_publisher(Image, "rgb/labels", qos)
        self._rendered: list[CameraFrame] = []  # rooms rendered in advance
        self.pairs_sent = 0
        self.late = 0
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)

    def run(self) -> None:
        """Wait for commands or for subscribers, and play.

        Raises:
            SourceError, BagError: a later frame cannot be read.
        """
        if not self._args.controlled:
            self._wait_for_subscribers()
        elif not self._run_commands(sys.stdin):
            return
        try:
            self._play(self._frames())
        finally:  # also after Ctrl-C, so that the counted images arrive
            spin_for(self._executor, _LINGER_S)

    def description(self) -> dict[str, Any]:
        """Describe the source: the first line on the standard output."""
        return {
            "count": self.source.count,
            "rate_hz": self.source.rate_hz,
            "labeled": self._labels is not None,
            "label_set": self.source.label_set,
        }

    def report(self) -> dict[str, int]:
        """Count the played frames: the last line on the standard output."""
        return {"pairs_sent": self.pairs_sent, "late": self.late}

    def publish(self, frame: CameraFrame) -> int:
        """Publish one frame with the current time as its stamp; return the stamp in ns."""
        now = self.get_clock().now()
        header = Header(stamp=now.to_msg(), frame_id=COLOR_FRAME)
        if frame.intrinsics is not None:
            self._info.publish(info_message(frame.intrinsics, header))
        self._rgb.publish(image_message(frame.rgb, header))
        self._depth.publish(image_message(frame.depth, header))
        if self._labels and frame.labels is not None:
            self._labels.publish(image_message(frame.labels, header))
        return int(now.nanoseconds)

    def _run_commands(self, lines: Iterable[str]) -> bool:
        """Run commands up to the first "play"; return False if they end before it."""
        for line in lines:
            command = json.loads(line)
            (what,) = {"show", "draw", "play"} & command.keys()
            size = tuple(command[what]) if command[what] else None
            with self._showing_first_frame() if what == "draw" else nullcontext():
                self._choose(size, command.get("rate", self._rate_hz))
                if what == "draw":
                    self._rendered = self._render() if self.source.count is None else []
                    self.print_json({"drawn": len(self._rendered)})
            if what == "play":
                return True
            if what == "show":
                self.print_json({"shown": self.publish(self._first)})
        return False

    def print_json(self, values: dict[str, Any]) -> None:
        """Print a line of JSON."""
        # An interrupt within print() could come before the end of the line.
        with self._interrupts.deferred(), suppress(BrokenPipeError):  # the reader may have ended
            print(json.dumps(values), flush=True)

    @contextmanager
    def _showing_first_frame(self) -> Iterator[None]:
        """Publish the current first frame once a second while the block runs."""
        frame, done = self._first, threading.Event()

        def show() -> None:
            while not done.wait(_STILL_S):
                self.publish(frame)

        thread = threading.Thread(target=show, name="still", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _choose(self, size: Size | None, rate_hz: float) -> None:
        """Open the source again if size or rate changes."""
        if (size, rate_hz) != (self._size, self._rate_hz):
            self._size, self._rate_hz = size, rate_hz
            self.source, self._first = self._open()
            self._rendered = []

    def _open(self) -> tuple[Source, CameraFrame]:
        topics = (self._args.rgb_topic, self._args.depth_topic)
        source = open_source(self._args.source, self._size, self._rate_hz, topics)
        first = next(iter(source), None)
        if first is None:
            raise SourceError(f"{source.name} has no frame with color and depth")
        return source, first

    def _frames(self) -> Iterator[CameraFrame]:
        if self.source.count is None:
            return _back_and_forth(self._rendered or self._render())
        passes = itertools.repeat(self.source) if self._args.loop else iter([self.source])
        return read_ahead(itertools.chain.from_iterable(passes))

    def _render(self) -> list[CameraFrame]:
        """Render rooms before they are played, so that the node then has the CPU to itself."""
        size = sum(a.nbytes for a in vars(self._first).values() if isinstance(a, np.ndarray))
        count = max(2, _RENDER_BYTES // size)
        if self._args.seconds:
            count = min(count, math.ceil(self._args.seconds * self._rate_hz) + 1)
        self.get_logger().info(f"rendering up to {count} rooms before playing them")
        start, frames = time.monotonic(), []
        for frame in itertools.islice(self.source, count):
            frames.append(frame)
            self.print_json({"rendered": len(frames), "of": count})
            if time.monotonic() - start > _RENDER_S:
                break
            self._executor.spin_once(timeout_sec=0)
        return frames

    def _play(self, frames: Iterator[CameraFrame]) -> None:
        start = due = time.monotonic()
        for frame in frames:
            spin_for(self._executor, due - time.monotonic())
            now = time.monotonic()
            if self._args.seconds and now - start >= self._args.seconds:
                break
            with self._interrupts.deferred():
                self.publish(frame)
                self.pairs_sent += 1
            due += 1 / self._rate_hz
            if due < now:  # too slow: play the next frame now, without a burst to catch up
                self.late += 1
                due = now

    def _wait_for_subscribers(self) -> None:
        publishers = (self._rgb, self._depth)
        found = spin_until(
            self._executor,
            lambda: all(p.get_subscription_count() for p in publishers),
            _SUBSCRIBER_WAIT_S,
        )
        if not found:
            self.get_logger().warning("nobody subscribes to rgb and depth; playing anyway")
            return
        # The subscribers discover this publisher a little later.
        spin_for(self._executor, 0.3)


def _back_and_forth(frames: Sequence[CameraFrame]) -> Iterator[CameraFrame]:
    """Yield frames 0 1 2 3 2 1 0 1 …, so that the tour has no jump."""
    return itertools.cycle([*frames, *frames[-2:0:-1]])


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line without its `--ros-args`."""
    parser = argparse.ArgumentParser("python -m sgnet_ros.camera", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--source", default="rooms", help="rooms, a folder of images, or a bag")
    parser.add_argument("--rate", type=positive, help="Hz; default: as recorded, else 10")
    parser.add_argument("--loop", action="store_true", help="start again at the end of the source")
    parser.add_argument("--size", type=frame_size, help="WxH; default: as recorded, rooms 640x480")
    parser.add_argument("--seconds", type=float, help="stop after this time in seconds")
    parser.add_argument("--rgb-topic", help="topic of the color images, if the bag has several")
    parser.add_argument("--depth-topic", help="topic of the depth images, if the bag has several")
    parser.add_argument("--controlled", action="store_true", help="read commands from stdin")
    return parser.parse_args(argv)


def main() -> None:
    """Run the command; exit with 1 and one line on the standard error if nothing can be played."""
    logging.basicConfig(format="[%(levelname)s] %(message)s")
    args = parse_arguments(remove_ros_args(sys.argv)[1:])
    prepare_environment()
    # Leave half of the cores to other processes; with more threads, spinning would occupy them.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
    camera = None
    with Interrupts() as interrupts:
        try:
            camera = CameraDriver(args, interrupts)
            camera.print_json(camera.description())
            gc.freeze()  # a full collection would delay a frame by 0.1 s
            camera.run()
        except (SourceError, BagError) as error:
            sys.exit(f"[ERROR] {error}")
        except KeyboardInterrupt:
            pass
        finally:
            if camera is not None:
                camera.print_json(camera.report())
                camera.destroy_node()  # others see its publishers while a reference is left
            rclpy.try_shutdown()


if __name__ == "__main__":
    main()
