"""A data set and a configuration on which a training run takes seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

CLASSES = ("floor", "table", "robot")
SMALL_WIDTHS = (8, 16, 32, 64)


def write_frames(folder: Path, count: int, height: int = 40, width: int = 56) -> None:
    """Write a plain folder of boxes on a floor. A near box is a table or a robot by its color.

    The split "val" is the last two frames, "train" the others.
    """
    for kind in ("rgb", "depth", "labels", "splits"):
        (folder / kind).mkdir(parents=True)
    for index in range(count):
        rng = np.random.default_rng(index)
        labels = np.zeros((height, width), np.uint8)
        y, x = rng.integers(4, 16, 2)
        labels[y : y + 16, x : x + 20] = rng.integers(1, 3)
        labels[:2] = 255
        rgb = np.stack([labels * 60, 90 + 0 * labels, 200 - labels * 70], -1).astype(np.uint8)
        noisy = np.clip(rgb + rng.normal(0, 10, rgb.shape), 0, 255).astype(np.uint8)
        millimeters = np.where(labels == 0, 3000, 1500).astype(np.uint16)
        name = f"{index:03d}.png"
        Image.fromarray(noisy).save(folder / "rgb" / name)
        Image.fromarray(millimeters).save(folder / "depth" / name)
        Image.fromarray(labels).save(folder / "labels" / name)
    names = [f"{index:03d}" for index in range(count)]
    (folder / "splits" / "train.txt").write_text("\n".join(names[:-2]))
    (folder / "splits" / "val.txt").write_text("\n".join(names[-2:]))
    camera = {"width": width, "height": height, "fx": 50, "fy": 50, "cx": 28, "cy": 20}
    (folder / "camera.json").write_text(json.dumps(camera))
    (folder / "classes.json").write_text(json.dumps({"names": CLASSES}))


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a plain folder of 8 + 2 frames of 56x40 pixels in three classes."""
    folder = tmp_path_factory.mktemp("frames") / "boxes"
    write_frames(folder, 10)
    return folder


@pytest.fixture
def tiny(frames: Path) -> dict[str, Any]:
    """Return the values of a configuration for 6 iterations on `frames`."""
    return {
        "model": "sgnet_lite",
        "weights": "none",
        "train": f"{frames}:train",
        "validation": f"{frames}:val",
        "size": [32, 48],
        "batch": 4,
        "iterations": 6,
        "warmup": 1,
        "workers": 0,
        "validate_every": 6,
        "checkpoint_every": 3,
        "augment": {"scale": [1.0, 1.4], "flip": 0.5, "color": 0.2},
    }


@pytest.fixture
def tiny_file(tmp_path: Path, tiny: dict[str, Any]) -> Path:
    """Write `tiny` to a YAML file and return its path."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny))
    return path


@pytest.fixture
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build trunks of an eighth of the width, with checkpoints of 5 MB instead of 190 MB."""
    monkeypatch.setattr("sgnet_core.models.resnet.WIDTHS", SMALL_WIDTHS)


@pytest.fixture(scope="module")
def small_networks() -> Iterator[None]:
    """Do the same for all tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sgnet_core.models.resnet.WIDTHS", SMALL_WIDTHS)
        yield
