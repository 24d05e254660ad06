"""Model files: safetensors files with the metadata of `sgnet_core.models.metadata`.

The metadata says everything that is needed to run the model. A safetensors file contains data only:
opening it runs no code.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from sgnet_core.files import atomic_write
from sgnet_core.models.metadata import check_format, from_metadata, to_metadata
from sgnet_core.models.sgnet import SGNet


class ModelFileError(ValueError):
    """A model file that cannot be used; the message names the file and what is wrong with it."""


def default_model_path() -> Path:
    """Return the path of the weights shipped with the package."""
    return Path(__file__).parent / "weights" / "default.safetensors"


def save_model(model: SGNet, path: str | os.PathLike[str], *, half: bool = False) -> None:
    """Write weights, config and info to a model file.

    Args:
        model: on any device, in any mode.
        path: file to write; an existing file is replaced only by a complete new one.
        half: store convolution kernels as float16, which halves the size. Biases and batch-norm
            statistics exceed the range of float16 and stay float32. `load_model` returns float32
            either way.

    Raises:
        ValueError: a weight is NaN or infinite, or too large for ``half``.
        OSError: the file cannot be written.
    """
    tensors = {}
    for name, tensor in model.state_dict().items():
        saved = tensor.half() if half and tensor.ndim > 1 else tensor
        if not saved.isfinite().all():
            raise ValueError(f"{path} not written: {name} is not finite as {saved.dtype}")
        tensors[name] = saved.contiguous().cpu()
    with atomic_write(path) as file:
        file.write(safetensors.torch.save(tensors, to_metadata(model)))


def load_model(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> SGNet:
    """Load a model file as a float32 network in evaluation mode.

    Raises:
        ModelFileError: the file is missing, damaged, not a model file, of another version, or its
            weights do not fit its config.
    """
    metadata, tensors = _read(path)
    try:
        config, info = from_metadata(metadata)
        with torch.device("meta"):  # no memory yet: a wrong config may ask for any amount
            model = SGNet(config, info)
    except (ValueError, OverflowError) as error:
        raise ModelFileError(f"{path}: wrong metadata: {error}") from error
    _check(path, model.state_dict(), tensors)
    model.load_state_dict(tensors, assign=True)
    return model.eval().to(device)


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read metadata and tensors, floating-point ones as float32."""
    try:
        open(path, "rb").close()  # safetensors calls every file that it cannot open missing
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            check_format(metadata)
            # Copies, because the file is memory-mapped and may change after it is read.
            tensors = {name: _float32(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        _reject(path, error)
    except ValueError as error:
        raise ModelFileError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        hint = ": the package was installed without weights" if path == default_model_path() else ""
        raise ModelFileError(f"{path}: does not exist{hint}; give a model file") from error
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    return metadata, tensors


def _float32(tensor: Tensor) -> Tensor:
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.to(dtype, copy=True)


def _reject(path: str | os.PathLike[str], error: Exception) -> NoReturn:
    """Raise ModelFileError for a file that safetensors rejects; tell if it is a checkpoint."""
    with open(path, "rb") as file:
        start = file.read(2)
    if start == b"PK" or start[:1] == b"\x80":
        raise ModelFileError(
            f"{path}: a PyTorch checkpoint (pickle), not a model file; convert a released SGNet "
            "checkpoint with python -m sgnet_core.convert"
        ) from error
    raise ModelFileError(f"{path}: truncated, damaged or not a model file: {error}") from error


def _check(
    path: str | os.PathLike[str], expected: Mapping[str, Tensor], found: Mapping[str, Tensor]
) -> None:
    """Raise ModelFileError unless names, shapes and types are the expected ones, values finite."""
    problems = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
    }
    for name, tensor in found.items():
        if name not in expected:
            continue
        want = expected[name]
        if tensor.shape != want.shape:
            problems.setdefault("wrong shape", []).append(
                f"{name} is {list(tensor.shape)} instead of {list(want.shape)}"
            )
        elif tensor.dtype != want.dtype:
            problems.setdefault("wrong type", []).append(f"{name} is {tensor.dtype}")
        elif not tensor.isfinite().all():
            problems.setdefault("NaN or infinite", []).append(name)
    wrong = [
        f"{what}: {', '.join(names[:3])}" + (f" and {len(names) - 3} more" if names[3:] else "")
        for what, names in problems.items()
        if names
    ]
    if wrong:
        raise ModelFileError(f"{path}: weights do not fit the config; " + "; ".join(wrong))
