"""Training in processes of its own: several that share a batch, and one that is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sgnet_core import train
from sgnet_core.training.checkpoint import load_checkpoint
from sgnet_core.training.run import Run
from waiting import wait_until

SCRIPT = '''
"""The command, on a network of an eighth of the width, with the losses of all iterations kept."""
import json, os, sys
import torch
from sgnet_core import train
from sgnet_core.training.run import Run
from sgnet_core.models import resnet as backbone

backbone.WIDTHS = (8, 16, 32, 64)
if os.environ.get("NO_DROPOUT"):
    torch.nn.Dropout2d.forward = lambda self, x: x
losses, step = [], Run.step
def recorded(run, parts):
    losses.append(step(run, parts))
    return losses[-1]
Run.step = recorded
status = train.main(sys.argv[2:])
with open(f"{sys.argv[1]}.{os.environ.get('RANK', 0)}", "w") as file:
    json.dump(losses, file)
sys.exit(status)
'''


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train_small.py"
    path.write_text(SCRIPT)
    return path


def environment(**values: str) -> dict[str, str]:
    outer = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return {**outer, "OMP_NUM_THREADS": "1", **values}


def config_file(folder: Path, tiny: dict[str, Any], **values: Any) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**tiny, **values}))
    return path


def checkpoint(folder: Path) -> dict[str, Any]:
    content = load_checkpoint(folder / "checkpoint.pt")
    assert content is not None
    return content


@pytest.mark.usefixtures("small_network")
def test_two_processes_train_like_one_on_the_same_global_batch(
    tmp_path: Path,
    script: Path,
    tiny: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Frozen norms and no dropout: with them a process would compute something else on its own part.
    # Classes are weighted, so the two halves of a batch weigh differently.
    # (SGD, since AdamW enlarges differences of rounding where gradients are nearly 0.)
    values = {"model": "sgnet_r18", "freeze_bn": "all", "accumulate": 2, "optimizer": "sgd"}
    config = config_file(tmp_path, tiny, **values, iterations=8, lr=0.1)

    def arguments(name: str) -> list[str]:
        output = str(tmp_path / f"run_{name}")
        return ["--config", str(config), "--output", output, "--device", "cpu"]

    alone: list[float] = []
    step = Run.step

    def recorded(run: Run, parts: Any) -> float:
        alone.append(step(run, parts))
        return alone[-1]

    monkeypatch.setattr(Run, "step", recorded)
    monkeypatch.setattr(torch.nn.Dropout2d, "forward", lambda self, x: x)
    assert train.main(arguments("one")) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc-per-node", "2", str(script), str(tmp_path / "two")]
    done = subprocess.run(
        [*command, *arguments("two")],
        env=environment(NO_DROPOUT="1"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for printed in (capsys.readouterr().out, done.stdout):
        assert printed.count("sgnet_core.eval") == 1, "rank 0 alone speaks"
    first, second = (json.loads(path.read_text()) for path in sorted(tmp_path.glob("two.*")))
    assert len(alone) == 8 and alone[-1] < alone[0] - 0.05, "the weights have moved"
    assert first == second, "all processes know the loss of the whole batch"
    assert first == pytest.approx(alone, rel=1e-5)
    one, two = (checkpoint(tmp_path / f"run_{name}") for name in ("one", "two"))
    assert two["best_miou"] == pytest.approx(one["best_miou"], abs=1e-3)
    for name, value in one["model"].items():
        torch.testing.assert_close(two["model"][name], value, rtol=1e-3, atol=1e-4, msg=name)
    environment_file = tmp_path / "run_two" / "environment.json"
    assert json.loads(environment_file.read_text())[0]["processes"] == 2


@pytest.mark.usefixtures("small_network")
def test_a_damaged_frame_ends_the_command_with_its_name(
    tmp_path: Path, tiny: dict[str, Any], frames: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Loader and training are processes of their own: neither waits for the other for ever."""
    folder = tmp_path / "damaged"
    shutil.copytree(frames, folder)
    image = folder / "rgb" / "003.png"
    image.write_bytes(image.read_bytes()[:100])
    values = {"train": f"{folder}:train", "class_balance": 0, "workers": 1}
    config = config_file(tmp_path, tiny, **values)
    assert train.main(["--config", str(config), "--output", str(tmp_path / "run")]) == 4
    error = capfd.readouterr().err
    assert f"error: {image} cannot be read as an image" in error
    assert "Traceback" not in error


@pytest.mark.slow
def test_killed_and_started_again_it_ends_with_the_same_bits(
    tmp_path: Path, script: Path, tiny: dict[str, Any]
) -> None:
    config = config_file(
        tmp_path, tiny, iterations=40, validate_every=15, checkpoint_every=4, deterministic=True
    )

    def command(name: str) -> list[str]:
        files = [str(tmp_path / name), "--config", str(config), "--output"]
        return [sys.executable, str(script), *files, str(tmp_path / f"run_{name}")]

    with open(tmp_path / "out", "w") as out:
        killed = subprocess.Popen(command("killed"), env=environment(), stdout=out, stderr=out)
        written = tmp_path / "run_killed" / "checkpoint_previous.pt"
        wait_until(lambda: written.exists() or killed.poll() is not None)
        killed.send_signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL, (tmp_path / "out").read_text()
    # It may have died between the two renames of a checkpoint: then there is the previous one.
    assert 0 < checkpoint(tmp_path / "run_killed")["iteration"] < 40
    outputs = [
        subprocess.run(command(name), env=environment(), capture_output=True, text=True)
        for name in ("killed", "unbroken")
    ]
    assert [done.returncode for done in outputs] == [0, 0], outputs
    assert "resuming" in outputs[0].stdout and "resuming" not in outputs[1].stdout
    a, b = (checkpoint(tmp_path / f"run_{name}") for name in ("killed", "unbroken"))
    assert a["iteration"] == b["iteration"] == 40
    for part in ("model", "average"):
        for name, value in b[part].items():
            assert torch.equal(a[part][name], value), name
    moments = [x["optimizer"]["state"] for x in (a, b)]
    for index, moment in moments[1].items():
        assert torch.equal(moments[0][index]["exp_avg_sq"], moment["exp_avg_sq"])
    for name in ("loss", "best_miou", "stale"):
        assert a[name] == b[name], name
    losses = [json.loads((tmp_path / f"{name}.0").read_text()) for name in ("killed", "unbroken")]
    assert 0 < len(losses[0]) < 40 and losses[0] == losses[1][-len(losses[0]) :]
