"""MATLAB files: v5 through SciPy, v7.3 (HDF5) through h5py."""

from __future__ import annotations

import contextlib
import io
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgnet_core.data.datasets.frame_files import DatasetError
from sgnet_core.data.datasets.matlab_checks import MAX_MAT_BYTES, check_mat5
from sgnet_core.files import check_regular, mistaken_for, read_limited

_UNCHECKED_BYTES = 1 << 18
"""Stored size up to which a chunk may unpack to what it wants: 258 MiB at most."""

EXTRA = "pip install 'sgnet_ros[data]'"


def read_mat(path: Path) -> dict[str, Any]:
    """Read the variables of a MATLAB file.

    Structs and cells with one element are unwrapped. Of v7.3 files, arrays of numbers are read,
    with MATLAB's axes.

    Raises:
        DatasetError: missing, damaged, no MATLAB file, too large, or SciPy or h5py is not
            installed.
    """
    if _kind(path) == "hdf5":
        with open_hdf5(path) as file:
            arrays = {k: v for k, v in file.items() if getattr(v, "dtype", None) is not None}
            return {k: read_array(v).T for k, v in arrays.items() if v.dtype.kind in "uifb"}
    try:
        import scipy.io  # type: ignore[import-untyped]
    except ImportError as error:
        raise DatasetError(f"reading {path} needs SciPy: {EXTRA}") from error
    try:
        data = read_limited(path, MAX_MAT_BYTES)
        check_mat5(data)
        content: dict[str, Any] = scipy.io.loadmat(
            io.BytesIO(data), squeeze_me=True, struct_as_record=False, chars_as_strings=True
        )
    except Exception as error:  # SciPy raises a dozen types on damaged files
        raise DatasetError(f"cannot read the MATLAB file {path}: {error}") from error
    return content


def _kind(path: Path) -> str:
    """Return "hdf5" for a v7.3 file, else "mat".

    Raises:
        DatasetError: the file is missing, or evidently something else.
    """
    try:
        check_regular(path)
        with open(path, "rb") as file:
            start = file.read(1024)
    except FileNotFoundError as error:
        raise DatasetError(f"{path} does not exist") from error
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror or error}") from error
    if what := mistaken_for(start):
        raise DatasetError(f"{path} is no MATLAB file but {what}")
    hdf5 = b"\x89HDF\r\n\x1a\n"
    return "hdf5" if start.startswith(hdf5) or start[512:].startswith(hdf5) else "mat"


def read_array(array: Any) -> NDArray[Any]:
    """Read an array of a v7.3 file, in its stored order of axes.

    Raises:
        ValueError: it has more than `MAX_MAT_BYTES`, or a part of it unpacks to more than its size.
    """
    if array.nbytes > MAX_MAT_BYTES:
        raise ValueError(f"{array.name} has {array.nbytes} bytes; at most {MAX_MAT_BYTES} are read")
    if array.chunks is not None:
        _check_chunks(array)
    return np.asarray(array)


def _check_chunks(array: Any) -> None:
    """Raise ValueError where a chunk is stored in more bytes than it has, or unpacks to more.

    The HDF5 library unpacks whatever is stored, and deflate at most to 1032 times the size.
    """
    size = math.prod(array.chunks) * array.dtype.itemsize
    for part in array.iter_chunks():
        start = tuple(side.start for side in part)
        stored = array.id.get_chunk_info_by_coord(start).size
        too_much = stored > size + size // 100 + 64
        if stored > _UNCHECKED_BYTES and array.compression == "gzip" and not too_much:
            _, data = array.id.read_direct_chunk(start)
            unpacker = zlib.decompressobj()
            unpacker.decompress(data, size)
            too_much = bool(unpacker.unconsumed_tail)
        if too_much:
            raise ValueError(f"{array.name}: a chunk of {size} bytes unpacks to more")


def variable(path: Path, name: str) -> Any:
    """Read one variable of a MATLAB file.

    Raises:
        DatasetError: the file cannot be read or holds no such variable.
    """
    content = read_mat(path)
    if name not in content:
        there = ", ".join(k for k in content if not k.startswith("__"))
        raise DatasetError(f"{path} holds no {name}, only {there or 'nothing'}")
    return content[name]


def whole_numbers(path: Path, values: Any) -> NDArray[np.int64]:
    """Return values of a MATLAB file as int64, of their shape.

    Raises:
        DatasetError: they are no whole numbers.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf" or not np.array_equal(array, np.rint(array)):
        raise DatasetError(f"{path} holds {array.dtype} values where whole numbers are expected")
    return array.astype(np.int64)


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open a v7.3 file as ``h5py.File``; its arrays have MATLAB's axes reversed.

    Raises:
        DatasetError: missing, damaged, lacks what the block asks for, holds something else under
            its name, or h5py is not installed.
    """
    try:
        import h5py  # type: ignore[import-untyped]
    except ImportError as error:
        raise DatasetError(f"reading {path} needs h5py: {EXTRA}") from error
    if _kind(path) != "hdf5":
        raise DatasetError(f"{path} is no MATLAB file of v7.3 (HDF5): is the download complete?")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DatasetError:
        raise
    except Exception as error:  # h5py raises a dozen types on damaged files, in the block too
        raise DatasetError(
            f"cannot read the MATLAB file {path}: {error}; is the download complete?"
        ) from error
