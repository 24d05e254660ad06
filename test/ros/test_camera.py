"""The camera as a process of its own, seen over DDS."""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rclpy
from PIL import Image as PilImage
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from sgnet_core.arguments import frame_size
from sgnet_ros import camera as camera_module
from sgnet_ros.messages.images import depth_view, rgb_view
from sgnet_ros.system import spinning
from sgnet_ros.system.qos import best_effort
from waiting import wait_until

SIZE = (16, 10)  # height, width
COUNT = 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four labeled frames, each of one color, depth and label."""
    for i in range(COUNT):
        for name, image in frame_files(i).items():
            PilImage.fromarray(image).save(tmp_path / f"{i:03d}-{name}.png")
    settings = {"K": [[20, 0, 4.5], [0, 21, 7.5], [0, 0, 1]], "label_set": "nyu40"}
    (tmp_path / "camera.json").write_text(json.dumps(settings))
    return tmp_path


def stamp_of(message: Any) -> int:
    """Return the stamp in nanoseconds."""
    return int(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)


def frame_files(i: int) -> dict[str, Any]:
    rng = np.random.default_rng(i)
    return {
        "color": rng.integers(0, 256, (*SIZE, 3), np.uint8),
        "depth": rng.integers(0, 9000, SIZE, np.uint16),
        "label": rng.integers(0, 40, SIZE, np.uint8),
    }


class Viewer:
    """A subscriber to everything that a camera publishes, in the order of arrival."""

    def __init__(self) -> None:
        self.context = Context()
        rclpy.init(context=self.context)
        self.node = Node("viewer", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.got: dict[str, list[Any]] = {}
        for topic, kind in (
            ("rgb/image_raw", Image),
            ("depth/image_raw", Image),
            ("rgb/labels", Image),
            ("rgb/camera_info", CameraInfo),
        ):
            self.got[topic] = []
            # deep enough for all that a test sends: this process may get no time for a while
            self.node.create_subscription(kind, topic, self.got[topic].append, best_effort(1000))

    def spin_until(self, condition: Any) -> None:
        wait_until(
            condition,
            lambda: self.executor.spin_once(timeout_sec=0.05),
            lambda: {topic: len(messages) for topic, messages in self.got.items()},
        )


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    viewer = Viewer()
    yield viewer
    viewer.executor.shutdown()
    viewer.node.destroy_node()
    rclpy.shutdown(context=viewer.context)


@pytest.fixture
def start() -> Iterator[Any]:
    """Yield a function that starts cameras, and end those that are left."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "sgnet_ros.camera", *arguments]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_every_frame_arrives_exactly_with_one_stamp_and_frame(
    folder: Path, viewer: Viewer, start: Any
) -> None:
    camera = start("--source", str(folder), "--rate", "10")
    viewer.spin_until(lambda: camera.poll() is not None)
    out, err = camera.communicate()
    assert camera.returncode == 0, err
    described, report = (json.loads(line) for line in out.splitlines())
    assert described == {"count": COUNT, "rate_hz": None, "labeled": True, "label_set": "nyu40"}
    assert report["pairs_sent"] == COUNT

    viewer.spin_until(lambda: all(len(m) >= COUNT for m in viewer.got.values()))
    assert {t: len(m) for t, m in viewer.got.items()} == dict.fromkeys(viewer.got, COUNT)
    for i in range(COUNT):
        rgb, depth, labels, info = (viewer.got[t][i] for t in viewer.got)
        files = frame_files(i)
        assert (rgb.encoding, depth.encoding, labels.encoding) == ("rgb8", "16UC1", "mono8")
        np.testing.assert_array_equal(rgb_view(rgb).array, files["color"])
        np.testing.assert_array_equal(depth_view(depth).array, files["depth"])
        np.testing.assert_array_equal(rgb_view(labels).array[:, :, 0], files["label"])
        assert rgb.header == depth.header == labels.header == info.header
        assert rgb.header.frame_id == "camera_color_optical_frame"
        assert (info.width, info.height) == (SIZE[1], SIZE[0])
        np.testing.assert_array_equal(info.k, [20, 0, 4.5, 0, 21, 7.5, 0, 0, 1])
        np.testing.assert_array_equal(info.p, [20, 0, 4.5, 0, 0, 21, 7.5, 0, 0, 0, 1, 0])
    stamps = list(map(stamp_of, viewer.got["rgb/labels"]))
    assert (np.diff(stamps) > 0).all()
    assert stamps[-1] - stamps[0] > (COUNT - 2) * 10**8  # a late first frame, then at 10 Hz


def test_a_controlled_camera_shows_plays_and_ends_on_ctrl_c(
    folder: Path, viewer: Viewer, start: Any
) -> None:
    camera = start("--source", str(folder), "--loop", "--controlled")
    camera.stdout.readline()  # the description
    images = viewer.got["rgb/image_raw"]
    shown = set()
    while not images:
        shown.add(json.loads(tell(camera, show=[5, 8]))["shown"])
        end = time.monotonic() + 0.5
        viewer.spin_until(lambda end=end: time.monotonic() > end)
    assert (images[-1].width, images[-1].height) == (5, 8)
    assert stamp_of(images[-1]) in shown

    def played() -> list[Any]:
        return [image for image in images if stamp_of(image) not in shown]

    tell(camera, play=None, rate=20.0, answered=False)
    viewer.spin_until(lambda: len(played()) > COUNT)
    camera.send_signal(signal.SIGINT)
    viewer.spin_until(lambda: camera.poll() is not None)
    out, err = camera.communicate()
    assert camera.returncode == 0
    assert "Traceback" not in err
    sent = json.loads(out.splitlines()[-1])["pairs_sent"]
    viewer.spin_until(lambda: len(played()) >= sent)
    assert len(played()) == sent
    for i, image in enumerate(played()):  # from the first frame on, and again, at its own size
        np.testing.assert_array_equal(rgb_view(image).array, frame_files(i % COUNT)["color"])


