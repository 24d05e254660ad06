"""MATLAB files: v5 through SciPy, v7.3 (HDF5) through h5py."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sgnet_core.data.datasets.frame_files import DatasetError

EXTRA = "pip install 'sgnet_ros[data]'"


def read_mat(path: Path) -> dict[str, Any]:
    """Read the variables of a v5 file; structs and cells with one element are unwrapped.

    Raises:
        DatasetError: missing, damaged, or SciPy is not installed.
    """
    try:
        import scipy.io  # type: ignore[import-untyped]
    except ImportError as error:
        raise DatasetError(f"reading {path} needs SciPy: {EXTRA}") from error
    if not path.is_file():
        raise DatasetError(f"{path} does not exist")
    try:
        content: dict[str, Any] = scipy.io.loadmat(
            path, squeeze_me=True, struct_as_record=False, chars_as_strings=True
        )
    except Exception as error:  # SciPy raises a dozen types on damaged files
        raise DatasetError(f"cannot read the MATLAB file {path}: {error}") from error
    return content


def variable(path: Path, name: str) -> Any:
    """Read one variable of a v5 file.

    Raises:
        DatasetError: the file cannot be read or holds no such variable.
    """
    content = read_mat(path)
    if name not in content:
        there = ", ".join(k for k in content if not k.startswith("__"))
        raise DatasetError(f"{path} holds no {name}, only {there or 'nothing'}")
    return content[name]


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open a v7.3 file as ``h5py.File``; its arrays have MATLAB's axes reversed.

    Raises:
        DatasetError: missing, damaged, lacks what the block asks for, or h5py is not installed.
    """
    try:
        import h5py  # type: ignore[import-untyped]
    except ImportError as error:
        raise DatasetError(f"reading {path} needs h5py: {EXTRA}") from error
    if not path.is_file():
        raise DatasetError(f"{path} does not exist")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DatasetError:
        raise
    except (OSError, KeyError, RuntimeError) as error:
        raise DatasetError(
            f"cannot read the MATLAB file {path}: {error}; is the download complete?"
        ) from error
