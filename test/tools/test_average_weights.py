"""tools/average_weights.py: the mean of model files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from average_weights import main
from sgnet_core.models.model_file import load_model, save_model
from sgnet_core.models.sgnet import create_model

KEY = "head.classify.bias"


def write(path: Path, value: float, classes: int = 3) -> Path:
    model = create_model("sgnet_lite", classes)
    torch.nn.init.constant_(model.state_dict()[KEY], value)
    next(v for k, v in model.state_dict().items() if k.endswith("tracked")).fill_(int(value))
    save_model(model, path)
    return path


def test_the_average_has_the_mean_of_every_number_and_counts_of_the_last(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.safetensors", 1.0), write(tmp_path / "b.safetensors", 4.0)
    out = tmp_path / "c.safetensors"
    assert main([str(a), str(b), "--out", str(out), "--half", "--input-height", "96"]) == 0
    mean, first, last = (load_model(path) for path in (out, a, b))
    assert mean.info.input_height == 96
    assert torch.equal(mean.state_dict()[KEY], torch.full((3,), 2.5))
    for name, value in mean.state_dict().items():
        expected = last.state_dict()[name]
        if value.is_floating_point():
            expected = (first.state_dict()[name] + expected) / 2
        torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-6, msg=name)


def test_other_architectures_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = write(tmp_path / "a.safetensors", 1.0), write(tmp_path / "b.safetensors", 1.0, 4)
    assert main([str(a), str(b), "--out", str(tmp_path / "c.safetensors")]) == 2
    assert "differ in architecture or classes" in capsys.readouterr().err
    assert not (tmp_path / "c.safetensors").exists()
