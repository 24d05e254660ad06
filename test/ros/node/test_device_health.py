"""Devices that fail, and how the node continues."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from std_srvs.srv import Trigger

from clocks import Clock
from sgnet_core.inference.segmenter import Segmenter
from sgnet_ros.node import device_health as recovery
from sgnet_ros.node.device_health import INFERENCE_ERROR, OUT_OF_MEMORY, DeviceHealth, cause_of
from sgnet_ros.system.throttle import Throttle

DEAD = "CUDA error: device-side assert triggered"


def test_a_device_has_failed_after_three_frames_and_a_second_without_a_result() -> None:
    clock = Clock()
    health = DeviceHealth(clock)
    for cause in (INFERENCE_ERROR,) * 9:
        assert not health.note(cause), "a second has not passed"
    clock.now += 1.0
    assert health.note(INFERENCE_ERROR)
    assert not health.note(INFERENCE_ERROR), "starts anew"
    clock.now += 5.0
    assert not health.note(INFERENCE_ERROR), "the second of three"
    assert health.note(INFERENCE_ERROR)


def test_a_good_frame_resets_the_failures_and_other_drops_do_not_count() -> None:
    clock = Clock()
    health = DeviceHealth(clock)
    outcomes = [INFERENCE_ERROR, INFERENCE_ERROR, None, INFERENCE_ERROR, "bad_rgb", INFERENCE_ERROR]
    for cause in outcomes:
        clock.now += 10.0
        assert not health.note(cause)
    clock.now += 10.0
    assert health.note(INFERENCE_ERROR)


def test_memory_errors_are_distinguished_and_free_cached_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    freed = []
    monkeypatch.setattr(recovery, "free_cached_memory", lambda: freed.append(True))
    assert cause_of(torch.OutOfMemoryError("CUDA out of memory")) == OUT_OF_MEMORY
    assert cause_of(RuntimeError(DEAD)) == INFERENCE_ERROR
    health = DeviceHealth()
    health.note(INFERENCE_ERROR)
    assert freed == []
    health.note(OUT_OF_MEMORY)
    assert freed == [True]


def test_a_failed_gpu_does_not_prevent_the_freeing_of_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def fail() -> None:
        asked.append(True)
        raise RuntimeError(DEAD)

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", fail)
    recovery.free_cached_memory()
    assert asked == [True]


class BrokenGpu:
    """A segmenter on a GPU that fails for as long as ``error`` is set."""

    def __init__(self, segmenter: Segmenter, error: Exception) -> None:
        self._segmenter = segmenter
        self.error: Exception | None = error
        self.device = torch.device("cuda:0")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._segmenter, name)

    def segment(self, *args: Any, **kwargs: Any) -> Any:
        if self.error is not None:
            raise self.error
        return self._segmenter.segment(*args, **kwargs)


@pytest.fixture
def model(models: dict[str, Path], tmp_path: Path) -> Path:
    """A file of its own, to be deleted."""
    return shutil.copy(models["depth"], tmp_path / "mine.safetensors")


def status(arrays: list[DiagnosticArray]) -> DiagnosticStatus:
    return arrays[-1].status[0]


def test_a_frame_that_does_not_fit_into_memory_is_lost_and_the_next_is_not(
    run_node: Any, robot: Any, scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = run_node("depth")
    robot.connect(scene.messages())
    freed = []
    monkeypatch.setattr(recovery, "free_cached_memory", lambda: freed.append(True))
    with monkeypatch.context() as patch:

        def fail(*args: Any, **kwargs: Any) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

        patch.setattr(Segmenter, "segment", fail)
        robot.send(*scene.messages())
        robot.spin_until(lambda: [m for m in robot.log if "Tried to allocate" in m.msg])
    _, stats = robot.segment(*scene.messages())
    assert dict(zip(stats.drop_causes, stats.drops, strict=True))["out_of_memory"] == 1
    assert freed == [True]
    running.stop()


def test_a_gpu_that_keeps_failing_is_replaced_by_the_cpu(
    run_node: Any, robot: Any, scene: Any, model: Path
) -> None:
    arrays = robot.listen(DiagnosticArray, "/diagnostics")
    running = run_node(model)
    robot.connect(scene.messages())
    running.node._segmenter = BrokenGpu(running.node._segmenter, RuntimeError(DEAD))
    robot.send_until(lambda: robot.labels, scene.messages())
    assert isinstance(running.node._segmenter, Segmenter)
    assert running.node._segmenter.device.type == "cpu"
    robot.spin_until(lambda: [m for m in robot.log if m.msg.startswith("on the CPU since cuda:0")])
    (line,) = [m.msg for m in robot.log if "on the CPU since" in m.msg]
    assert DEAD in line
    robot.forget()
    robot.send_until(lambda: arrays, scene.messages())
    assert status(arrays).level >= DiagnosticStatus.WARN
    assert "on the CPU since cuda:0 failed; ~/reload tries it again" in status(arrays).message
    assert robot.call(Trigger, "/sgnet/reload", Trigger.Request()).success
    arrays.clear()
    robot.send_until(lambda: arrays and robot.labels, scene.messages())
    robot.spin_until(lambda: "on the CPU since" not in status(arrays).message)
    running.stop()


def test_a_gpu_that_fails_where_depth_is_registered_is_replaced_too(
    run_node: Any, robot: Any, scene: Any, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = run_node(model)
    robot.connect(scene.messages())

    def align(_: Any, frame: Any, size: Any, depth: Any, rgb_camera: Any, segmenter: Any) -> Any:
        if segmenter.device.type == "cuda":
            raise RuntimeError(DEAD)
        return depth

    # Of the class: put back, an instance's method would be a cycle that keeps the node alive.
    monkeypatch.setattr(type(running.node._active.processor._aligner), "align", align)
    gpu = running.node._segmenter = BrokenGpu(running.node._segmenter, RuntimeError(DEAD))
    gpu.error = None
    robot.send_until(lambda: robot.labels and robot.stats, scene.messages())
    assert running.node._segmenter.device.type == "cpu"
    stats = robot.stats[-1]
    assert dict(zip(stats.drop_causes, stats.drops, strict=True))["inference_error"] >= 3
    running.stop()


def test_without_a_model_file_for_the_cpu_the_node_reports_and_keeps_trying(
    run_node: Any, robot: Any, scene: Any, model: Path
) -> None:
    arrays = robot.listen(DiagnosticArray, "/diagnostics")
    running = run_node(model)
    robot.connect(scene.messages())
    gpu = running.node._segmenter = BrokenGpu(running.node._segmenter, RuntimeError(DEAD))
    running.node._throttle = Throttle(math.inf)
    model.unlink()
    (line,) = robot.send_until(
        lambda: [m.msg for m in robot.log if "and the CPU fails too" in m.msg], scene.messages()
    )
    assert DEAD in line
    assert "mine.safetensors" in line
    robot.send_until(
        lambda: arrays and status(arrays).level == DiagnosticStatus.ERROR, scene.messages()
    )
    assert f"inference fails: tiny_depth on cuda:0: {DEAD}" in status(arrays).message
    assert robot.labels == []
    assert len([m for m in robot.log if "and the CPU fails too" in m.msg]) == 1
    gpu.error = None
    robot.send_until(lambda: robot.labels, scene.messages())
    assert running.node._segmenter is gpu
    running.stop()


def test_a_model_file_that_is_gone_leaves_the_old_model_running(
    run_node: Any, robot: Any, scene: Any, model: Path
) -> None:
    running = run_node(model)
    robot.connect(scene.messages())
    model.unlink()
    response = robot.call(Trigger, "/sgnet/reload", Trigger.Request())
    assert not response.success
    assert response.message.startswith("kept tiny_depth: ")
    assert "mine.safetensors" in response.message
    robot.forget()
    robot.segment(*scene.messages())
    running.stop()
