"""Read MATLAB files: v5 with SciPy, v7.3 (HDF5) with h5py."""

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
"""Maximum chunk size of arrays in v7.3 files; MATLAB's chunks have at most a few MB."""

_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32"}  # supported filters by their HDF5 number
_SLACK_BYTES = 64  # for checksum and headers of a chunk

EXTRA = "pip install 'sgnet_ros[data]'"


def read_mat(path: Path) -> dict[str, Any]:
    """Read the variables of a MATLAB file.

    Structs and cells with one element are unwrapped. From v7.3 files, only arrays of numbers are
    read, in MATLAB's order of axes.

    Raises:
        DatasetError: the file is missing, damaged, not a MATLAB file, or too large, or SciPy or
            h5py is not installed.
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
    except Exception as error:  # SciPy raises many types for damaged files
        raise DatasetError(f"cannot read the MATLAB file {path}: {error}") from error
    return content


def _kind(path: Path) -> str:
    """Return "hdf5" for a v7.3 file, else "mat".

    Raises:
        DatasetError: the file is missing, or obviously not a MATLAB file.
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
        raise DatasetError(f"{path} is not a MATLAB file but {what}")
    hdf5 = b"\x89HDF\r\n\x1a\n"
    return "hdf5" if start.startswith(hdf5) or start[512:].startswith(hdf5) else "mat"


def read_array(array: Any) -> NDArray[Any]:
    """Read an array of a v7.3 file, in the stored order of axes.

    Raises:
        ValueError: the array has more than `MAX_MAT_BYTES`, or one of the errors of `check_storage`
            and `checked_part`.
    """
    if array.nbytes > MAX_MAT_BYTES:
        raise ValueError(f"{array.name} has {array.nbytes} bytes; at most {MAX_MAT_BYTES} are read")
    check_storage(array)
    return checked_part(array, (), set())


def check_storage(array: Any) -> None:
    """Check how an array of a v7.3 file is stored.

    Raises:
        ValueError: it is stored in other files, its chunks have more than `MAX_CHUNK_BYTES`, or
            they are compressed in a way that MATLAB does not use.
    """
    if array.is_virtual or array.external:
        raise ValueError(f"{array.name} is stored in other files, which are not read")
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
        raise ValueError(f"{array.name} is compressed by {names}; only MATLAB's gzip is read")


def checked_part(
    array: Any, part: tuple[slice, ...], checked: set[tuple[int, ...]]
) -> NDArray[Any]:
    """Read a part of an array of a v7.3 file that has passed `check_storage`.

    The HDF5 library decompresses chunks without a limit, and gzip can expand data by a factor of
    1032. So each chunk is first decompressed up to its expected size.

    Args:
        array: h5py data set.
        part: ranges of the first axes; the other axes are read completely.
        checked: first positions of checked chunks; those of the part are added.

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
    """Raise ValueError if a chunk is stored in more bytes than its size, or expands to more."""
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
        DatasetError: the file cannot be read or does not have the variable.
    """
    content = read_mat(path)
    if name not in content:
        there = ", ".join(k for k in content if not k.startswith("__"))
        raise DatasetError(f"{path} has no variable {name}, only {there or 'nothing'}")
    return content[name]


def whole_numbers(path: Path, values: Any) -> NDArray[np.int64]:
    """Return values of a MATLAB file as int64.

    Raises:
        DatasetError: they are not whole numbers.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf" or not np.array_equal(array, np.rint(array)):
        raise DatasetError(f"{path} holds {array.dtype} values where whole numbers are expected")
    return array.astype(np.int64)


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open a v7.3 file as ``h5py.File``; its arrays have MATLAB's axes reversed.

    Raises:
        DatasetError: the file is missing or damaged, h5py is not installed, or the block raises any
            other error, for example for a missing array.
    """
    try:
        import h5py  # type: ignore[import-untyped]
    except ImportError as error:
        raise DatasetError(f"reading {path} needs h5py: {EXTRA}") from error
    if _kind(path) != "hdf5":
        raise DatasetError(f"{path} is not a MATLAB v7.3 file (HDF5): is the download complete?")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DatasetError:
        raise
    except Exception as error:  # h5py raises many types for damaged files, also in the block
        raise DatasetError(
            f"cannot read the MATLAB file {path}: {error}; is the download complete?"
        ) from error
