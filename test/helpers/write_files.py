"""Files of a data set, written as a person would have them; the product's writers are not asked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def save(path: Path, array: np.ndarray) -> None:
    """An image, or an array as ``.npy``; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        Image.fromarray(array).save(path)


def write_json(path: Path, values: object) -> None:
    """JSON; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))
