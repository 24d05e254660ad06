"""`sgnet_ros.replay_eval --ray`, with a real Ray of this machine, whose workers die."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install 'sgnet_ros[fleet]'")

from marked_processes import marked_processes, started_module, wait_for_process
from sgnet_core.data.images import write_png
from sgnet_ros import bag_write
from waiting import wait_until

pytestmark = pytest.mark.slow

FRAMES = 3


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(FRAMES):
        for kind, shape, dtype in (("rgb", (24, 32, 3), np.uint8), ("depth", (24, 32), np.uint16)):
            (tmp_path / "frames" / kind).mkdir(parents=True, exist_ok=True)
            image = rng.integers(1, 250, shape).astype(dtype)
            write_png(tmp_path / "frames" / kind / f"{i}.png", image)
    camera = {"K": [[30, 0, 16], [0, 30, 12], [0, 0, 1]]}
    (tmp_path / "frames" / "camera.json").write_text(json.dumps(camera))
    assert bag_write.main([str(tmp_path / "frames"), str(tmp_path / "a.mcap")]) == 0
    return tmp_path / "a.mcap"


def test_a_bag_whose_worker_dies_is_played_again_and_no_process_is_left(
    bag: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    report = tmp_path / "r.json"
    fixed = ("--model", models["points"], "--device", "cpu", "--json", report)
    with started_module("sgnet_ros.replay_eval", bag, *fixed, "--ray", mark=tmp_path) as process:
        played = wait_for_process(process, tmp_path, "sgnet_ros.replay_eval.bag")
        worker = wait_for_process(process, tmp_path, "_Worker")
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: played not in marked_processes(tmp_path))
        _, error = process.communicate()
        assert process.returncode == 0, error
    [result] = json.loads(report.read_text())["bags"]
    assert (result["frames"], result["labeled"]) == (FRAMES, FRAMES)
    wait_until(lambda: not marked_processes(tmp_path))


def test_a_killed_command_leaves_no_process(
    bag: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    fixed = ("--model", models["points"], "--device", "cpu")
    with started_module("sgnet_ros.replay_eval", bag, *fixed, "--ray", mark=tmp_path) as process:
        wait_for_process(process, tmp_path, "sgnet_ros.replay_eval.bag")
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_until(lambda: not marked_processes(tmp_path))
