"""Training: what it computes, that it resumes to the same weights, that it stops in time."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from sgnet_core.data.loading import Batch
from sgnet_core.labels import NYU40
from sgnet_core.model_file import load_model
from sgnet_core.train import (
    Run,
    batch_loss,
    build_model,
    class_weights,
    learning_rate,
    main,
    make_optimizer,
)
from sgnet_core.train_config import TrainConfig, load_config

TINY = {
    "model": "sgnet_lite",
    "weights": "none",
    "train": "rooms:3:6",
    "validation": "rooms:4:2",
    "size": [32, 48],
    "batch": 2,
    "iterations": 6,
    "warmup": 1,
    "workers": 0,
    "validate_every": 6,
    "checkpoint_every": 3,
    "augment": {"scale": [1.0, 1.4], "flip": 0.5, "color": 0.2},
}


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(
    tmp_path: Path, config_file: Path
) -> None:
    def train(folder: str, *overrides: str) -> dict[str, torch.Tensor]:
        arguments = ["--config", str(config_file), "--output", str(tmp_path / folder)]
        assert main([*arguments, "--device", "cpu", *overrides]) == 0
        path = tmp_path / folder / "checkpoint.pt"
        content = torch.load(path, weights_only=True)
        return {**content["model"], "iteration": torch.tensor(content["iteration"])}

    unbroken = train("unbroken")
    # Stopped after 3 of 6 iterations: the checkpoint of iteration 3 is all that is left.
    config = load_config(config_file)
    run = Run.start(config, tmp_path / "broken", torch.device("cpu"))
    step = run.step

    def interrupted(batch: Batch) -> float:
        if run.state.iteration == 3:
            raise KeyboardInterrupt
        return step(batch)

    run.step = interrupted  # type: ignore[method-assign]
    assert run.train() == 130
    resumed = train("broken")
    assert resumed.keys() == unbroken.keys()
    for name, value in unbroken.items():
        assert torch.equal(resumed[name], value), name


def test_a_run_leaves_model_log_pictures_and_its_configuration(
    tmp_path: Path, config_file: Path
) -> None:
    folder = tmp_path / "run"
    assert main(["--config", str(config_file), "--output", str(folder), "input_height=32"]) == 0
    model = load_model(folder / "best.safetensors")
    assert model.info.labels == NYU40
    assert model.info.input_height == 32
    assert model.info.training["config"]["train"] == "rooms:3:6"
    rows = list(csv.DictReader((folder / "log.csv").open()))
    assert [row["iteration"] for row in rows] == ["6"]
    best = json.loads((folder / "best.json").read_text())
    assert best["miou"] == float(rows[0]["miou"])
    assert set(best["iou"]) <= set(NYU40.names)
    assert (folder / "predictions.png").stat().st_size > 1000
    assert load_config(folder / "config.yaml") == load_config(config_file, ["input_height=32"])


def test_a_few_steps_learn_a_batch() -> None:
    torch.manual_seed(0)
    config = TrainConfig(**{**TINY, "lr": 2e-3, "augment": {}, "label_stride": 1})  # type: ignore[arg-type]
    model = build_model(config, NYU40).train()
    optimizer = make_optimizer(model, config)
    labels = torch.full((2, 32, 48), 1)
    labels[:, :16] = 0
    labels[:, :, :4] = 255
    depth = torch.where(labels == 0, 3.0, 1.0)[:, None]
    rgb = (labels == 0).to(torch.uint8)[:, None].repeat(1, 3, 1, 1) * 200
    batch = Batch(rgb, depth, labels, torch.tensor([[40.0, 40.0, 24.0, 16.0]]).repeat(2, 1))
    losses = []
    for _ in range(15):
        loss = batch_loss(model, batch, config)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(np.log(40), abs=0.7)
    assert losses[-1] < 0.3 * losses[0]


def test_a_loss_that_is_not_finite_stops_the_run_and_saves_the_batch(
    tmp_path: Path, config_file: Path
) -> None:
    run = Run.start(load_config(config_file), tmp_path / "nan", torch.device("cpu"))
    for parameter in run.state.model.head.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"bad_batch_0\.pt"):
        run.train()
    saved = torch.load(tmp_path / "nan" / "bad_batch_0.pt", weights_only=True)
    assert saved["rgb"].shape == (2, 3, 32, 48)


def test_a_checkpoint_of_another_configuration_is_refused(
    tmp_path: Path, config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    arguments = ["--config", str(config_file), "--output", str(tmp_path)]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "checkpoint.pt is not a checkpoint of this configuration" in error
    assert "new --output folder" in error


def test_learning_rate_warms_up_and_decays_to_nothing() -> None:
    config = TrainConfig(lr=1.0, warmup=10, iterations=110)
    assert learning_rate(config, 0) == pytest.approx(0.1)
    assert learning_rate(config, 9) == pytest.approx(1.0)
    assert learning_rate(config, 60) == pytest.approx(0.5**0.9)
    assert learning_rate(config, 110) == 0.0
    cosine = TrainConfig(lr=1.0, warmup=10, iterations=110, schedule="cosine")
    assert learning_rate(cosine, 60) == pytest.approx(0.5)


def test_class_weights_balance_rare_classes() -> None:
    class Two:
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int, /):  # type: ignore[no-untyped-def]
            labels = np.zeros((10, 10), np.uint8)
            labels[0] = 1  # 10 % of the labelled pixels, but for one row that is ignored
            labels[1] = 255
            return type("S", (), {"labels": labels})

    weights = class_weights(Two(), 3, 0.5)  # type: ignore[arg-type]
    frequency = torch.tensor([80 / 90, 10 / 90])
    assert weights[1] / weights[0] == pytest.approx(float((frequency[0] / frequency[1]) ** 0.5))
    assert float((weights[:2] * frequency).sum()) == pytest.approx(1.0)
    assert weights[2] == 1.0
    assert torch.equal(class_weights(Two(), 3, 0.0), torch.ones(3))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learning_rate=1", "unknown configuration key 'learning_rate'"),
        ("batchs=1", "did you mean batch"),
        ("batch=two", "batch must be of type int"),
        ("batch=0", "batch must be at least 1"),
        ("lr", "write key=value"),
        ("augment.shear=1", "shear"),
        ("optimizer=adam", "adamw, sgd"),
    ],
)
def test_a_wrong_override_is_named(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_config(None, [override])


def test_overrides_win_over_the_file(config_file: Path) -> None:
    config = load_config(config_file, ["lr=3e-4", "augment.flip=0.25", "size=[64,96]"])
    assert config.lr == 3e-4
    assert config.size == (64, 96)
    assert config.augment["flip"] == 0.25
    assert config.augment["color"] == 0.2, "the rest of the mapping stays"


def test_a_class_weight_that_never_occurs_does_not_poison_the_loss() -> None:
    config = TrainConfig(**{**TINY, "augment": {}})  # type: ignore[arg-type]
    model = build_model(config, NYU40).eval()
    labels = torch.zeros(1, 32, 48, dtype=torch.long)
    batch = Batch(
        torch.zeros(1, 3, 32, 48, dtype=torch.uint8),
        torch.ones(1, 1, 32, 48),
        labels,
        torch.ones(1, 4),
    )
    weights = torch.ones(40)
    weights[0] = 0.5
    plain, weighted = batch_loss(model, batch, config), batch_loss(model, batch, config, weights)
    assert weighted.item() == pytest.approx(plain.item()), "one class: a weighted mean is the mean"
