"""Exported copies of model files, made once, for CPUs: ONNX Runtime is faster there.

A copy is named after the content of the model file and the versions that made it, and is compared
with PyTorch when it is made (`sgnet_core.inference.onnx_export`).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from sgnet_core.files import cache_folder

FOLDER = "SGNET_ONNX_CACHE"
"""Variable with the folder of the copies; "none" makes and uses none."""

_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime")
_REVISION = 1  # of the exporter: another one makes new copies
_PATIENCE_S = 900.0


def cached_export(model: str | os.PathLike[str], say: Callable[[str], None]) -> Path | None:
    """Return the exported copy of a model file; export it first where there is none.

    The export runs in a process of its own, so that its memory is not this one's. A model that
    cannot be exported, or whose copy differs from PyTorch, is not tried again.

    Args:
        model: ``.safetensors`` file.
        say: called with a line for the user: before an export, and where it fails.

    Returns:
        None where a package is missing, the variable `FOLDER` says so, the file cannot be read, or
        the export fails: PyTorch runs the model then.
    """
    if os.environ.get(FOLDER) == "none" or not all(map(importlib.util.find_spec, _PACKAGES)):
        return None
    try:
        copy = cached_path(model)
    except OSError:
        return None  # who loads the model says why
    failed = copy.with_suffix(".failed")
    try:
        if copy.is_file():
            return copy
        if not failed.is_file():
            say(
                f"exporting {os.path.basename(model)} for ONNX Runtime, which takes a minute and "
                f"happens once: {copy}"
            )
            copy.parent.mkdir(parents=True, exist_ok=True)
            problem = _export(model, copy)
            if problem is None:
                return copy
            failed.write_text(problem)
        say(f"PyTorch runs the model, ONNX Runtime cannot: {failed.read_text()} ({failed})")
    except (OSError, subprocess.TimeoutExpired) as error:
        say(f"PyTorch runs the model, it was not exported for ONNX Runtime: {error}")
    return None


def cached_path(model: str | os.PathLike[str]) -> Path:
    """Return where the exported copy of a model file is, or would be.

    Raises:
        OSError: the model file cannot be read.
    """
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    key = hashlib.sha256(Path(model).read_bytes())
    key.update(f"{_REVISION} {versions}".encode())
    folder = Path(os.environ.get(FOLDER) or cache_folder("onnx"))
    return folder / f"{Path(model).stem}-{key.hexdigest()[:16]}.onnx"


def _export(model: str | os.PathLike[str], copy: Path) -> str | None:
    """Export in another process; return None, or the reason for which there is no copy."""
    command = [sys.executable, "-m", "sgnet_core.export", "--model", str(model), "--out", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S)
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines() or [f"the export ended with {done.returncode}"]
    return lines[-1]
