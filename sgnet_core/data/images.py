"""Read and write color, depth and label images; draw labels over an image."""

from __future__ import annotations

import io
import math
import mmap
import os
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sgnet_core.data import jpeg
from sgnet_core.data.depth_units import FARTHEST_M, NO_MEASUREMENT, median_depth, unit_hint
from sgnet_core.files import atomic_write, check_regular, mistaken_for
from sgnet_core.models.labels import IGNORE_ID, LabelSet

PathLike = str | os.PathLike[str]

MAX_PIXELS = 1 << 26
"""Maximum number of pixels of an image (8192x8192); it can be set higher."""

MAX_HEADER_BYTES = 10_000
"""Maximum header size of an array file."""

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
"""Supported file formats, in Pillow's names. Pillow would rescale the values of PGM files."""

_STRETCHED = {"L;2": 85, "L;4": 17}
"""Factors by which Pillow multiplies gray values of 2 and 4 bits."""


class ImageFileError(ValueError):
    """An image file that cannot be read or has wrong content; the message names the file."""


def read_rgb(path: PathLike) -> npt.NDArray[np.uint8]:
    """Read an 8-bit image file (PNG, JPEG, …) as (H, W, 3) uint8 RGB.

    Raises:
        ImageFileError: the file is missing, unreadable, truncated, or not an 8-bit image.
    """
    image = _open(path)
    if image.mode.startswith(("I", "F")):
        raise ImageFileError(
            f"{path} holds {image.mode} pixels, not 8-bit color: is it the depth image?"
        )
    return np.array(image.convert("RGB"))


def read_depth(
    path: PathLike, scale: float = 0.001, float_scale: float = 1.0
) -> npt.NDArray[np.float32]:
    """Read a depth file as (H, W) float32 meters; pixels without a measurement are 0.

    Integers equal to `NO_MEASUREMENT` become 0. Floating-point numbers are not changed, so NaN,
    infinite and negative values remain.

    Args:
        path: a 16-bit PNG, or an array in ``.npy`` or ``.npz`` (one array, or one named "depth").
        scale, float_scale: meters per unit of integers and of floating-point numbers.

    Raises:
        ImageFileError: the file is missing, unreadable, truncated, 8-bit, or not one number per
            pixel, or its median is beyond `FARTHEST_M`, so that its unit must be wrong.
    """
    numbers = read_numbers(path)
    integers = numbers.dtype.kind != "f"
    if numbers.itemsize == 1:
        raise ImageFileError(
            f"{path} holds 8-bit numbers, which is a picture of the depth: save meters as "
            "floating-point numbers, or 16-bit integers"
        )
    with np.errstate(over="ignore"):  # numbers beyond float32 become infinite: no measurement
        depth = numbers.astype(np.float32) * np.float32(scale if integers else float_scale)
    median = median_depth(depth)
    if median is not None and median > FARTHEST_M:
        raise ImageFileError(
            f"{path}: the median depth is {median:.4g} m: is the unit right? "
            + unit_hint(median / (scale if integers else float_scale), integers)
        )
    return depth


def read_numbers(path: PathLike) -> npt.NDArray[Any]:
    """Read a depth file as (H, W) numbers in its own unit; `NO_MEASUREMENT` becomes 0.

    Raises:
        ImageFileError: the file is missing, unreadable, truncated, not one number per pixel, or an
            8-bit image.
    """
    if Path(path).suffix.lower() in (".npy", ".npz"):
        numbers = _load_array(path)
        while numbers.ndim > 2 and 1 in (numbers.shape[0], numbers.shape[-1]):
            # Remove an axis for a batch of one, or for one channel.
            numbers = numbers[0] if numbers.shape[0] == 1 else numbers[..., 0]
    else:
        image = _open(path)
        if not image.mode.startswith(("I", "F")):
            raise ImageFileError(
                f"{path} holds 8-bit {image.mode} pixels; depth is read from a 16-bit gray PNG "
                "(or .npy, .npz): is it the color image?"
            )
        numbers = np.array(image)
    if numbers.ndim != 2 or numbers.dtype.kind not in "iuf":
        raise ImageFileError(
            f"{path} holds {numbers.dtype} of shape {numbers.shape}; depth must be one number per "
            "pixel"
        )
    if numbers.dtype.kind == "f":
        return numbers
    return np.where(numbers == NO_MEASUREMENT, 0, numbers)


def read_labels(path: PathLike) -> npt.NDArray[np.uint8]:
    """Read a label image (gray or palette indices) as (H, W) uint8 ids.

    Raises:
        ImageFileError: the file is missing, unreadable, truncated, or not one id of 0..255 per
            pixel.
    """
    image = _open(path, ids=True)
    labels = np.array(image)
    if image.mode not in ("1", "L", "P") and not (
        image.mode.startswith("I") and labels.min() >= 0 and labels.max() <= 255
    ):
        raise ImageFileError(f"{path} holds {image.mode} pixels; labels must be ids 0..255")
    return labels.astype(np.uint8)


def write_png(path: PathLike, image: npt.NDArray[Any]) -> None:
    """Write (H, W) uint8 or uint16, or (H, W, 3) uint8 RGB, as a PNG.

    An existing file is replaced only by a complete new one.

    Raises:
        ValueError: another dtype or shape.
        OSError: the file cannot be written.
    """
    gray = image.ndim == 2 and image.dtype in (np.uint8, np.uint16)
    if not gray and not (image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8):
        raise ValueError(f"cannot write {image.dtype} of shape {image.shape} as a PNG")
    with atomic_write(path) as file:
        Image.fromarray(np.ascontiguousarray(image)).save(file, format="PNG")


