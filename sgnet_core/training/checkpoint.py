"""Checkpoints that survive a crash, a full disk and a damaged file."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from sgnet_core.files import atomic_write

KEPT_CHECKSUMS = 16
"""Number of checksums in the checksum file, which includes those of older checkpoints."""


class CheckpointError(ValueError):
    """No checkpoint of the folder can be used; the message names the file and the remedy."""


class _Damaged(Exception):
    """The content of a checkpoint is wrong; the message says why."""


def previous(path: Path) -> Path:
    """Return the path of the checkpoint before the one at ``path``."""
    return path.with_name(f"{path.stem}_previous{path.suffix}")


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` (tensors and plain values); an existing file becomes `previous`.

    At least one of the two files is complete at any time. Their SHA-256 checksums are in a file
    next to them, which is written first.

    Raises:
        OSError: the checkpoint cannot be written; earlier ones are unchanged.
    """
    memory = io.BytesIO()
    torch.save(content, memory)
    data = memory.getvalue()
    checksums = [hashlib.sha256(data).hexdigest(), *_checksums(path)][:KEPT_CHECKSUMS]
    with atomic_write(path) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # a full disk raises here, before files are renamed
        with atomic_write(_checksum_file(path)) as sums:
            sums.write("".join(f"{checksum}\n" for checksum in checksums).encode())
        if path.exists():
            os.replace(path, previous(path))


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return the newest checkpoint with a correct checksum, or None if there is no checkpoint.

    A damaged one is renamed to ``.damaged`` with a warning, and the previous one is used. Without a
    checksum file, checkpoints are not checked.

    Raises:
        CheckpointError: all checkpoints are damaged.
        OSError: a file cannot be read.
    """
    damaged: dict[Path, str] = {}
    checksums = _checksums(path)
    for candidate in (path, previous(path)):
        if not candidate.exists():
            continue
        try:
            content = _read(candidate, checksums)
        except _Damaged as error:
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
            f"{file} is damaged ({reason}), and there is no other checkpoint; train into a new "
            "--output folder, starting from the best model if there is one: "
            f"weights={path.parent}/best.safetensors"
        )
    return None


def _checksum_file(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _checksums(path: Path) -> list[str]:
    """Return the checksums of complete checkpoints, the newest first; [] without a file."""
    try:
        return _checksum_file(path).read_text(encoding="ascii").split()
    except (FileNotFoundError, UnicodeDecodeError):
        return []


def _read(path: Path, checksums: Collection[str]) -> dict[str, Any]:
    data = path.read_bytes()
    if checksums and hashlib.sha256(data).hexdigest() not in checksums:
        raise _Damaged("its checksum is wrong")
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # the type depends on the damaged bytes
        raise _Damaged(str(error).partition("\n")[0]) from error
    if not isinstance(content, dict):
        raise _Damaged("it is not a dictionary")
    return content
