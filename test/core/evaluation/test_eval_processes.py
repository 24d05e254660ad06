"""Evaluation by several processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from sgnet_core import create_model
from sgnet_core.data.datasets.folder import read_classes
from sgnet_core.models.info import ModelInfo
from sgnet_core.models.model_file import save_model


def test_two_processes_give_the_figures_of_one(tmp_path: Path, frames: Path) -> None:
    torch.manual_seed(0)
    model = create_model("sgnet_lite", num_classes=3, spatial="depth")
    model.info = ModelInfo("tiny", read_classes(frames / "classes.json").label_set)
    save_model(model, tmp_path / "m.safetensors")

    def evaluate(name: str, *launcher: str) -> tuple[Any, str, str]:
        """Figures, printed text, report page."""
        outer = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
        command = [*launcher, "-m", "sgnet_core.eval", "--data", str(frames), "--device", "cpu"]
        command += ["--model", str(tmp_path / "m.safetensors")]
        files = [tmp_path / f"{name}.json", tmp_path / f"{name}.html"]
        command += ["--json", str(files[0]), "--report", str(files[1])]
        done = subprocess.run(
            command, env={**outer, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        printed = re.sub(r"[0-9.]+ ms per frame|written.*", "", done.stdout)
        figures = json.loads(files[0].read_text())
        assert figures.pop("ms_per_frame") > 0
        return figures, printed, files[1].read_text()

    alone = evaluate("one", sys.executable)
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone")
    assert alone[0]["frames"] == 10 and alone[0]["miou"] > 0
    assert evaluate("two", *torchrun, "--nproc-per-node", "2") == alone
