"""The command `sgnet_core.predict` in tests: its arguments, and what came of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from sgnet_core.models.labels import LabelSet
from sgnet_core.predict import main

LABELS = LabelSet("four", ("wall", "floor", "cup", "door"), tuple((i, 80, 9 * i) for i in range(4)))


INTRINSICS = ("--intrinsics", "70", "71", "40", "30")


def counted(*labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    return sum((np.bincount(mask.ravel(), minlength=256) for mask in labels), np.zeros(256, int))


def arguments(folder: Path, *extra: str, **changed: str) -> list[str]:
    names = {"model": "m.safetensors", "rgb": "rgb.png", "depth": "depth.png", "out": "out"}
    names |= changed
    paths = [a for key, name in names.items() for a in (f"--{key}", str(folder / name))]
    return [*paths, "--device", "cpu", *(extra or ("--intrinsics", "70", "71", "40", "30"))]


def refused(capsys: pytest.CaptureFixture[str], args: list[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(args)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def predict(model_file: Path, out: Path, *arguments: object) -> int:
    """The command's exit status."""
    fixed = ["--model", str(model_file), "--device", "cpu", "--out", str(out)]
    return main([*map(str, arguments), *fixed])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
