"""Small recordings and a small model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sgnet_core import create_model
from sgnet_core.data.images import write_png
from sgnet_core.models.info import ModelInfo
from sgnet_core.models.labels import LabelSet
from sgnet_core.models.model_file import save_model

LABELS = LabelSet("four", ("wall", "floor", "cup", "door"), tuple((i, 80, 9 * i) for i in range(4)))
CAMERA = {"width": 48, "height": 36, "fx": 40, "fy": 41, "cx": 20, "cy": 18}


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(2)
    model = create_model("sgnet_lite", num_classes=4, spatial="points")
    model.info = ModelInfo("tiny", LABELS, input_height=36)
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    save_model(model, path)
    return path


def write_recording(folder: Path, seed: int, frames: int = 2) -> None:
    """A plain folder of frames."""
    rng = np.random.default_rng(seed)
    for index in range(frames):
        small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        rgb = np.array(small.resize((48, 36), Image.Resampling.BICUBIC))
        depth = rng.integers(500, 5000, (36, 48)).astype(np.uint16)
        for kind, image in (("rgb", rgb), ("depth", depth)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            write_png(folder / kind / f"{index}.png", image)
    (folder / "camera.json").write_text(json.dumps(CAMERA))


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A folder of three recordings, walk0 to walk2, of two frames each."""
    for index in range(3):
        write_recording(tmp_path / "recordings" / f"walk{index}", index)
    return tmp_path / "recordings"
