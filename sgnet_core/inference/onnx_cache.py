"""Cache of exported model files, because ONNX Runtime is faster than PyTorch on CPUs.

The name of a copy contains a hash of the model file and of the package versions that made it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from sgnet_core.files import cache_folder

FOLDER = "SGNET_ONNX_CACHE"
"""Environment variable with the folder of the cache; "none" switches the cache off."""

_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime")
_REVISION = 1  # increase it when the exporter changes, to make new copies
_TIMEOUT_S = 900.0


def cached_export(model: str | os.PathLike[str], say: Callable[[str], None]) -> Path | None:
    """Return the exported copy of a model file, after exporting it if necessary.

    The export runs in another process, which frees its memory at the end. If it fails, or the copy
    differs from PyTorch, it is not tried again, unless it was interrupted.

    Args:
        model: ``.safetensors`` file.
        say: called with a line for the user before an export, and if there is no copy.

    Returns:
        The ``.onnx`` file; None if a package is missing, `FOLDER` is "none", the file cannot be
        read, or the export fails. PyTorch then runs the model.
    """
    if os.environ.get(FOLDER) == "none" or not all(map(importlib.util.find_spec, _PACKAGES)):
        return None
    try:
        copy = cached_path(model)
    except OSError:
        return None  # loading the model will report the error
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
        say(f"PyTorch runs the model; its export failed before: {failed.read_text()} ({failed})")
    except (OSError, subprocess.TimeoutExpired) as error:
        say(f"PyTorch runs the model, which was not exported for ONNX Runtime: {error}")
    return None


def cached_path(model: str | os.PathLike[str]) -> Path:
    """Return the path for the exported copy of a model file.

    Raises:
        OSError: the model file cannot be read.
    """
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    key = hashlib.sha256(Path(model).read_bytes())
    key.update(f"{_REVISION} {versions}".encode())
    folder = Path(os.environ.get(FOLDER) or cache_folder("onnx"))
    return folder / f"{Path(model).stem}-{key.hexdigest()[:16]}.onnx"


def _export(model: str | os.PathLike[str], copy: Path) -> str | None:
    """Export in another process; return None, or the reason of a failure.

    Raises:
        InterruptedError: Ctrl-C or SIGTERM ended that process.
        TimeoutExpired: the export takes too long.
    """
    command = [sys.executable, "-m", "sgnet_core.export", "--model", str(model), "--out", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    if done.returncode == 0:
        return None
    if -done.returncode in (signal.SIGINT, signal.SIGTERM):
        raise InterruptedError("the export was interrupted")  # says nothing about the file
    lines = done.stderr.strip().splitlines() or [f"the export ended with {done.returncode}"]
    return lines[-1]
