"""One run of the demo: start camera and node, pick a rate, play, observe, summarize."""

from __future__ import annotations

import argparse
import functools
import gc
import json
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from sgnet_msgs.msg import FrameStats
from tqdm import tqdm

from sgnet_ros.demo.observer import Observer
from sgnet_ros.demo.report import DemoRecord, summarize
from sgnet_ros.messages.definitions import message_definitions
from sgnet_ros.node.diagnostics import NO_PAIR, NOT_CONFIGURED
from sgnet_ros.recordings.bag_writer import BagWriter
from sgnet_ros.recordings.frames import Size
from sgnet_ros.system.environment import share_file
from sgnet_ros.system.processes import Child
from sgnet_ros.system.spinning import spin_until

ROOM_SIZES = ((640, 480), (320, 240))
"""Sizes to try; the demo takes the first one at which the device reaches `GOOD_RATE_HZ`."""
GOOD_RATE_HZ = 3.0
MAX_RATE_HZ = 30.0
LOAD = 0.6
"""Share of the time that the device is busy at the rate that the demo picks."""

_ROOMS_S, _RECORDING_S = 20.0, 60.0
# Longest waits; the first start may export the model.
_START_S, _LOAD_S = 600.0, 900.0
_CONNECT_S, _FRAME_S = 120.0, (5.0, 15.0, 60.0)
_LAST_MESSAGES_S = 0.5  # wait for the other messages of the last frame
_MEASUREMENTS = 3


class DemoError(RuntimeError):
    """Failure of the demo; the message gives the reason and the end of the log."""