def test_rooms_are_rendered_while_the_first_frame_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    published: list[Any] = []

    def publish(self: camera_module.CameraDriver, frame: Any) -> int:
        published.append(frame)
        return len(published)

    monkeypatch.setattr(camera_module.CameraDriver, "publish", publish)
    monkeypatch.setattr(camera_module, "_STILL_S", 0.001)
    monkeypatch.setattr(camera_module, "_LINGER_S", 0.0)
    commands = [{"draw": [32, 24], "rate": 50.0}, {"show": [32, 24]}]
    commands.append({"play": [32, 24], "rate": 50.0})
    size = ("--size", "32x24")
    monkeypatch.setattr(sys, "argv", ["camera", "--controlled", "--seconds", "0.1", *size])
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(map(json.dumps, commands))))
    camera_module.main()
    _, *answers, report = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    count = 6  # 0.1 s at 50 Hz, and one
    shown = answers[-1]["shown"]
    drawing = [{"rendered": n + 1, "of": count} for n in range(count)]
    assert answers == [*drawing, {"drawn": count}, {"shown": shown}]
    assert shown > 1, "while the rooms were drawn, too"
    first, played = published[0], published[shown:]
    assert all(np.array_equal(frame.rgb, first.rgb) for frame in published[:shown])
    assert report["pairs_sent"] == len(played) > 0
    np.testing.assert_array_equal(played[0].rgb, first.rgb)
    if len(played) > 1:  # a busy machine may play one only
        assert not np.array_equal(played[1].rgb, first.rgb)


def test_a_line_is_written_completely_despite_an_interrupt(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def write(self, text: str) -> int:
            if "shown" in text:
                os.kill(os.getpid(), signal.SIGINT)
            return super().write(text)

    written = Terminal()
    command = io.StringIO(json.dumps({"show": None}))
    monkeypatch.setattr(sys, "argv", ["camera", "--source", str(folder), "--controlled"])
    monkeypatch.setattr(sys, "stdin", command)
    monkeypatch.setattr(sys, "stdout", written)
    camera_module.main()
    _, shown, report = map(json.loads, written.getvalue().splitlines())
    assert shown["shown"] > 0
    assert report == {"pairs_sent": 0, "late": 0}


def test_a_pair_is_sent_completely_and_counted_despite_an_interrupt(
    folder: Path,
    viewer: Viewer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    published: list[int] = []

    def publish(self: camera_module.CameraDriver, frame: Any) -> int:
        if len(published) == COUNT:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)  # Python runs the handler between these lines
        published.append(0)
        return 0

    monkeypatch.setattr(camera_module.CameraDriver, "publish", publish)
    monkeypatch.setattr(camera_module, "_SUBSCRIBER_WAIT_S", 0.1)
    arguments = ["camera", "--source", str(folder), "--loop", "--rate", "100"]
    monkeypatch.setattr(sys, "argv", arguments)
    camera_module.main()
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["pairs_sent"] == len(published) == COUNT + 1
    viewer.spin_until(lambda: viewer.node.count_publishers("rgb/image_raw") == 0)


def tell(camera: subprocess.Popen[str], answered: bool = True, **command: Any) -> str:
    """Write a command and return the answer."""
    assert camera.stdin is not None and camera.stdout is not None
    camera.stdin.write(json.dumps(command) + "\n")
    camera.stdin.flush()
    return camera.stdout.readline() if answered else ""


def test_a_controlled_camera_ends_with_its_commands(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["camera", "--source", str(folder), "--controlled"])
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"show": null}\n'))
    camera_module.main()
    _, shown, report = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert shown["shown"] > 10**18
    assert report["pairs_sent"] == 0  # what is shown doesn't count


def test_the_camera_keeps_its_rate_and_stops_after_the_given_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ticks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: 0.004 * next(ticks))  # a machine that is never busy
    for module in (camera_module, spinning):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(camera_module, "_SUBSCRIBER_WAIT_S", 0.0)
    monkeypatch.setattr(camera_module, "_LINGER_S", 0.0)
    arguments = ["--source", str(folder), "--rate", "50", "--loop", "--seconds", "0.5"]
    monkeypatch.setattr(sys, "argv", ["camera", *arguments])
    camera_module.main()
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report == {"pairs_sent": 25, "late": 0}


def test_a_source_that_cannot_be_played_is_one_line_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["camera", "--source", str(tmp_path / "nothing")])
    with pytest.raises(SystemExit) as stopped:
        camera_module.main()
    assert stopped.value.code == (
        f"[ERROR] {tmp_path / 'nothing'} does not exist; give `rooms`, a folder of images, or a bag"
    )


@pytest.mark.parametrize("text", ["", "640", "640x", "x480", "0x480", "-1x3", "1.5x2", "axb"])
def test_sizes_are_checked(text: str) -> None:
    assert frame_size("640x480") == frame_size("640X480") == (640, 480)
    with pytest.raises(argparse.ArgumentTypeError, match="must be WxH"):
        frame_size(text)
