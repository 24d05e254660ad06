"""Nodes that are started, stopped and made to wait."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo
from std_srvs.srv import Trigger

from robots import pixels
from sgnet_core.inference.segmenter import Segmenter
from sgnet_ros.messages.camera_model import intrinsics_of
from sgnet_ros.node import lifecycle as node_module
from sgnet_ros.system.names import OUTPUTS
from waiting import PATIENCE_S


def change(robot: Any, transition: int) -> bool:
    request = ChangeState.Request(transition=Transition(id=transition))
    return robot.call(ChangeState, "/sgnet/change_state", request).success


def state(robot: Any) -> str:
    return robot.call(GetState, "/sgnet/get_state", GetState.Request()).current_state.label


def test_the_lifecycle_starts_and_stops_the_node_and_frees_the_model(
    run_node: Any, robot: Any, scene: Any, models: dict[str, Path]
) -> None:
    running = run_node("/nowhere.safetensors", autostart=False)
    reports = robot.listen(DiagnosticArray, "/diagnostics")
    response = robot.call(Trigger, "/sgnet/reload", Trigger.Request())
    assert not response.success
    assert "not configured" in response.message
    assert not change(robot, Transition.TRANSITION_CONFIGURE)
    robot.spin_until(
        lambda: [r for r in reports if any("/nowhere.safetensors" in s.message for s in r.status)]
    )
    assert state(robot) == "unconfigured"
    running.node.set_parameters([Parameter("model", value=str(models["depth"]))])
    assert change(robot, Transition.TRANSITION_CONFIGURE)
    assert robot.count_subscribers("/rgb/image_raw") == 0, "inactive nodes do not listen"
    for _ in range(2):
        assert change(robot, Transition.TRANSITION_ACTIVATE)
        robot.forget()
        robot.send_until(lambda: robot.stats, scene.messages())
        assert "segmentation" in {thread.name for thread in threading.enumerate()}
        assert change(robot, Transition.TRANSITION_DEACTIVATE)
        assert "segmentation" not in {thread.name for thread in threading.enumerate()}
        robot.spin_until(lambda: robot.rgb.get_subscription_count() == 0)
        robot.spin_for(0.2)
        robot.forget()
        robot.send(*scene.messages())
        robot.spin_for(0.3)
        assert robot.labels == [], "nothing comes from an inactive node"
    assert change(robot, Transition.TRANSITION_CLEANUP)
    assert running.node._segmenter is None
    robot.spin_until(lambda: robot.count_publishers("/sgnet/labels") == 0)
    assert change(robot, Transition.TRANSITION_CONFIGURE)
    assert state(robot) == "inactive"
    assert change(robot, Transition.TRANSITION_INACTIVE_SHUTDOWN)
    assert state(robot) == "finalized"
    robot.spin_until(lambda: reports[-1].status[0].message.startswith("finalized"))
    running.stop()


def test_the_node_uses_the_given_outputs_and_backend(run_node: Any, robot: Any, scene: Any) -> None:
    running = run_node("depth", autostart=False, backend="onnx", outputs=["labels", "color"])
    assert not change(robot, Transition.TRANSITION_CONFIGURE)
    robot.spin_until(lambda: [m for m in robot.log if "backend onnx cannot run" in m.msg])
    assert running.node.set_parameters([Parameter("backend", value="torch")])[0].successful
    assert change(robot, Transition.TRANSITION_CONFIGURE)
    counts = {n: robot.count_publishers(f"/sgnet/{n}") for n in OUTPUTS}
    assert counts == dict.fromkeys(OUTPUTS, 0) | {"labels": 1, "color": 1}
    assert change(robot, Transition.TRANSITION_ACTIVATE)
    robot.send_until(lambda: robot.stats, scene.messages())
    assert running.node._segmenter.backend == "torch"
    running.stop()


def test_a_model_guided_by_points_waits_for_a_calibrated_camera(
    run_node: Any, robot: Any, scene: Any, segmenters: dict[str, Segmenter]
) -> None:
    arrays = robot.listen(DiagnosticArray, "/diagnostics")

    def last_error() -> str:
        values = {v.key: v.value for v in arrays[-1].status[0].values} if arrays else {}
        return values.get("last error", "")

    def focal_length_known_to(running: Any) -> float | None:
        info = running.node._active.inputs.rgb_infos.newest
        return None if info is None else info.k[0]

    running = run_node("points")
    (warning,) = robot.send_until(
        lambda: [m.msg for m in robot.log if "no_camera_info" in m.msg], scene.messages()
    )
    assert "nothing received on /rgb/camera_info" in warning
    assert "remap rgb/camera_info" in warning
    robot.info.publish(CameraInfo(width=80, height=60))  # uncalibrated
    robot.send_until(lambda: "K[0] is 0" in last_error(), scene.messages())
    assert robot.labels == []
    for f in (70.0, 200.0):
        info = scene.camera_info()
        info.k[0] = f
        robot.info.publish(info)
        robot.spin_until(lambda f=f: focal_length_known_to(running) == f)
        camera = intrinsics_of(info, 80, 60)
        labels, _ = robot.segment(*scene.messages())
        expected = segmenters["points"].segment(scene.rgb, scene.depth, camera).labels
        np.testing.assert_array_equal(pixels(labels), expected)
        robot.spin_for(0.1)
    first, last = robot.labels[0], robot.labels[-1]
    assert (pixels(first) != pixels(last)).any(), "other rays, other labels"
    running.stop()


def test_a_model_guided_by_depth_needs_no_camera_info(
    run_node: Any, robot: Any, scene: Any
) -> None:
    running = run_node("depth")
    robot.info.publish(CameraInfo())  # uncalibrated
    robot.send_until(lambda: robot.labels and robot.stats, scene.messages())
    assert list(robot.stats[-1].drop_causes) in ([], ["overload"])
    running.stop()


@pytest.mark.parametrize("frozen", [False, True])
def test_cleanup_frees_the_model(run_node: Any, robot: Any, scene: Any, frozen: bool) -> None:
    running = run_node("depth")
    robot.connect(scene.messages())
    segmenter = running.node._segmenter
    segmenter.itself = segmenter  # a cycle, that reference counting doesn't free
    segmenter_left, network_left = weakref.ref(segmenter), weakref.ref(segmenter.model)
    del segmenter
    gc.unfreeze()  # what a test before this one may have frozen
    if frozen:
        gc.freeze()  # as the node's process does
    try:
        assert change(robot, Transition.TRANSITION_DEACTIVATE)
        assert segmenter_left() is not None
        assert change(robot, Transition.TRANSITION_CLEANUP)
        assert segmenter_left() is network_left() is None
        assert bool(gc.get_freeze_count()) == frozen
    finally:
        gc.unfreeze()
    running.stop()


def test_an_activation_that_fails_leaves_nothing_and_can_be_repeated(
    run_node: Any, robot: Any, scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = run_node("depth", autostart=False)
    assert change(robot, Transition.TRANSITION_CONFIGURE)
    with monkeypatch.context() as patch:

        def fail(*args: Any, **kwargs: Any) -> None:
            raise RuntimeError("no more threads")

        patch.setattr("sgnet_ros.node.inputs.PairSynchronizer", fail)
        assert not change(robot, Transition.TRANSITION_ACTIVATE)
    assert state(robot) == "unconfigured"
    robot.spin_until(lambda: [m for m in robot.log if "not activated: no more threads" in m.msg])
    robot.spin_until(lambda: robot.count_subscribers("/rgb/image_raw") == 0)
    assert change(robot, Transition.TRANSITION_CONFIGURE)
    assert change(robot, Transition.TRANSITION_ACTIVATE)
    robot.forget()
    robot.send_until(lambda: robot.labels, scene.messages())
    running.stop()


def test_inference_that_hangs_does_not_block_the_node(
    run_node: Any, robot: Any, scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sgnet_ros.node.lifecycle._STOP_TIMEOUT_S", 0.2)
    running = run_node("depth")
    robot.connect(scene.messages())
    hanging, goes_on = threading.Event(), threading.Event()
    segmenter = running.node._segmenter
    segment = segmenter.segment

    def hang(*args: Any, **kwargs: Any) -> Any:
        hanging.set()
        assert goes_on.wait(PATIENCE_S)
        return segment(*args, **kwargs)

    segmenter.segment = hang
    robot.send_until(hanging.is_set, scene.messages())
    (thread,) = (t for t in threading.enumerate() if t.name == "segmentation")
    counters = running.node._active.processor.counters
    assert not change(robot, Transition.TRANSITION_DEACTIVATE)
    assert state(robot) == "unconfigured"
    assert counters.counts().drops["hangs"] == 1
    robot.spin_until(lambda: [m for m in robot.log if "does not return" in m.msg])
    assert change(robot, Transition.TRANSITION_CONFIGURE)
    assert change(robot, Transition.TRANSITION_ACTIVATE)
    robot.connect(scene.messages())
    goes_on.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    robot.spin_for(0.5)
    assert counters.counts().drops["hangs"] == 1
    warnings = [m.msg for m in robot.log if m.level >= m.WARN and "RGB-D pair" not in m.msg]
    assert warnings == [], "its end is nobody's business"
    running.stop()


class HeldLoader:
    """In the place of the loading of models: waits to be released."""

    def __init__(self, load: Callable[[Any, Any], Segmenter]) -> None:
        self._load = load
        self.begun, self.release = threading.Event(), threading.Event()

    def __call__(self, settings: Any, say: Any) -> Segmenter:
        self.begun.set()
        assert self.release.wait(PATIENCE_S)
        return self._load(settings, say)


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> Callable[[], HeldLoader]:
    def loader() -> HeldLoader:
        held = HeldLoader(node_module.load_segmenter)
        monkeypatch.setattr(node_module, "load_segmenter", held)
        return held

    return loader


def test_frames_go_on_while_a_model_is_loaded(
    run_node: Any, robot: Any, scene: Any, loader: Any
) -> None:
    running = run_node("depth")
    robot.connect(scene.messages())
    held, old = loader(), running.node._segmenter
    client = robot.create_client(Trigger, "/sgnet/reload")
    robot.spin_until(client.service_is_ready)
    answer = client.call_async(Trigger.Request())
    robot.spin_until(held.begun.is_set)
    for _ in range(5):
        robot.segment(*scene.messages())
    assert running.node._segmenter is old
    assert not answer.done()
    held.release.set()
    robot.spin_until(answer.done)
    assert answer.result().success
    assert running.node._segmenter is not old
    robot.segment(*scene.messages())
    robot.destroy_client(client)
    running.stop()


def test_a_model_loaded_after_the_cleanup_is_discarded(
    run_node: Any, robot: Any, scene: Any, loader: Any
) -> None:
    running = run_node("depth")
    robot.connect(scene.messages())
    held = loader()
    client = robot.create_client(Trigger, "/sgnet/reload")
    robot.spin_until(client.service_is_ready)
    answer = client.call_async(Trigger.Request())
    robot.spin_until(held.begun.is_set)
    assert change(robot, Transition.TRANSITION_DEACTIVATE)
    assert change(robot, Transition.TRANSITION_CLEANUP)
    held.release.set()
    robot.spin_until(answer.done)
    assert not answer.result().success
    assert "cleaned up" in answer.result().message
    assert running.node._segmenter is None
    assert state(robot) == "unconfigured"
    robot.destroy_client(client)
    running.stop()


def test_a_loader_that_hangs_does_not_block_the_end_of_the_node(
    run_node: Any, robot: Any, scene: Any, loader: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sgnet_ros.node.lifecycle._STOP_TIMEOUT_S", 1e6)
    running = run_node("depth")
    held = loader()
    client = robot.create_client(Trigger, "/sgnet/reload")
    robot.spin_until(client.service_is_ready)
    client.call_async(Trigger.Request())
    robot.spin_until(held.begun.is_set)
    running.node.stop(0.2)  # as the node's process does, with the rest of its time
    running.stop()
    held.release.set()
    robot.destroy_client(client)


def test_a_model_that_cannot_be_loaded_is_an_error_on_diagnostics_until_one_is_loaded(
    run_node: Any, robot: Any, models: dict[str, Path]
) -> None:
    arrays = robot.listen(DiagnosticArray, "/diagnostics")
    running = run_node("/nowhere.safetensors", autostart=False)
    assert not change(robot, Transition.TRANSITION_CONFIGURE)

    def status() -> Any:
        return arrays and arrays[-1].status[0]

    robot.spin_until(lambda: status() and "not configured: " in status().message)
    assert status().level == DiagnosticStatus.ERROR
    assert "/nowhere.safetensors" in status().message
    running.node.set_parameters([Parameter("model", value=str(models["depth"]))])
    robot.spin_for(0.2)
    running.node.parameters._settings = replace(
        running.node.parameters.settings, model=str(models["depth"])
    )
    assert change(robot, Transition.TRANSITION_CONFIGURE)
    robot.spin_until(lambda: status().level == DiagnosticStatus.OK)
    running.stop()


def test_frames_leave_no_line_in_the_log(run_node: Any, robot: Any, scene: Any) -> None:
    running = run_node("depth")
    robot.connect(scene.messages())
    for _ in range(30):
        robot.segment(*scene.messages())
    robot.spin_for(0.3)
    lines = [m.msg for m in robot.log if m.name == "sgnet"]
    assert [line for line in lines if "RGB-D pair" not in line] == [], "pauses aside"
    running.stop()
