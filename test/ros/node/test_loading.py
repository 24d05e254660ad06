"""The backend that runs the model of the parameters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.models.model_file import default_model_path
from sgnet_ros.node import loading
from sgnet_ros.node.parameters import Settings


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Models of which an exported copy was asked for; there is none."""
    models: list[str] = []

    def cached_export(model: Any, say: Callable[[str], None]) -> None:
        models.append(str(model))

    monkeypatch.setattr(loading, "cached_export", cached_export)
    monkeypatch.setattr(Segmenter, "warm_up", lambda *size: None)
    return models


@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_on_the_cpu_auto_asks_for_an_exported_copy(
    asked: list[str], models: dict[str, Path], precision: str
) -> None:
    settings = Settings(model=str(models["depth"]), device="cpu", precision=precision)
    assert loading.load_segmenter(settings, print).backend == "torch", "there is no copy"
    assert asked == [str(models["depth"])]
    loading.load_segmenter(Settings(device="cpu"), print)
    assert asked[1:] == [str(default_model_path())]


@pytest.mark.parametrize(
    "change", [{"backend": "torch"}, {"precision": "bf16"}, {"device": "cuda"}, {"model": "m.onnx"}]
)
def test_other_settings_use_no_exported_copy(
    asked: list[str],
    models: dict[str, Path],
    change: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[tuple[object, ...]] = []
    monkeypatch.setattr(loading, "pick_device", torch.device)

    class Recorder:
        def __init__(self, *arguments: object) -> None:
            made.append(arguments)

        def warm_up(self, *size: int) -> None: ...

    monkeypatch.setattr(loading, "Segmenter", Recorder)
    values = {"model": str(models["depth"]), "device": "cpu"} | change
    settings = Settings(**values)
    loading.load_segmenter(settings, print)
    assert asked == []
    assert made == [(settings.model, settings.device, settings.precision, settings.backend)]


def test_a_damaged_copy_is_reported_and_pytorch_runs_the_model(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    damaged = tmp_path / "copy.onnx"
    damaged.write_bytes(b"\x00" * 64)
    monkeypatch.setattr(loading, "cached_export", lambda model, say: damaged)
    said: list[str] = []
    settings = Settings(model=str(models["depth"]), device="cpu")
    segmenter = loading.load_segmenter(settings, said.append)
    assert segmenter.backend == "torch"
    assert len(said) == 1 and str(damaged) in said[0]
