"""Reading of PyTorch checkpoints as data only."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sgnet_core.models.model_file import ModelFileError


def read_checkpoint(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a PyTorch checkpoint to the CPU, without running code from it.

    Returns:
        The state dict without wrappers such as ``{"state_dict": …}`` and without ``module.``
        prefixes, and the numbers and strings stored next to it.

    Raises:
        ModelFileError: the file is missing, damaged, or contains objects other than tensors and
            plain values.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        entry = found[1] if found else "other objects"
        raise ModelFileError(
            f"{path}: not opened, because it contains {entry}, and loading that could run code: "
            "save the weights alone with torch.save(model.state_dict(), FILE)"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ModelFileError(f"{path}: truncated or not a checkpoint: {error}") from error
    record: dict[str, Any] = {}
    while isinstance(checkpoint, dict) and (inner := _wrapped(checkpoint)) is not None:
        record |= {k: v for k, v in checkpoint.items() if isinstance(v, int | float | str)}
        checkpoint = inner
    if not isinstance(checkpoint, dict) or not checkpoint:
        raise ModelFileError(f"{path}: does not contain a state dict")
    for key, value in checkpoint.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ModelFileError(f"{path}: its entry {key!r} is not a tensor")
    return {re.sub(r"^(module\.)+", "", k): v for k, v in checkpoint.items()}, record


def _wrapped(checkpoint: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the dictionary stored under a usual name of a state dict, or None."""
    for name in ("state_dict", "model_state_dict", "model", "net", "network", "weights"):
        if isinstance(checkpoint.get(name), dict):
            inner: dict[str, Any] = checkpoint[name]
            return inner
    return None
