"""Write the files of a data set without the writers of the product."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def save(path: Path, array: np.ndarray) -> None:
    """Write an image, or an array as ``.npy``, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        Image.fromarray(array).save(path)


def write_json(path: Path, values: object) -> None:
    """Write JSON and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))