class Demo:
    """One run of the demo; a context manager that leaves no process behind.

    Args:
        args: the command line, as `parse_arguments` returns it.

    Attributes:
        observer: messages, figures and pictures of the run.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._out: Path = args.out
        self._rss_mib: list[float] = []
        self._reports: list[dict[str, Any]] = []  # lines of the camera's standard output

    def __enter__(self) -> Demo:
        with ExitStack() as stack:  # stops the processes if a later step fails
            # Children first: they must be started before this process has threads.
            self._node = Child("sgnet_ros.node", _node_arguments(self._args), self._out)
            stack.callback(self._node.stop)
            self._children = [self._node]
            if self._args.view:
                self._children.append(Child("sgnet_ros.view", [], self._out))
                stack.callback(self._children[-1].stop)
            arguments = _camera_arguments(self._args)
            self._camera = Child("sgnet_ros.camera", arguments, self._out, pipes=True)
            stack.callback(self._camera.stop)
            self._children.append(self._camera)
            self._listener = threading.Thread(target=self._listen, daemon=True)
            self._listener.start()
            rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
            stack.callback(rclpy.try_shutdown)
            self._bag = BagWriter(self._out / "bag", message_definitions("sgnet_msgs"))
            self.observer = Observer(self._bag)
            self._executor = SingleThreadedExecutor()
            self._executor.add_node(self.observer)
            stack.callback(self._executor.shutdown)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stack.close()
        if kind is None:
            self._bag.close()
        else:
            self._bag.discard()

    def run(self) -> dict[str, Any]:
        """Run from start-up to the last label image; return the summary.

        Raises:
            DemoError: a process ended or something took too long.
        """
        print(f"starting node and camera; their logs are in {self._out}/", flush=True)
        self._spin_until(lambda: self._reports, _START_S, "starting the camera")
        self._spin_until(lambda: self.observer.class_map, _LOAD_S, "loading the model")
        self._connect()
        print("measuring the speed of the model", flush=True)
        gc.freeze()  # a full collection would delay received messages by 0.1 s
        size, rate = self._pick_size_and_rate()
        if self._reports[0]["count"] is None:
            self._render(size, rate)
        baseline = self._measure(size)
        self._play(size, rate)
        return self._summary(rate, baseline)

    # Steps of a run, in order.

    def _connect(self) -> None:
        """Show the first frame until every topic of camera and node has delivered a message.

        DDS connects each topic separately, which takes about a second.
        """
        needed = self.observer.kinds | ({"truth"} if self._reports[0]["labeled"] else set())
        deadline = time.monotonic() + _CONNECT_S
        while not needed <= self.observer.received:
            if time.monotonic() > deadline:
                missing = ", ".join(sorted(needed - self.observer.received))
                raise DemoError(
                    f"no {missing} received in {_CONNECT_S:.0f} s; the end of {self._node.log}:\n"
                    + self._node.tail()
                )
            self._show_first(self._args.size)
            self._spin_until(lambda: needed <= self.observer.received, 1.0)
        # Wait for the answer to the frame shown last, which would be counted later.
        self._measure(self._args.size)

    def _pick_size_and_rate(self) -> tuple[Size, float]:
        """Return the requested size and rate, or the largest size that the device keeps up with."""
        wanted = self._args.rate or GOOD_RATE_HZ
        measured: list[tuple[Size, float]] = []
        for size in self._sizes():
            self._measure(size)  # warms up
            stats = [self._measure(size) for _ in range(_MEASUREMENTS)]
            times = sorted(s.inference_ms + s.overhead_ms for s in stats)
            shown = self.observer.size or (0, 0)
            measured.append((shown, LOAD * 1000 / times[len(times) // 2]))
            if measured[-1][1] >= wanted:
                break
        size, rate = pick(measured, wanted)
        recorded = self._reports[0]["rate_hz"] or MAX_RATE_HZ
        picked = self._args.rate or rounded(min(rate, recorded, MAX_RATE_HZ))
        frame_ms = LOAD / rate * 1000
        print(
            f"playing {self._args.source} at {size[0]}x{size[1]} and {picked:g} Hz: the model "
            f"takes {frame_ms:.0f} ms per frame",
            flush=True,
        )
        return size, picked

    def _sizes(self) -> Iterator[Size | None]:
        """Yield the sizes to try; None is the size of the recording."""
        if self._args.size:
            yield self._args.size
        elif self._args.source == "rooms":
            yield from ROOM_SIZES
        else:
            yield None
            width, height = self.observer.size or (2, 2)
            yield max(1, width // 2), max(1, height // 2)

    def _measure(self, size: Size | None) -> FrameStats:
        """Show the first frame at this size until the node answers; return its FrameStats."""
        for timeout_s in _FRAME_S:
            stamp = self._show_first(size)
            self._spin_until(functools.partial(self.observer.stats.get, stamp), timeout_s)
            if stats := self.observer.stats.get(stamp):
                return stats
        raise DemoError(
            f"the node segments no frame; the end of {self._node.log}:\n{self._node.tail()}"
        )

    def _show_first(self, size: Size | None) -> int:
        """Make the camera publish its first frame at this size; return the stamp in ns."""
        count = len(self._reports)
        self._command({"show": size})
        self._spin_until(lambda: len(self._reports) > count, _START_S, "the camera's first frame")
        return int(self._reports[-1]["shown"])

    def _render(self, size: Size, rate: float) -> None:
        """Make the camera render rooms in advance; meanwhile it repeats its first frame."""
        self._command({"draw": size, "rate": rate})
        with _progress("rendering", None) as bar:

            def rendered() -> bool:
                report = self._reports[-1]
                if "of" in report:
                    bar.total = report["of"]
                    bar.update(report["rendered"] - bar.n)
                return "drawn" in report

            self._spin_until(rendered, _START_S, "rendering rooms")

    def _play(self, size: Size, rate: float) -> None:
        classes, described = self.observer.class_map, self._reports[0]
        assert classes is not None
        if described["labeled"] and described["label_set"] != classes.label_set:
            truth = described["label_set"] or "unknown classes, because label_set is missing"
            print(f"no mIoU: the model has classes of {classes.label_set}, ground truth of {truth}")
        self.observer.start(score=described["label_set"] == classes.label_set)
        self._command({"play": size, "rate": rate})
        expected = math.ceil(_seconds(self._args) * rate)
        if described["count"] is not None and not self._args.seconds:
            expected = min(expected, described["count"])
        self._watch(expected)

    def _watch(self, expected: int) -> None:
        """Process messages until the camera has ended and the node has finished its frames."""
        with _progress("frames", expected) as bar:
            next_sample = 0.0

            def finished() -> bool:
                nonlocal next_sample
                if time.monotonic() >= next_sample:
                    next_sample = time.monotonic() + 0.5
                    self._rss_mib += [rss for rss in [self._node.rss_mib()] if rss]
                    self._show(bar)
                return not self._camera.running

            self._spin_until(finished, math.inf)
            self._check_children()
            self._listener.join()
            self._spin_until(self._is_done, 60, "the last frame")
            self._show(bar)

    def _is_done(self) -> bool:
        """Return whether all frames of the camera are processed."""
        seen = self.observer
        answered = max(seen.rgb_headers, default=0) in seen.stats  # the newest pair wins
        inference_s = seen.stats[max(seen.stats)].inference_ms / 1000
        wait_s = _LAST_MESSAGES_S if answered else max(1.0, 3 * inference_s)
        return time.monotonic() - seen.last_activity > wait_s

    def _show(self, bar: tqdm[Any]) -> None:
        seen = self.observer
        note = f"{len(seen.labels)} labeled"
        bar.set_postfix_str(note, refresh=False)
        bar.update(len(seen.rgb_headers) - bar.n)

    def _summary(self, rate: float, baseline: FrameStats) -> dict[str, Any]:
        seen = self.observer
        stats = [s for stamp, s in sorted(seen.stats.items()) if seen.is_counted(stamp)]
        if not stats:
            raise DemoError(
                f"the node segmented none of {self._reports[-1].get('pairs_sent')} frames; the end "
                f"of {self._node.log}:\n{self._node.tail()}"
            )
        assert seen.class_map is not None and seen.size is not None
        return summarize(
            DemoRecord(
                source=self._args.source,
                model=seen.class_map.model,
                device=seen.device or self._args.device,
                size=seen.size,
                rate_hz=rate,
                camera=self._reports[-1],
                baseline=baseline,
                stats=stats,
                labels=seen.labels,
                rgb_headers=seen.rgb_headers,
                miou=seen.miou,
                rss_mib=self._rss_mib,
            )
        )

    # Helpers of the steps.

    def _listen(self) -> None:
        assert self._camera.process.stdout is not None
        for line in self._camera.process.stdout:
            self._reports.append(json.loads(line))

    def _command(self, command: dict[str, Any]) -> None:
        """Send the camera a command; `_check_children` reports a camera that has ended."""
        assert self._camera.process.stdin is not None
        with suppress(BrokenPipeError):
            self._camera.process.stdin.write(json.dumps(command) + "\n")
            self._camera.process.stdin.flush()

    def _spin_until(
        self, condition: Callable[[], object], timeout_s: float, step: str | None = None
    ) -> None:
        """Process messages until the condition holds, and print the warnings of the children.

        Raises:
            DemoError: a child ended early, or the step that ``step`` names took too long.
        """
        watch = self._check_children
        if not spin_until(self._executor, condition, timeout_s, watch) and step is not None:
            raise DemoError(f"{step} took longer than {timeout_s:.0f} s; see {self._node.log}")

    def _check_children(self) -> None:
        for child in self._children:
            # The camera ends by itself, with status 0, when it has played everything.
            if not child.running and (child is not self._camera or child.process.returncode):
                raise DemoError(
                    f"{child.module} ended (status {child.process.returncode}); the end of "
                    f"{child.log}:\n{child.tail()}"
                )
            for line in child.new_warnings():
                if NOT_CONFIGURED in line:
                    raise DemoError(f"{child.module}: {line}; see {child.log}")
                if self._camera.running or NO_PAIR not in line:  # expected after the camera's end
                    tqdm.write(line, file=sys.stderr)


def pick(measured: Sequence[tuple[Size, float]], wanted: float) -> tuple[Size, float]:
    """Return the first size that reaches the wanted rate or 3/4 of the best rate, and its rate.

    The sizes are in descending order. A smaller size is not worth it if it is hardly faster, as
    with a network of fixed input size.
    """
    enough = min(wanted, 0.75 * max(rate for _, rate in measured))
    return next((size, rate) for size, rate in measured if rate >= enough)


def _progress(what: str, total: int | None) -> tqdm[Any]:
    """Return a progress bar, which prints a line every 5 s if the output is not a terminal."""
    pause_s = 0.2 if sys.stdout.isatty() else 5.0
    return tqdm(total=total, desc=what, unit="", file=sys.stdout, mininterval=pause_s)


def _seconds(args: argparse.Namespace) -> float:
    return float(args.seconds or (_ROOMS_S if args.source == "rooms" else _RECORDING_S))


def rounded(rate: float) -> float:
    """Round a rate down to two significant digits."""
    unit = 10.0 ** (math.floor(math.log10(rate)) - 1)
    return round(math.floor(rate / unit) * unit, 6)


def _node_arguments(args: argparse.Namespace) -> list[str]:
    arguments = ["--ros-args", "--params-file", str(share_file("config/sgnet.yaml"))]
    arguments += ["-p", f"device:={args.device}"]
    return arguments + (["-p", f"model:={args.model}"] if args.model else [])


def _camera_arguments(args: argparse.Namespace) -> list[str]:
    arguments = ["--controlled", "--source", args.source, "--seconds", str(_seconds(args))]
    for name in ("rgb_topic", "depth_topic"):
        if value := getattr(args, name):
            arguments += [f"--{name.replace('_', '-')}", value]
    if args.seconds:  # a shorter recording starts again
        arguments.append("--loop")
    return arguments
