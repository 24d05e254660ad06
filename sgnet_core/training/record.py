"""Provenance of a run: code, libraries, machine and command line, saved with its results."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from sgnet_core import __version__
from sgnet_core.files import atomic_write
from sgnet_core.training.distributed import World

PACKAGE = Path(__file__).parents[1]
LIBRARIES = ("torch", "torchvision", "numpy", "opencv-python-headless", "safetensors")


def write_environment(
    folder: Path, seed: int, iteration: int, device: torch.device, world: World
) -> None:
    """Append this start of the run to ``environment.json``, a list with one entry per start.

    Uncommitted changes of a git checkout are saved in ``uncommitted_ITERATION.diff``.

    Raises:
        OSError: a file cannot be written.
    """
    path = folder / "environment.json"
    starts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    code, changes = code_state()
    if changes:
        code["diff"] = f"uncommitted_{iteration}.diff"
        with atomic_write(folder / code["diff"]) as file:
            file.write(changes.encode())
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    starts.append(
        {
            "iteration": iteration,
            "command": sys.argv,
            "seed": seed,
            "code": code,
            "libraries": {"python": platform.python_version(), **_versions()},
            "device": gpu or platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "processes": world.size,
        }
    )
    with atomic_write(path) as file:
        file.write(json.dumps(starts, indent=1).encode())


def code_state() -> tuple[dict[str, Any], str]:
    """Return version and commit of the code, and the diff of its uncommitted changes.

    Outside a git checkout there is no commit, and the diff is empty.
    """
    if _git("ls-files", "--error-unmatch", "__init__.py") is None:
        return {"version": __version__}, ""
    changes = _git("diff", "HEAD", "--no-color", "--no-ext-diff") or ""
    status = _git("status", "--porcelain") or ""
    new = [line[3:] for line in status.splitlines() if line.startswith("??")]
    commit = (_git("rev-parse", "HEAD") or "").strip()
    code = {"version": __version__, "commit": commit, "dirty": bool(status), "untracked": new}
    return code, changes


def _git(*arguments: str) -> str | None:
    """Return the output of a git command in the folder of the package, or None if it fails."""
    try:
        command = ["git", "-C", str(PACKAGE), *arguments]
        result = subprocess.run(command, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.decode(errors="replace") if result.returncode == 0 else None


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # e.g. OpenCV of the distribution
            versions[name] = None
    return versions
