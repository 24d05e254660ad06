"""Several cameras in one process: one model, taken in turn."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from sensor_msgs.msg import Image

from robots import Scene, pixels, stamped
from sgnet_core.inference.segmenter import Segmenter
from sgnet_ros.node.sharing import Models, Turns
from sgnet_ros.node.worker import Worker
from sgnet_ros.system.names import camera_names
from waiting import PATIENCE_S, wait_until


class Model:
    """Stands in for a loaded model."""


def test_the_same_file_run_in_the_same_way_is_one_model(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"one")
    link = tmp_path / "link.safetensors"
    link.symlink_to(file)
    models, loads = Models(), []

    def get(path: Path, device: str = "cpu", *how: str) -> Any:
        def load() -> Any:
            loads.append(path)
            return Model()

        precision, backend = how or ("auto", "auto")
        return models.get(str(path), device, precision, backend, load)

    first = get(file)
    assert get(file) is first
    assert get(link) is first
    assert get(file, "cuda") is not first
    assert get(file, "cpu", "fp32", "auto") is not first
    assert get(file, "cpu", "auto", "torch") is not first
    file.write_bytes(b"another")
    second = get(file)
    assert second is not first
    assert get(file) is second
    assert len(loads) == 5


def test_a_model_without_users_is_freed(tmp_path: Path) -> None:
    models, loads = Models(), []

    def load() -> Any:
        loads.append(1)
        return Model()

    models.get(str(tmp_path / "gone"), "cpu", "auto", "auto", load)
    gc.collect()
    kept = models.get(str(tmp_path / "gone"), "cpu", "auto", "auto", load)
    assert len(loads) == 2
    assert models.get(str(tmp_path / "gone"), "cpu", "auto", "auto", load) is kept


def test_a_model_that_could_not_be_loaded_is_loaded_again() -> None:
    def fail() -> Any:
        raise ValueError("no such device")

    models = Models()
    for _ in range(2):
        with pytest.raises(ValueError, match="no such device"):
            models.get("", "cuda", "auto", "auto", fail)


def test_a_load_that_hangs_blocks_only_nodes_that_need_that_model(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("hangs.safetensors", "works.safetensors")]
    for file in files:
        file.write_bytes(b"one")
    models, begun, released = Models(), threading.Event(), threading.Event()
    loads: list[str] = []
    got: dict[str, Any] = {}

    def hang() -> Any:
        loads.append("hangs")
        begun.set()
        assert released.wait(PATIENCE_S)
        return Model()

    def work() -> Any:
        loads.append("works")
        return Model()

    def get(camera: str, file: Path, load: Any) -> threading.Thread:
        def run() -> None:
            got[camera] = models.get(str(file), "cpu", "auto", "auto", load)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    first = get("front", files[0], hang)
    assert begun.wait(PATIENCE_S)
    second = get("rear", files[0], hang)  # the same file: it waits for the same load
    get("left", files[1], work).join(PATIENCE_S)
    get("right", files[1], work).join(PATIENCE_S)
    assert got["left"] is got["right"] and set(got) == {"left", "right"}
    models.forget(got["left"])
    get("left", files[1], work).join(PATIENCE_S)
    assert got["left"] is not got["right"]
    released.set()
    first.join(PATIENCE_S)
    second.join(PATIENCE_S)
    assert got["front"] is got["rear"]
    assert loads == ["hangs", "works", "works"]


def test_cameras_take_turns_and_each_gives_its_newest_frame() -> None:
    """Three cameras that always have a frame ready: none is served twice while another waits."""
    turns, served = Turns(PATIENCE_S), []
    entered, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def consumer(name: str) -> Any:
        def consume(number: int) -> None:
            served.append((name, number))
            entered.release()
            assert go_on.acquire(timeout=PATIENCE_S)

        return consume

    workers = {
        name: Worker(consumer(name), lambda error: None, name, turns=turns) for name in "abc"
    }
    for number in range(10):
        for worker in workers.values():
            worker.offer(number)
        assert entered.acquire(timeout=PATIENCE_S)
        wait_until(lambda: len(turns._queue) == 3)  # the two others wait for their turns
        assert len(served) == number + 1, "one at a time"
        go_on.release()
    go_on.release(10)
    for worker in workers.values():
        worker.stop()
    first = [name for name, _ in served[:3]]
    assert sorted(first) == ["a", "b", "c"]
    assert served[1:10] == [(first[number % 3], number) for number in range(1, 10)]


def test_a_canceled_turn_passes_on() -> None:
    turns = Turns(PATIENCE_S)
    assert turns.wait("hanging")
    assert not turns.wait("impatient", lambda: True)
    got: list[bool] = []
    thread = threading.Thread(target=lambda: got.append(turns.wait("next")))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    turns.leave("hanging")
    thread.join(PATIENCE_S)
    assert got == [True]
    turns.leave("hanging")  # when it comes back after all, the turn of the next one stays
    assert turns._queue[0] == "next"


def test_a_camera_whose_inference_hangs_does_not_block_the_others() -> None:
    turns, goes_on, served = Turns(PATIENCE_S), threading.Event(), threading.Event()
    entered = threading.Event()

    def hang(item: int) -> None:
        entered.set()
        assert goes_on.wait(PATIENCE_S)

    hanging = Worker(hang, lambda error: None, "hanging", turns=turns)
    other = Worker(lambda item: served.set(), lambda error: None, "other", turns=turns)
    hanging.offer(1)
    assert entered.wait(PATIENCE_S)
    other.offer(1)
    assert not served.wait(0.05)
    hanging.stop(0.05)
    assert hanging.consuming
    assert served.wait(PATIENCE_S)
    goes_on.set()
    served.clear()
    other.offer(2)
    assert served.wait(PATIENCE_S)
    other.stop(PATIENCE_S)


def test_a_worker_that_waits_for_its_turn_stops_at_once() -> None:
    turns = Turns(PATIENCE_S)
    assert turns.wait("another")
    worker = Worker(lambda item: None, lambda error: None, "waiting", turns=turns)
    worker.offer(1)
    worker.stop(PATIENCE_S)
    assert "waiting" not in {thread.name for thread in threading.enumerate()}
    assert list(turns._queue) == ["another"]


def test_a_model_that_hangs_is_loaded_again(tmp_path: Path) -> None:
    models = Models()
    asked = (str(tmp_path / "model"), "cpu", "auto", "auto", Model)
    hanging: Any = models.get(*asked)
    assert models.get(*asked) is hanging
    models.forget(hanging)
    assert models.get(*asked) is not hanging


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("front", ["front"]),
        ("front rear", ["front", "rear"]),
        ("[front, rear]", ["front", "rear"]),
        ("['front','robot1/rear']", ["front", "robot1/rear"]),
        (" /front/ , rear ", ["front", "rear"]),
        ("[]", []),
    ],
)
def test_camera_names_are_read(text: str, names: list[str]) -> None:
    assert camera_names(text) == names


@pytest.mark.parametrize(
    ("text", "words"), [("front 2nd", "'2nd' is not a namespace"), ("a b a", "'a' is named twice")]
)
def test_invalid_camera_names_are_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        camera_names(text)


def test_a_turn_that_does_not_end_blocks_the_others_until_the_limit() -> None:
    turns, served = Turns(limit_s=0.2), []
    assert turns.wait("hung")
    for name in ("front", "rear", "front"):
        begin = time.monotonic()
        assert turns.wait(name)
        served.append(time.monotonic() - begin)
        turns.leave(name)
    assert served[0] >= 0.15, "the limit is waited for once"
    assert turns.wait("rear")
    turns.leave("hung")  # it comes back when its turn is long over
    waiting = threading.Thread(target=turns.wait, args=("front",), daemon=True)
    waiting.start()
    waiting.join(0.05)
    turns.leave("rear")
    waiting.join(PATIENCE_S)
    assert not waiting.is_alive()


def test_two_cameras_of_one_process_answer_each_under_its_name(
    robot: Any, models: dict[str, Path], segmenters: dict[str, Segmenter], tmp_path: Path
) -> None:
    names = ("front", "rear")
    log = tmp_path / "log"
    command = [
        *(sys.executable, "-m", "sgnet_ros.node", "--ros-args", "-p", "cameras:=[front, rear]"),
        *("-r", "__ns:=/robot"),
        *("-p", f"model:={models['depth']}", "-p", "device:=cpu"),
    ]
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        senders = {
            n: [
                robot.create_publisher(Image, f"/robot/{n}/{t}/image_raw", 10)
                for t in ("rgb", "depth")
            ]
            for n in names
        }
        received = {n: robot.listen(Image, f"/robot/{n}/sgnet/labels") for n in names}
        scenes = {n: Scene(seed=seed) for seed, n in enumerate(names)}

        def send() -> None:
            assert process.poll() is None, log.read_text()
            for name in names:
                stamp_ns = robot.next_stamp()
                for message, sender in zip(scenes[name].messages(), senders[name], strict=True):
                    sender.publish(stamped(message, stamp_ns, name))
            robot.spin_for(0.2)

        wait_until(lambda: all(received.values()), send, log.read_text)
        for name in names:
            scene, labels = scenes[name], received[name][-1]
            expected = segmenters["depth"].segment(scene.rgb, scene.depth).labels
            np.testing.assert_array_equal(pixels(labels), expected)
            assert labels.header.frame_id == name
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
        text = log.read_text()
        assert "Traceback" not in text
        for name in names:
            assert f"[robot.{name}.sgnet]: inactive" in text
    finally:
        process.kill()
        process.wait()


LOADING = """
import sys
import torch
from sgnet_ros.node import lifecycle, process

