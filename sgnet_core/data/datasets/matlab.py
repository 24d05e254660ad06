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

MAX_CHUNK_BYTES = 1 << 26
"""Largest chunk of an array of a v7.3 file. MATLAB writes chunks of at most a few MB."""

_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32"}  # HDF5's numbers of those that are read
_SLACK_BYTES = 64  # checksum and headers of a chunk

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
        ValueError: it has more than `MAX_MAT_BYTES`, or as `checked_part` does.
    """
    if array.nbytes > MAX_MAT_BYTES:
        raise ValueError(f"{array.name} has {array.nbytes} bytes; at most {MAX_MAT_BYTES} are read")
    check_storage(array)
    return checked_part(array, (), set())


def check_storage(array: Any) -> None:
    """Check how an array of a v7.3 file is stored.

    Raises:
        ValueError: it lies in other files, its chunks have more than `MAX_CHUNK_BYTES`, or they
            are packed in another way than MATLAB's.
    """
    if array.is_virtual or array.external:
        raise ValueError(f"{array.name} lies in other files, which are not read")
    if array.chunks is None:
        return
    if (size := _chunk_bytes(array)) > MAX_CHUNK_BYTES:
        raise ValueError(
            f"{array.name} has chunks of {size} bytes; at most {MAX_CHUNK_BYTES} are read"
        )
    properties = array.id.get_create_plist()
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if len(set(filters)) < len(filters) or not set(filters) <= _FILTERS.keys():
        names = ", ".join(_FILTERS.get(number, f"filter {number}") for number in filters)
        raise ValueError(f"{array.name} is packed by {names}; MATLAB's gzip is read")


def checked_part(
    array: Any, part: tuple[slice, ...], checked: set[tuple[int, ...]]
) -> NDArray[Any]:
    """Read a part of an array of a v7.3 file whose storage is checked.

    The HDF5 library unpacks whatever is stored, and deflate at most to 1032 times the size. So each
    chunk is unpacked beforehand to the size that it should have.

    Args:
        array: of h5py.
        part: range of the first axes; the others are read whole.
        checked: first positions of chunks that are sound; gets those of the part.

    Raises:
        ValueError: a chunk unpacks to more than its size.
    """
    part += tuple(slice(0, side) for side in array.shape[len(part) :])
    for slices in array.iter_chunks(part) if array.chunks is not None else ():
        inside = zip(slices, array.chunks, strict=True)
        start = tuple(side.start // length * length for side, length in inside)
        if start not in checked:
            _check_chunk(array, start)
            checked.add(start)
    return np.asarray(array[part])


def _check_chunk(array: Any, start: tuple[int, ...]) -> None:
    """Raise ValueError where a chunk is stored in more bytes than it has, or unpacks to more."""
    size = _chunk_bytes(array)
    stored = array.id.get_chunk_info_by_coord(start).size
    too_much = stored > size + size // 100 + _SLACK_BYTES
    if stored and array.compression == "gzip" and not too_much:
        _, data = array.id.read_direct_chunk(start)
        unpacked = zlib.decompressobj().decompress(data, size + _SLACK_BYTES + 1)
        too_much = len(unpacked) > size + _SLACK_BYTES
    if too_much:
        raise ValueError(f"{array.name}: a chunk of {size} bytes unpacks to more")


def _chunk_bytes(array: Any) -> int:
    return math.prod(array.chunks) * int(array.dtype.itemsize)


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
