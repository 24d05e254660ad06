"""Checkpoints that survive a crash, a full disk and a damaged file."""

from __future__ import annotations

import io
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from sgnet_core.files import atomic_write


class CheckpointError(ValueError):
    """No checkpoint of the folder can be used; the message names the file and the remedy."""


def previous(path: Path) -> Path:
    """Where the checkpoint before the one at ``path`` is kept."""
    return path.with_name(f"{path.stem}_previous{path.suffix}")


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Writes ``content`` (tensors and plain values); the file that was there becomes `previous`.

    At every moment at least one of the two is complete. The file is a zip archive, as torch.save
    writes it, in which each record has a checksum.

    Raises:
        OSError: it cannot be written; what was there is as it was.
    """
    memory = io.BytesIO()
    torch.save(content, memory)
    with atomic_write(path) as file:
        file.write(memory.getbuffer())
        file.flush()
        os.fsync(file.fileno())  # a full disk shows here at the latest, with nothing moved yet
        if path.exists():
            os.replace(path, previous(path))


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The newest checkpoint whose checksums are right; None where there is none at all.

    A damaged one is set aside (``.damaged``) with a warning, and the one before it is used.

    Raises:
        CheckpointError: there are checkpoints, but all are damaged.
        OSError: a file cannot be read.
    """
    damaged: dict[Path, str] = {}
    for candidate in (path, previous(path)):
        if not candidate.exists():
            continue
        try:
            content = _read(candidate)
        except zipfile.BadZipFile as error:
            damaged[candidate] = str(error)
            continue
        for file, reason in damaged.items():
            os.replace(file, file.with_suffix(".damaged"))
            warnings.warn(
                f"{file} is damaged ({reason}) and set aside; {candidate.name} is used",
                stacklevel=2,
            )
        return content
    if damaged:
        [(file, reason), *_] = damaged.items()
        raise CheckpointError(
            f"{file} is damaged ({reason}), and there is no other; train into a new --output "
            f"folder, from its best model if there is one: weights={path.parent}/best.safetensors"
        )
    return None


def _read(path: Path) -> dict[str, Any]:
    """Raises BadZipFile, with the reason, for whatever is wrong with the content."""
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
        if wrong is not None:
            raise zipfile.BadZipFile(f"wrong checksum of {wrong}")
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict):
            raise zipfile.BadZipFile("it holds no dictionary")
    except (OSError, zipfile.BadZipFile):
        raise
    except Exception as error:  # of many types, depending on which byte is wrong
        raise zipfile.BadZipFile(str(error).partition("\n")[0]) from error
    return content
