"""The node as its users start it: a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sensor_msgs.msg import Image

from robots import Scene, pixels
from sgnet_core.inference.segmenter import Segmenter
from sgnet_ros.messages.camera_model import intrinsics_of
from sgnet_ros.node import __main__ as entry
from sgnet_ros.node import process as node_process
from waiting import wait_until

ROOT = Path(__file__).resolve().parents[3]


class Process:
    """``python -m sgnet_ros.node --ros-args ...``, with what it writes in a file."""

    def __init__(self, log: Path, *ros_args: str) -> None:
        self.log = log
        command = [sys.executable, "-m", "sgnet_ros.node", "--ros-args", *ros_args]
        with log.open("w") as file:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)

    def wait_for(self, words: str) -> str:
        """The text so far, once it holds the words."""
        wait_until(
            lambda: words in self.log.read_text() or self.process.poll() is not None,
            told=self.log.read_text,
        )
        text = self.log.read_text()
        assert words in text
        return text


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(*ros_args: str) -> Process:
        started.append(Process(tmp_path / f"node{len(started)}.log", *ros_args))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


def test_pairs_of_another_process_come_back_as_its_own_label_images(
    start: Any, robot: Any, models: dict[str, Path], segmenters: dict[str, Segmenter]
) -> None:
    node = start(
        *("--params-file", "config/sgnet.yaml", "-p", f"model:={models['points']}"),
        *("-p", "device:=cpu"),
    )
    segmenter = segmenters["points"]
    scenes = [Scene(120, 160, seed) for seed in range(10)]
    colors = robot.listen(Image, "/sgnet/color")

    def connected() -> bool:
        robot.info.publish(scenes[0].camera_info())
        return bool(robot.stats and robot.labels and colors)

    robot.send_until(connected, scenes[0].messages())
    labels, _ = robot.segment(*scenes[0].messages())
    robot.spin_until(lambda: colors[-1].header.stamp == labels.header.stamp)
    robot.forget()
    camera = intrinsics_of(scenes[0].camera_info(), 160, 120)
    palette = np.array(segmenter.labels.colors, np.uint8)
    for scene in scenes:
        rgb, depth = scene.messages()
        labels, _ = robot.segment(rgb, depth)
        stamp = rgb.header.stamp
        robot.spin_until(lambda s=stamp: colors and colors[-1].header.stamp == s)
        assert labels.header == colors[-1].header == rgb.header
        expected = segmenter.segment(scene.rgb, scene.depth, camera).labels
        np.testing.assert_array_equal(pixels(labels), expected)
        np.testing.assert_array_equal(pixels(colors[-1], 3), palette[expected])
    assert len(robot.labels) == len(robot.stats) == len(colors) == 10
    stamps = [(m.header.stamp.sec, m.header.stamp.nanosec) for m in robot.labels]
    assert stamps == sorted(set(stamps))
    node.process.send_signal(signal.SIGINT)
    assert node.process.wait() == 0
    text = node.log.read_text()
    assert "Traceback" not in text
    lines = [line.split("]: ", 1)[1] for line in text.splitlines()]
    # Until the camera is found, which may take a while.
    start_up = ("no_camera_info", "no RGB-D pair", "RGB-D pairs arrive again", "a camera")
    assert [
        line.split(":")[0]
        for line in lines
        if line.startswith("inactive") or not any(words in line for words in start_up)
    ] == ["model tiny_points ready on cpu", "active", "inactive"], (
        "one line per state change, none per frame"
    )


HANGING = """
import sys, threading
from sgnet_core.inference.segmenter import Segmenter
from sgnet_ros.node import lifecycle, process

def hang(*args, **kwargs):
    print("hanging", flush=True)
    threading.Event().wait()

lifecycle._STOP_TIMEOUT_S = process._STOP_TIMEOUT_S = 1.0
Segmenter.segment = hang
Segmenter.warm_up = lambda *size: None
sys.exit(process.main())
"""


@contextlib.contextmanager
def hanging_node(
    code: str, log: Path, robot: Any, scene: Any, model: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `HANGING`, or a variant of it, until its inference hangs or it has ended."""
    ros_args = ("--ros-args", "-p", f"model:={model}", "-p", "device:=cpu")
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *ros_args], cwd=ROOT, stdout=file, stderr=file
        )
    try:
        robot.send_until(
            lambda: "hanging" in log.read_text() or process.poll() is not None, scene.messages()
        )
        yield process
    finally:
        process.kill()
        process.wait()


def test_ctrl_c_ends_a_node_whose_inference_hangs(
    tmp_path: Path, robot: Any, scene: Any, models: dict[str, Path]
) -> None:
    log = tmp_path / "log"
    with hanging_node(HANGING, log, robot, scene, models["depth"]) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    text = log.read_text()
    assert "does not return" in text
    assert "Traceback" not in text