load = lifecycle.load_segmenter

def hang_on_one_file(settings, say):
    if settings.model.endswith("hangs.safetensors"):
        print("loading", flush=True)
        image, weight = torch.rand(1, 8, 256, 256), torch.rand(8, 8, 3, 3)
        while True:
            torch.conv2d(image, weight)
    return load(settings, say)

lifecycle.load_segmenter = hang_on_one_file
sys.exit(process.main())
"""


def test_a_camera_whose_model_does_not_load_does_not_block_the_others(
    robot: Any, models: dict[str, Path], tmp_path: Path
) -> None:
    log, hangs, parameters = (tmp_path / n for n in ("log", "hangs.safetensors", "node.yaml"))
    hangs.write_bytes(models["depth"].read_bytes())
    parameters.write_text(f"/front/sgnet:\n  ros__parameters:\n    model: {hangs}\n")
    command = [
        *(sys.executable, "-c", LOADING, "--ros-args", "-p", "cameras:=[front, rear]"),
        *("-p", f"model:={models['depth']}", "-p", "device:=cpu", "--params-file", parameters),
    ]
    with log.open("w") as file:
        process = subprocess.Popen(list(map(str, command)), stdout=file, stderr=file)
    try:
        robot.spin_until(lambda: "[rear.sgnet]: active" in log.read_text())
        text = log.read_text()
        assert "loading" in text and "[front.sgnet]: active" not in text
        client = robot.create_client(ChangeState, "/rear/sgnet/change_state")
        robot.spin_until(client.service_is_ready)
        request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_DEACTIVATE))
        client.call_async(request)  # its answer is lost if the node does not know the client yet
        robot.spin_until(lambda: "[rear.sgnet]: inactive" in log.read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()
