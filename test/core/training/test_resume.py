"""A run that goes on with another configuration: what takes effect, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sgnet_core.train import main
from sgnet_core.training.checkpoint import CheckpointError
from sgnet_core.training.config import TrainConfig
from sgnet_core.training.run import Run

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("small_network")


def start(tiny: dict[str, Any], folder: Path, **values: Any) -> Run:
    return Run.start(TrainConfig(**{**tiny, **values}), folder, CPU)


def begun(tiny: dict[str, Any], folder: Path, **values: Any) -> Run:
    """A run of one step, saved."""
    run = start(tiny, folder, **values)
    run.step(next(run._batches()))
    run.save()
    return run


@pytest.mark.parametrize(
    ("key", "value", "change"),
    [
        ("model", "sgnet_r18", "model sgnet_lite → sgnet_r18"),
        ("architecture", {"spatial": "hha"}, "architecture {} → {'spatial': 'hha'}"),
        ("weights", "default", "weights none → default"),
        ("optimizer", "sgd", "optimizer adamw → sgd"),
        ("guidance_lr", 10.0, "guidance_lr 1.0 → 10.0"),
        ("freeze_bn", "all", "freeze_bn none → all"),
        ("class_balance", 0.0, "class_balance 0.5 → 0.0"),
        ("ema", 0.0, "ema 0.998 → 0.0"),
    ],
)
def test_what_the_checkpoint_is_made_with_cannot_change(
    tmp_path: Path, tiny: dict[str, Any], key: str, value: Any, change: str
) -> None:
    begun(tiny, tmp_path)
    before = (tmp_path / "config.yaml").read_text()
    with pytest.raises(CheckpointError) as error:
        start(tiny, tmp_path, **{key: value})
    assert f"not of this configuration ({change})" in str(error.value)
    assert f"weights={tmp_path}/last.safetensors" in str(error.value)
    assert (tmp_path / "config.yaml").read_text() == before
    assert start(tiny, tmp_path).state.iteration == 1, "the old configuration goes on"


def test_a_refused_change_is_an_error_of_the_input(
    tmp_path: Path, tiny: dict[str, Any], tiny_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(tiny, tmp_path / "run")
    arguments = ["--config", str(tiny_file), "--output", str(tmp_path / "run")]
    assert main([*arguments, "optimizer=sgd"]) == 2
    assert "restore the old values, or train into a new --output folder" in capsys.readouterr().err


def test_other_changes_are_said_and_take_effect(
    tmp_path: Path, tiny: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    begun(tiny, tmp_path)
    capsys.readouterr()
    values = {"lr": 1e-4, "weight_decay": 0.5, "iterations": 9, "ema": 0.9}
    frames = {"input_height": 24, "holes": "nearest", "depth_range": [0.3, 8.0]}
    run = start(tiny, tmp_path, **values, **frames)
    printed = capsys.readouterr().out
    assert f"resuming {tmp_path} at iteration 1 of 9" in printed
    for change in ("lr 0.0005 → 0.0001", "iterations 6 → 9", "depth_range [0.001, 1000.0] → [0.3"):
        assert f"changed: {change}" in printed
    decayed, other = run.state.optimizer.param_groups
    assert (decayed["weight_decay"], other["weight_decay"]) == (0.5, 0.0)
    for model in (run.state.model, run.state.final_model):
        assert (model.info.input_height, model.info.holes) == (24, "nearest")
        assert model.info.depth_range == (0.3, 8.0)
    run.step(next(run._batches()))
    assert decayed["lr"] == pytest.approx(1e-4)
    capsys.readouterr()
    start(tiny, tmp_path, **values, **frames)
    assert "changed" not in capsys.readouterr().out


def test_momentum_changes_and_what_it_has_gathered_stays(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    tiny |= {"optimizer": "sgd"}
    before = begun(tiny, tmp_path).state.optimizer
    after = start(tiny, tmp_path, momentum=0.5).state.optimizer
    assert [group["momentum"] for group in after.param_groups] == [0.5, 0.5]
    for old, new in zip(before.state.values(), after.state.values(), strict=True):
        assert torch.equal(old["momentum_buffer"], new["momentum_buffer"])


def test_the_best_score_on_another_validation_set_counts_for_nothing(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    run = begun(tiny, tmp_path)
    run.state.best_miou, run.state.stale = 0.9, 3
    run.save()
    same = start(tiny, tmp_path).state
    assert (same.best_miou, same.stale) == (0.9, 3)
    with pytest.warns(UserWarning, match="8 of the 8 validation frames"):
        other = start(tiny, tmp_path, validation=tiny["train"]).state
    assert (other.best_miou, other.stale) == (-1.0, 0)


def test_a_training_set_of_other_classes_is_refused(
    tmp_path: Path, tiny: dict[str, Any], frames: Path
) -> None:
    begun(tiny, tmp_path / "run")
    shutil.copytree(frames, tmp_path / "boxes")
    classes = {"names": ["floor", "table", "lamp"]}
    (tmp_path / "boxes" / "classes.json").write_text(json.dumps(classes))
    others = {"train": f"{tmp_path}/boxes:train", "validation": f"{tmp_path}/boxes:val"}
    with pytest.raises(CheckpointError, match="class 2 is 'robot' in the checkpoint, 'lamp' in"):
        start(tiny, tmp_path / "run", **others)


def test_a_data_set_that_has_moved_is_no_other_run(
    tmp_path: Path, tiny: dict[str, Any], frames: Path
) -> None:
    begun(tiny, tmp_path / "run")
    shutil.copytree(frames, tmp_path / "boxes")
    assert start(tiny, tmp_path / "run", train=f"{tmp_path}/boxes:train").state.iteration == 1


def test_the_precision_may_change(tmp_path: Path, tiny: dict[str, Any]) -> None:
    # A run in float32 has saved nothing about scaling gradients; that of precision=fp16 scales.
    begun(tiny, tmp_path)
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    state = start(tiny, tmp_path).state
    state.scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    state.restore(content)
    assert state.scaler.get_scale() == 256.0
    assert start(tiny, tmp_path, precision="bf16").state.iteration == 1


@pytest.mark.parametrize("text", ["model: [", "", "- 1", yaml.safe_dump({"unheard_of": 3})])
def test_a_configuration_that_cannot_be_compared_stops_nothing(
    tmp_path: Path, tiny: dict[str, Any], text: str
) -> None:
    begun(tiny, tmp_path)
    (tmp_path / "config.yaml").write_text(text)
    assert start(tiny, tmp_path).state.iteration == 1
