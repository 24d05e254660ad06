"""A training run: what it computes and leaves, and that it resumes."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from sgnet_core.data.datasets.folder import PlainFolder
from sgnet_core.data.datasets.shards import write_shards
from sgnet_core.data.loading import Batch
from sgnet_core.models.info import RELEASED
from sgnet_core.models.model_file import load_model, save_model
from sgnet_core.models.sgnet import Output, SGNet, create_model
from sgnet_core.train import main
from sgnet_core.training import run as run_module
from sgnet_core.training.config import TrainConfig, load_config
from sgnet_core.training.divergence import Diverged
from sgnet_core.training.optimization import (
    frozen_norms,
    guidance_modules,
    learning_rate,
    update_average,
)
from sgnet_core.training.progress import Throughput
from sgnet_core.training.run import Run

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("small_network")


class Killed(BaseException):
    """A stand-in for SIGKILL, which nothing catches."""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    content = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert content["iteration"] == 6
    return {**content["model"], **{f"average.{k}": v for k, v in content["average"].items()}}


def start(tiny: dict[str, Any], folder: Path, **values: Any) -> Run:
    return Run.start(TrainConfig(**{**tiny, **values}), folder, CPU)


@pytest.fixture
def deterministic_mode_ends() -> Iterator[None]:
    """It is the whole process's; other tests are not to run in it."""
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("deterministic_mode_ends")
@pytest.mark.parametrize("killed_at", [1, 5])
def test_a_run_killed_at_any_iteration_ends_with_the_weights_of_an_unbroken_one(
    tmp_path: Path, tiny: dict[str, Any], killed_at: int
) -> None:
    tiny |= {"deterministic": True, "checkpoint_every": 2, "validate_every": 3, "accumulate": 2}
    unbroken = start(tiny, tmp_path / "unbroken")
    assert unbroken.train() == 0
    broken = start(tiny, tmp_path / "broken")
    step = broken.step

    def killed(parts: Sequence[Batch]) -> float:
        if broken.state.iteration == killed_at:
            raise Killed
        return step(parts)

    broken.step = killed  # type: ignore[method-assign]
    with pytest.raises(Killed):
        broken.train()
    resumed = start(tiny, tmp_path / "broken")
    assert resumed.state.iteration == killed_at // 2 * 2
    assert resumed.train() == 0
    a, b = weights(tmp_path / "unbroken"), weights(tmp_path / "broken")
    assert a.keys() == b.keys() and len(a) > 200
    for name, value in a.items():
        assert torch.equal(b[name], value), name
    for state in (unbroken.state, resumed.state):
        state.seconds = 0
    for name in ("iteration", "loss", "best_miou", "stale"):
        assert getattr(resumed.state, name) == getattr(unbroken.state, name), name
    logs = [list(csv.DictReader((tmp_path / n / "log.csv").open())) for n in ("unbroken", "broken")]
    for name in ("iteration", "loss", "lr", "miou"):
        assert [row[name] for row in logs[0]] == [row[name] for row in logs[1]], name