def overlay(
    rgb: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], label_set: LabelSet, alpha: float
) -> npt.NDArray[np.uint8]:
    """Draw labels over an image: (1 − alpha)·rgb + alpha·color, rounded.

    Args:
        rgb: (H, W, 3) uint8.
        labels: (H, W) ids; pixels with `IGNORE_ID` keep the image.
        label_set: classes with colors.
        alpha: opacity of the colors, 0..1, rounded to multiples of 1/255.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: alpha is not in [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"overlay opacity must be in [0, 1], got {alpha}")
    weight = round(alpha * 255)
    # Integers of at most 255·255 + 127, which fits 16 bits.
    tint = (label_set.palette.astype(np.uint16) * weight + 127).astype(np.uint16)
    mixed = np.multiply(rgb, 255 - weight, dtype=np.uint16)
    mixed += tint.take(labels, axis=0)
    mixed //= 255
    blend = mixed.astype(np.uint8)
    ignored = labels == IGNORE_ID
    if ignored.any():
        blend[ignored] = rgb[ignored]
    return blend


def open_image(file: PathLike | io.BytesIO, name: object, *, ids: bool = False) -> Image.Image:
    """Return a decoded image of at most `MAX_PIXELS`.

    Args:
        file: path, or the content of a file.
        name: name of the file for errors.
        ids: keep gray values of 2 and 4 bits, which Pillow would multiply.

    Raises:
        ImageFileError: the file is unreadable, truncated, too large, not in one of `FORMATS`, or a
            JPEG with too many scans.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.format in ("JPEG", "MPO") and not _has_few_scans(file):
                raise ImageFileError(
                    f"{name} is a JPEG with more than {jpeg.MAX_SCANS} scans, which is not decoded "
                    "(sgnet_core.data.jpeg.MAX_SCANS)"
                )
            if image.height * image.width > MAX_PIXELS:
                raise ImageFileError(
                    f"{name} is {image.width}x{image.height}; at most {MAX_PIXELS} pixels are read "
                    "(sgnet_core.data.images.MAX_PIXELS)"
                )
            packing = image.tile[0][3] if image.tile else ""
            image.load()
            step = _STRETCHED.get(packing, 1) if ids and isinstance(packing, str) else 1
            return image if step == 1 else image.point([v // step for v in range(256)])
    except ImageFileError:
        raise
    except FileNotFoundError as error:
        raise ImageFileError(f"{name} does not exist") from error
    except Exception as error:  # Pillow's decoders raise many types for damaged files
        raise ImageFileError(f"{name} cannot be read as an image: {error}") from error


def _has_few_scans(file: PathLike | io.BytesIO) -> bool:
    """Return True if a JPEG file has at most `jpeg.MAX_SCANS` scans."""
    if isinstance(file, io.BytesIO):
        return jpeg.count_scans(file.getbuffer()) <= jpeg.MAX_SCANS
    with (
        open(file, "rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        return jpeg.count_scans(mapped) <= jpeg.MAX_SCANS


def _open(path: PathLike, *, ids: bool = False) -> Image.Image:
    """Return the decoded image of a file."""
    try:
        check_regular(path)
        with open(path, "rb") as file:
            what = mistaken_for(file.read(64))
    except FileNotFoundError as error:
        raise ImageFileError(f"{path} does not exist") from error
    except OSError as error:
        raise ImageFileError(f"{path} cannot be read as an image: {error}") from error
    if what:
        raise ImageFileError(f"{path} is not an image but {what}")
    return open_image(path, path, ids=ids)


def _load_array(path: PathLike) -> npt.NDArray[Any]:
    """Return the array of a .npy or .npz file; pickled objects are rejected."""
    try:
        check_regular(path)
        if Path(path).suffix.lower() == ".npy":
            with open(path, "rb") as file:
                if what := mistaken_for(file.read(64)):
                    raise ImageFileError(f"{path} is not an array but {what}")
                file.seek(0)
                return _read_array(path, file)
        with np.load(path, allow_pickle=False) as loaded:
            names = loaded.files
            name = names[0] if len(names) == 1 else "depth"
            if name not in names:
                raise ImageFileError(
                    f"{path} holds the arrays {', '.join(names)}: rename one of them to depth"
                )
            with loaded.zip.open(f"{name}.npy") as member:
                return _read_array(path, member)
    except FileNotFoundError as error:
        raise ImageFileError(f"{path} does not exist") from error
    except ImageFileError:
        raise
    except Exception as error:  # errors of zip files, headers and types have no common base
        raise ImageFileError(f"{path} cannot be read as an array: {error}") from error


def _read_array(path: PathLike, file: IO[bytes]) -> npt.NDArray[Any]:
    """Return the array in a .npy file, after checking the sizes and the type in its header."""
    start = file.read(12)
    size = int.from_bytes(start[8 : 10 if start[6:7] == b"\x01" else 12], "little")
    if size > MAX_HEADER_BYTES:
        raise ImageFileError(f"{path} has a header of {size} bytes; at most {MAX_HEADER_BYTES}")
    header = io.BytesIO(start + file.read(size))
    old = np.lib.format.read_magic(header) == (1, 0)
    read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(header)
    if dtype.hasobject:
        raise ImageFileError(f"{path} holds Python objects, which are not loaded: save numbers")
    if dtype.kind not in "biufc":
        raise ImageFileError(f"{path} holds {dtype} instead of numbers")
    if math.prod(shape) > MAX_PIXELS:
        raise ImageFileError(
            f"{path} holds {math.prod(shape)} numbers; at most {MAX_PIXELS} are read "
            "(sgnet_core.data.images.MAX_PIXELS)"
        )
    file.seek(0)
    array: npt.NDArray[Any] = np.load(file, allow_pickle=False)
    return array
