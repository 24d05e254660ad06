"""Evaluation by several processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sgnet_core import create_model
from sgnet_core.data.datasets.folder import read_classes
from sgnet_core.eval import main
from sgnet_core.models.info import ModelInfo
from sgnet_core.models.model_file import save_model


def test_two_processes_give_the_figures_of_one(
    tmp_path: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    model = create_model("sgnet_lite", num_classes=3, spatial="depth")
    model.info = ModelInfo("tiny", read_classes(frames / "classes.json").label_set)
    save_model(model, tmp_path / "m.safetensors")

    def arguments(name: str) -> list[str]:
        given = ["--data", frames, "--device", "cpu", "--model", tmp_path / "m.safetensors"]
        given += ["--json", tmp_path / f"{name}.json", "--report", tmp_path / f"{name}.html"]
        return [str(argument) for argument in given]

    def results(name: str, printed: str) -> tuple[Any, str, str]:
        """Figures, printed text, report page."""
        figures = json.loads((tmp_path / f"{name}.json").read_text())
        assert figures.pop("ms_per_frame") > 0
        told = re.sub(r"[0-9.]+ ms per frame|written.*", "", printed)
        return figures, told, (tmp_path / f"{name}.html").read_text()

    assert main(arguments("one")) == 0
    alone = results("one", capsys.readouterr().out)
    assert alone[0]["frames"] == 10 and alone[0]["miou"] > 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc-per-node", "2", "-m", "sgnet_core.eval", *arguments("two")]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert results("two", done.stdout) == alone