def test_a_run_leaves_model_log_pictures_and_its_configuration(
    tmp_path: Path, tiny_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert main(["--config", str(tiny_file), "--output", str(folder), "input_height=32"]) == 0
    model = load_model(folder / "best.safetensors")
    assert model.info.labels.names == ("floor", "table", "robot")
    assert model.info.input_height == 32
    assert model.info.training["config"]["size"] == [32, 48]
    [row] = csv.DictReader((folder / "log.csv").open())
    config = load_config(folder / "config.yaml")
    assert row["iteration"] == "6"
    assert float(row["lr"]) == pytest.approx(learning_rate(config, 5))
    assert float(row["images_per_second"]) > 0
    assert 0 <= float(row["loader_idle"]) <= 1
    best = json.loads((folder / "best.json").read_text())
    assert best["miou"] == float(row["miou"])
    assert set(best["iou"]) <= {"floor", "table", "robot"}
    assert (folder / "predictions" / "000006.png").stat().st_size > 1000
    assert config == load_config(tiny_file, ["input_height=32"])
    [begun] = json.loads((folder / "environment.json").read_text())
    assert (begun["seed"], begun["iteration"], begun["processes"]) == (0, 0, 1)
    assert begun["libraries"]["torch"] in torch.__version__
    printed = capsys.readouterr().out
    assert "floor" in printed and f"mIoU {best['miou']:.4f}" in printed
    assert f"sgnet_core.eval --data {config.validation} --model {folder}" in printed
    assert "% of the step time was spent waiting" in printed


def test_a_finished_run_says_so_again_and_computes_nothing(
    tmp_path: Path, tiny: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    start(tiny, tmp_path).train()
    before = weights(tmp_path)
    again = start(tiny, tmp_path)
    again.step = None  # type: ignore[assignment, method-assign]
    capsys.readouterr()
    assert again.train() == 0
    assert "mIoU" in capsys.readouterr().out
    assert all(torch.equal(before[name], value) for name, value in weights(tmp_path).items())


def test_a_run_learns(tmp_path: Path, tiny: dict[str, Any]) -> None:
    values = {"iterations": 30, "lr": 2e-3, "ema": 0, "augment": {}, "validate_every": 30}
    run = start(tiny, tmp_path, **values)
    losses = []
    step = run.step

    def watched(parts: Sequence[Batch]) -> float:
        losses.append(step(parts))
        return losses[-1]

    run.step = watched  # type: ignore[method-assign]
    run.train()
    assert losses[0] == pytest.approx(np.log(3), abs=0.5)
    assert losses[-1] < 0.3 * losses[0]


def test_steps_time_the_algorithms_of_convolutions_and_validation_does_not(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Crops have one size; the frames of a validation set need not."""
    timed: set[tuple[bool, bool]] = set()
    forward = SGNet.forward

    def noted(model: SGNet, *inputs: torch.Tensor) -> Output:
        timed.add((model.training, torch.backends.cudnn.benchmark))
        return forward(model, *inputs)

    monkeypatch.setattr(SGNet, "forward", noted)
    start(tiny, tmp_path, iterations=2, validate_every=2).train()
    assert timed == {(True, True), (False, False)}


def test_accumulated_parts_take_the_step_of_the_whole_batch(
    tmp_path: Path, tiny: dict[str, Any], no_dropout: None
) -> None:
    tiny |= {"freeze_bn": "all", "optimizer": "sgd", "lr": 0.05, "ema": 0}
    whole = start(tiny, tmp_path / "whole")
    parts = start(tiny, tmp_path / "parts", accumulate=4)
    for _ in range(3):
        for run in (whole, parts):
            batch = next(run._batches())
            assert len(batch) == run.config.accumulate
            run.state.loss = run.step(batch)
        assert parts.state.loss == pytest.approx(whole.state.loss, rel=1e-5)
    others = parts.state.model.state_dict()
    for name, value in whole.state.model.state_dict().items():
        torch.testing.assert_close(others[name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.fixture
def no_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout draws other masks for parts than for the whole batch."""
    monkeypatch.setattr(torch.nn.Dropout2d, "forward", lambda self, x: x)


def test_scaled_gradients_take_the_same_step_and_an_overflow_takes_none(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    # What precision=fp16 does on a GPU, with a scaler for the CPU in float32.
    plain, scaled = start(tiny, tmp_path / "plain"), start(tiny, tmp_path / "scaled")
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaled.state.scaler = scaler
    for run in (plain, scaled):
        run.step(next(run._batches()))
    others = scaled.state.model.state_dict()
    for name, value in plain.state.model.state_dict().items():
        torch.testing.assert_close(others[name], value, rtol=1e-4, atol=1e-5, msg=name)
    batch = next(scaled._batches())
    before = {k: v.clone() for k, v in scaled.state.model.named_parameters()}
    hook = scaled.state.model.head.classify.weight.register_hook(lambda g: g * float("inf"))
    scaled.step(batch)
    assert all(torch.equal(before[k], v) for k, v in scaled.state.model.named_parameters())
    assert scaler.get_scale() == 2.0**9
    scaled.save()
    again = start(tiny, tmp_path / "scaled")
    again.state.scaler = torch.amp.GradScaler("cpu")
    again.state.restore(torch.load(tmp_path / "scaled" / "checkpoint.pt", weights_only=True))
    assert again.state.scaler.get_scale() == 2.0**9, "part of the checkpoint"
    with pytest.raises(Diverged, match="gradient's norm became"):
        for _ in range(20):  # scaling less does not help
            scaled.step(batch)
    hook.remove()


def test_synchronized_norms_change_neither_weights_files_nor_one_process(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "check_device", lambda config, device: None)
    plain, synced = start(tiny, tmp_path / "a"), start(tiny, tmp_path / "b", sync_bn=True)
    kinds = {type(m) for m in synced.state.model.modules()}
    assert torch.nn.SyncBatchNorm in kinds and torch.nn.BatchNorm2d not in kinds
    losses = [run.step(next(run._batches())) for run in (plain, synced)]
    assert losses[0] == losses[1]
    synced.train()
    model = load_model(tmp_path / "b" / "best.safetensors")
    assert torch.nn.SyncBatchNorm not in {type(m) for m in model.modules()}


def test_a_resumed_run_keeps_the_colors_that_its_weights_were_made_for(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    tiny |= {"iterations": 2, "checkpoint_every": 1}
    first = start(tiny, tmp_path / "first")
    first.state.model.info = replace(first.state.model.info, normalization=RELEASED)
    start_file = tmp_path / "released.safetensors"
    save_model(first.state.model, start_file)
    run = start(tiny, tmp_path / "run", weights=str(start_file), iterations=1)
    assert run.train() == 0
    start_file.unlink()
    resumed = start(tiny, tmp_path / "run", weights=str(start_file))
    assert resumed.state.model.info.normalization == RELEASED
    assert resumed.state.final_model.info.normalization == RELEASED


@pytest.mark.parametrize(("which", "frozen", "learning"), [("trunk", 21, 10), ("all", 31, 0)])
def test_frozen_norms_neither_count_nor_learn(
    tmp_path: Path, tiny: dict[str, Any], which: str, frozen: int, learning: int
) -> None:
    run = start(tiny, tmp_path, freeze_bn=which)
    norms = {
        n: m for n, m in run.state.model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)
    }
    kept = frozen_norms(run.state.model, which)
    assert (len(kept), len(norms) - len(kept)) == (frozen, learning)
    before = {n: {k: v.clone() for k, v in m.state_dict().items()} for n, m in norms.items()}
    run.step(next(run._batches()))
    for name, norm in norms.items():
        same = [torch.equal(v, before[name][k]) for k, v in norm.state_dict().items()]
        assert all(same) if norm in kept else not any(same), name


def test_the_loader_is_timed_apart_from_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])

    def items() -> Iterator[int]:
        for wait in (50.0, 1.0, 3.0):
            clock[0] += wait
            yield 0

    throughput = Throughput()
    for _ in throughput.timed(items()):
        clock[0] += 6.0
        throughput.step_done(images=8)
        clock[0] += 100.0  # a validation
    assert (throughput.seconds, throughput.waited) == (16.0, 4.0), "without the first"
    assert throughput.images == 16
    assert throughput.idle == 0.25 and throughput.images_per_second == 1.0
    assert throughput.since(throughput.snapshot()).images == 0


def test_learning_rate_warms_up_and_decays_to_nothing() -> None:
    config = TrainConfig(lr=1.0, warmup=10, iterations=110)
    assert learning_rate(config, 0) == pytest.approx(0.1)
    assert learning_rate(config, 9) == pytest.approx(1.0)
    assert learning_rate(config, 60) == pytest.approx(0.5**0.9)
    assert learning_rate(config, 110) == 0.0
    cosine = TrainConfig(lr=1.0, warmup=10, iterations=110, schedule="cosine")
    assert learning_rate(cosine, 60) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "values", [{}, {"shared_projector": False}, {"spatial": "features", "operator": "dcnv2"}]
)
def test_guidance_is_the_projectors_and_generators(values: dict[str, Any]) -> None:
    model = create_model(
        "sgnet_lite", 5, **{"shared_projector": "operator" not in values, **values}
    )
    guidance = {id(p) for module in guidance_modules(model) for p in module.parameters()}
    found = {name for name, p in model.named_parameters() if id(p) in guidance}
    parts = ("projector", "generator")
    assert found == {n for n, _ in model.named_parameters() if any(part in n for part in parts)}
    assert found


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_guidance_of_s_conv_may_learn_at_a_rate_of_its_own(
    tmp_path: Path, tiny: dict[str, Any], optimizer: str
) -> None:
    tiny |= {"optimizer": optimizer, "clip": 0, "weight_decay": 0.0, "lr": 1e-3}
    runs = [start(tiny, tmp_path / str(f), guidance_lr=f) for f in (1.0, 10.0)]
    for run in runs:
        before = {k: v.clone() for k, v in run.state.model.named_parameters()}
        run.step(next(run._batches()))
        run.moved = {k: v - before[k] for k, v in run.state.model.named_parameters()}  # type: ignore[attr-defined]
    slow, fast = (run.moved for run in runs)  # type: ignore[attr-defined]
    model = runs[0].state.model
    guidance = {id(p) for module in guidance_modules(model) for p in module.parameters()}
    guiding = [name for name, p in model.named_parameters() if id(p) in guidance]
    assert 20 < len(guiding) < len(slow) - 50
    for name, step in slow.items():
        factor = 10 if name in guiding else 1
        torch.testing.assert_close(fast[name], factor * step, rtol=1e-2, atol=2e-6, msg=name)
    assert max(slow[name].abs().max() for name in guiding) > 1e-5
    runs[1].save()
    assert start(tiny, tmp_path / "10.0", guidance_lr=10.0).state.iteration == 1


def test_rooms_that_are_validated_on_are_rendered_once(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    for name, values in (
        ("rooms", {"train": "rooms:1", "validation": "rooms:2:2"}),
        ("held out", {"train": "rooms:1:4", "validation": "holdout:0.5"}),
    ):
        run = start(tiny, tmp_path / name, class_balance=0, **values)
        assert len(run.validation) == 2 and run.validation[1] is run.validation[1]


def test_weights_are_averaged_over_the_last_ones_and_over_fewer_at_first(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    run = start(tiny, tmp_path, ema=0.75)
    assert run.state.average is not None
    expected = 0.0
    for n in range(40):
        for value in run.state.model.parameters():
            value.data.fill_(float(n))
        update_average(run.state.average, run.state.model, 0.75)
        decay = min(0.75, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n if n else 0.0
        [found, *_] = run.state.final_model.parameters()
        assert found.flatten()[0].item() == pytest.approx(expected, rel=1e-5), n
    assert expected == pytest.approx(39 - 3, abs=0.1), "a mean delay of d / (1 − d)"


def test_averaging_reads_no_number_from_the_device() -> None:
    model = torch.nn.BatchNorm2d(3, device="meta")  # reading its numbers is an error
    average = AveragedModel(model)
    for _ in range(3):
        update_average(average, model, 0.9)
    assert average.n_averaged == 3


@pytest.mark.usefixtures("deterministic_mode_ends")
def test_a_run_on_shards_ends_with_the_weights_of_one_on_the_folder(
    tmp_path: Path, tiny: dict[str, Any], frames: Path
) -> None:
    for split in ("train", "val"):
        write_shards(str(tmp_path / split), PlainFolder(frames, split), per_shard=3)
    tiny["deterministic"] = True
    assert start(tiny, tmp_path / "folder").train() == 0
    sharded = {"train": str(tmp_path / "train"), "validation": str(tmp_path / "val"), "workers": 1}
    assert start(tiny, tmp_path / "shards", **sharded).train() == 0
    a, b = weights(tmp_path / "folder"), weights(tmp_path / "shards")
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(b[name], value), name
    scores = [json.loads((tmp_path / n / "best.json").read_text()) for n in ("folder", "shards")]
    assert scores[0]["miou"] == scores[1]["miou"] > 0
