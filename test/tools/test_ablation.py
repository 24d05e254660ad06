from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import ablation
from ablation import PLAIN, VARIANTS, VariantResult, table
from sgnet_core.models.dcn import DCNv2
from sgnet_core.models.sconv import SConv2d
from sgnet_core.models.sgnet import create_model
from sgnet_core.training.config import TrainConfig
from sgnet_core.training.divergence import Diverged
from sgnet_core.training.progress import read_log

TINY = [
    *("model=sgnet_lite", "weights=none", "train=rooms:1:4", "validation=rooms:2:2"),
    *("size=[32,48]", "batch=2", "iterations=1", "warmup=0", "workers=0", "class_balance=0"),
]


def run(folder: Path, *more: str) -> int:
    (folder / "config.yaml").write_text("architecture: {shared_projector: false}\n")
    arguments = ["--config", str(folder / "config.yaml"), "--output", str(folder / "out")]
    return ablation.main([*arguments, "--seeds", "0", *more, "--set", *TINY])


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names = [PLAIN, "φ + η + f from depth"]
    monkeypatch.setattr(ablation, "VARIANTS", {name: VARIANTS[name] for name in names})
    return names


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_has_the_parts_that_its_name_says(name: str) -> None:
    model = create_model("sgnet_lite", 5, **{"shared_projector": False, **VARIANTS[name]})
    sconvs = [m for m in model.modules() if isinstance(m, SConv2d)]
    assert bool(sconvs) == ("η" in name or "f (" in name or "f from" in name)
    for sconv in sconvs:
        if "features" not in name:
            assert (sconv.projector is not None or len(model.projectors) > 0) == ("φ" in name)
        # Without η the generator is left out; the positions then are those of a convolution.
        assert (sconv.offset_generator is not None) == ("η" in name)
        assert (sconv.weight_generator is not None) == ("f (" in name or "f from" in name)
    assert any(isinstance(m, DCNv2) for m in model.modules()) == ("DCNv2" in name)
    spatial = {"HHA": "hha", "3D": "points", "features": "features", "none": "none"}
    expected = next((kind for word, kind in spatial.items() if word in name), "depth")
    assert model.config.spatial == expected


@pytest.mark.slow
def test_every_variant_is_trained_once(
    two: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path) == 0
    rows = json.loads((tmp_path / "out/ablation.json").read_text())
    assert [row["name"] for row in rows] == two
    for index, row in enumerate(rows):
        last = read_log(tmp_path / f"out/{index}-seed0")[-1]
        assert row["miou"] == [float(last["miou"])]
        assert row["p50_ms"] > 0
    assert rows[0]["ratio"] == 1
    assert rows[1]["parameters"] > rows[0]["parameters"]
    assert "| φ + η + f from depth |" in capsys.readouterr().out
    done = {file: file.stat().st_mtime_ns for file in tmp_path.glob("out/*/log.csv")}
    assert run(tmp_path) == 0  # nothing left to train
    assert {file: file.stat().st_mtime_ns for file in done} == done


def test_one_variant_alone_is_timed_against_the_plain_one(
    two: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = {two[0]: 2.0, two[1]: 3.0}
    monkeypatch.setattr(
        ablation,
        "_latency",
        lambda models, *_: [
            SimpleNamespace(name=name, p50_ms=times[name], ratio=times[name] / 2) for name in models
        ],
    )
    assert run(tmp_path, "--variants", "1") == 0
    [row] = json.loads((tmp_path / "out/ablation.json").read_text())
    assert (row["name"], row["p50_ms"], row["ratio"]) == (two[1], 3.0, 1.5)
    assert [path.name for path in (tmp_path / "out").glob("*-seed*")] == ["1-seed0"]
    with pytest.raises(SystemExit):
        run(tmp_path, "--variants", "10")


def test_a_run_that_was_broken_off_after_a_validation_is_not_done(
    two: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []

    class Counted:
        @staticmethod
        def start(config: TrainConfig, folder: Path, device: torch.device) -> Any:
            trained.append(folder.name)
            return Counted()

        def train(self) -> int:
            return 130

    monkeypatch.setattr(ablation, "Run", Counted)
    for name, last in (("0-seed0", 1), ("1-seed0", 0)):
        (tmp_path / "out" / name).mkdir(parents=True)
        (tmp_path / "out" / name / "best.json").write_text("{}")
        (tmp_path / "out" / name / "log.csv").write_text(f"iteration,miou\n{last},0.5\n")
    assert run(tmp_path) == 130
    assert trained == ["1-seed0"]


def test_runs_that_end_otherwise_end_the_command(
    two: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def diverges(*_: Any) -> int:
        raise Diverged("the loss is nan: out/0-seed0/diverged.pt")

    class Stopped:
        @staticmethod
        def start(*_: Any) -> Any:
            return Stopped()

        def train(self) -> int:
            return 143

    monkeypatch.setattr(ablation.Run, "train", diverges)
    assert run(tmp_path) == 3
    assert "out/0-seed0/diverged.pt" in capsys.readouterr().err
    monkeypatch.setattr(ablation, "Run", Stopped)
    assert run(tmp_path) == 143
    assert "run the same command" in capsys.readouterr().err
    assert run(tmp_path, "--config", str(tmp_path / "none.yaml")) == 2
    assert run(tmp_path, "--device", "abacus") == 2

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Stopped, "start", interrupted)
    assert run(tmp_path) == 130


def test_the_table_has_mean_and_standard_deviation() -> None:
    row = VariantResult("plain", [0.30, 0.32, 0.34], [0.6, 0.6, 0.6], 11_800_000, 12.34, 1.0)
    assert table([row]).splitlines()[-1] == (
        "| plain | 32.0 ± 2.0 | 60.0 ± 0.0 | 11.80 M | 12.3 | 1.00 |"
    )
