"""A model of four classes, a frame, and recordings of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from predict_files import LABELS
from sgnet_core import SGNet, create_model
from sgnet_core.data.images import write_png
from sgnet_core.models.info import ModelInfo
from sgnet_core.models.model_file import save_model


@pytest.fixture(scope="module")
def model(small_networks: None) -> SGNet:
    torch.manual_seed(2)
    model = create_model("sgnet_lite", num_classes=4, spatial="points")
    model.info = ModelInfo("tiny", LABELS, input_height=48)
    return model


@pytest.fixture(scope="module")
def frame() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    rgb = np.array(small.resize((81, 60), Image.Resampling.BICUBIC))
    depth = rng.integers(0, 5000, (60, 81)).astype(np.uint16)
    depth[20:30, 30:50] = 0
    return rgb, depth


@pytest.fixture(scope="module")
def model_file(model: SGNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    save_model(model, path)
    return path


@pytest.fixture
def files(tmp_path: Path, model_file: Path, frame: Any) -> Path:
    (tmp_path / "m.safetensors").symlink_to(model_file)
    write_png(tmp_path / "rgb.png", frame[0])
    write_png(tmp_path / "depth.png", frame[1])
    return tmp_path


@pytest.fixture
def recording(tmp_path: Path, frame: Any) -> Path:
    """Three pairs: as they are, mirrored, upside down."""
    folder = tmp_path / "recording"
    folder.mkdir()
    for index, turn in enumerate((np.s_[:], np.s_[:, ::-1], np.s_[::-1])):
        write_png(folder / f"{index}.rgb.png", np.ascontiguousarray(frame[0][turn]))
        write_png(folder / f"{index}.depth.png", np.ascontiguousarray(frame[1][turn]))
    return folder


@pytest.fixture
def plain_folder(recording: Path) -> Path:
    """Without labels and classes: they are not needed here."""
    folder = recording.parent / "plain"
    for kind in ("rgb", "depth"):
        (folder / kind).mkdir(parents=True)
        for path in recording.glob(f"*.{kind}.png"):
            shutil.copy(path, folder / kind / path.name.replace(f".{kind}", ""))
    camera = {"width": 81, "height": 60, "fx": 70, "fy": 71, "cx": 40, "cy": 30}
    (folder / "camera.json").write_text(json.dumps({**camera, "depth_scale": 0.002}))
    return folder