LOADING = """
import ctypes, sys
from sgnet_ros.node import lifecycle, process

def hang(*args):
    print("hanging", flush=True)
    lock, mutex = ctypes.CDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(256)
    lock(mutex)
    lock(mutex)  # Python handles no signal in here

process._LONGEST_END_S = 1.0
lifecycle.load_segmenter = hang
sys.exit(process.main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="locks a mutex of glibc")
def test_a_signal_ends_a_node_that_hangs_in_a_call_of_its_main_thread(
    tmp_path: Path, robot: Any, scene: Any, models: dict[str, Path]
) -> None:
    with hanging_node(LOADING, tmp_path / "log", robot, scene, models["depth"]) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM


@pytest.mark.slow
def test_a_second_ctrl_c_ends_a_node_that_waits_for_its_inference(
    tmp_path: Path, robot: Any, scene: Any, models: dict[str, Path]
) -> None:
    log = tmp_path / "log"
    patient = HANGING.replace("_STOP_TIMEOUT_S = 1.0", "_STOP_TIMEOUT_S = 1e6")
    with hanging_node(patient, log, robot, scene, models["depth"]) as process:
        wait_until(lambda: process.poll() is not None, lambda: process.send_signal(signal.SIGINT))
        assert process.returncode == 128 + signal.SIGINT
    assert "Traceback" not in log.read_text()


@pytest.fixture
def handlers() -> Iterator[None]:
    """Put the handlers of signals back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_signals_within_two_seconds_of_the_first_are_one_ctrl_c(
    handlers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal and the launcher each send one."""
    clock, exits = SimpleNamespace(now=0.0), []
    monkeypatch.setattr(node_process, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(os, "_exit", exits.append)
    with pytest.raises(KeyboardInterrupt):
        node_process._interrupt(signal.SIGINT, None)
    for clock.now in (0.0, 1.0, 2.0, 2.1):
        assert exits == []
        signal.raise_signal(signal.SIGTERM)
    assert exits == [128 + signal.SIGTERM]


def test_a_node_ends_with_the_right_status(start: Any, models: dict[str, Path]) -> None:
    """Started together: most of the time goes into loading PyTorch."""
    running = start(
        *("-p", f"model:={models['depth']}", "-p", "device:=cpu"),
        *("-r", "rgb/image_raw:=/front/color/image_raw", "-r", "__node:=segmenter"),
        *("-r", "depth/image_raw:=/front/aligned_depth/image_raw"),
    )
    without_model = start("-p", "model:=/nowhere/model.safetensors")
    without_model.wait_for("not configured: ")
    without_model.process.send_signal(signal.SIGINT)
    assert without_model.process.wait() == 0
    assert "/nowhere/model.safetensors" in without_model.log.read_text()
    text = running.wait_for("active:")
    assert "[segmenter]" in text
    assert "/front/color/image_raw, /front/aligned_depth/image_raw" in text
    for _ in range(2):  # as Ctrl-C does that reaches the launcher and the node
        running.process.send_signal(signal.SIGTERM)
        time.sleep(0.02)
    assert running.process.wait() == 0
    for each in (running, without_model):
        assert "Traceback" not in each.log.read_text()


def test_a_parameter_out_of_range_is_told_and_ends_the_node(start: Any) -> None:
    node = start("-p", "slop:=3.0")
    assert node.process.wait() == 1
    assert "slop" in node.log.read_text()


ENTRIES = {
    "module": ["-m", "sgnet_ros.node"],
    "console script": [
        "-c",
        "import sys; from sgnet_ros.node.__main__ import main; sys.exit(main())",
    ],
}


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
@pytest.mark.parametrize("entry", list(ENTRIES))
def test_ctrl_c_while_pytorch_is_imported_leaves_no_traceback(entry: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as file:
        command = [sys.executable, *ENTRIES[entry], "--ros-args", "-p", "autostart:=false"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)
    maps = Path(f"/proc/{process.pid}/maps")
    try:
        wait_until(lambda: "libtorch" in maps.read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait() in (-signal.SIGINT, 130, 0)
    finally:
        process.kill()
        process.wait()
    assert log.read_text() == ""


@pytest.mark.parametrize(("given", "seen"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_leave_the_cores_to_others(
    monkeypatch: pytest.MonkeyPatch, given: str | None, seen: str
) -> None:
    """OpenMP reads the variable when PyTorch is loaded, which importing the process does."""
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    found: list[str] = []
    main = lambda: found.append(os.environ["OMP_WAIT_POLICY"])  # noqa: E731
    monkeypatch.setitem(sys.modules, "sgnet_ros.node.process", SimpleNamespace(main=main))
    entry.main()
    assert found == [seen]


def test_help_explains_and_starts_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    monkeypatch.setitem(sys.modules, "sgnet_ros.node.process", None)  # importing it is an error
    monkeypatch.setattr(sys, "argv", ["sgnet", "--help", "--ros-args", "-p", "device:=cpu"])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(words in text for words in ("--params-file", "-p NAME:=VALUE", "rgb/image_raw"))
