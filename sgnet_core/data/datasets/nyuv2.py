"""NYUDv2 (Silberman et al., ECCV 2012): the official MATLAB files.

``nyu_depth_v2_labeled.mat`` contains the frames, ``splits.mat`` the split into 795 and 654 frames,
``classMapping40.mat`` (Gupta et al., CVPR 2013) and ``class13Mapping.mat`` (Couprie et al., ICLR
2013) the classes.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgnet_core.data import images
from sgnet_core.data.datasets.frame_files import DatasetError
from sgnet_core.data.datasets.matlab import (
    check_storage,
    checked_part,
    open_hdf5,
    variable,
    whole_numbers,
)
from sgnet_core.data.sample import Sample
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.models.labels import IGNORE_ID, NYU13, NYU40, LabelSet

CAMERA = Intrinsics(518.857901, 519.469611, 325.582449 - 1, 253.736166 - 1, 640, 480)
"""Color camera, to which depth is registered.

The numbers are from the toolbox of the data set, which counts pixels from 1."""

SPLIT_VARIABLES = {"train": "trainNdxs", "test": "testNdxs"}

MAX_UNPACKED_BYTES = 1 << 31
"""Maximum bytes that are decompressed of one array to read one frame. A chunk may contain parts of
many frames; the whole depth of NYUDv2 has 1.8 GB."""

_TYPES = {"images": ("u1",), "labels": ("u1", "u2"), "depth": ("f4", "f8")}


class NyuFile:
    """Frames of ``nyu_depth_v2_labeled.mat``, read one at a time.

    Args:
        path: the file, 2.8 GB.
        numbers: numbers of the frames, counted from 1 as in the splits.
        classes: (895,) class of every label 0..894, from `class_table`.
        label_set: label set of those classes, `NYU40` or `NYU13`.
        raw_depth: read the depth of the sensor with its holes instead of the filled depth.

    Raises:
        DatasetError: a variable is missing or of a wrong type or shape, or a frame does not exist.
    """

    def __init__(
        self,
        path: Path,
        numbers: NDArray[np.integer[Any]],
        classes: NDArray[np.uint8],
        label_set: LabelSet = NYU40,
        *,
        raw_depth: bool = False,
    ) -> None:
        self.path, self.numbers, self.classes = path, numbers, classes
        self.depth = "rawDepths" if raw_depth else "depths"
        self.label_set = label_set
        self._checked: dict[str, set[tuple[int, ...]]] = {}
        with open_hdf5(path) as file:
            count = len(file["images"])
            for kind, name in (("images", "images"), ("depth", self.depth), ("labels", "labels")):
                array, color = file[name], (3,) if kind == "images" else ()
                sizes = (count, *color, *file["images"].shape[-2:])
                if array.dtype.str[1:] not in _TYPES[kind] or array.shape != sizes:
                    raise DatasetError(
                        f"{path}: {name} is {array.dtype} of shape {array.shape}; this is not "
                        "nyu_depth_v2_labeled.mat"
                    )
                _check_frame_size(array)
        if not len(numbers) or numbers.min() < 1 or numbers.max() > count:
            raise DatasetError(
                f"{path} has {count} frames, but the split names {len(numbers)} frames up to "
                f"number {max(numbers, default=0)}: is it the split of another file?"
            )

    @property
    def names(self) -> list[str]:
        """Numbers of the frames in the file, four digits, counted from 1."""
        return [f"{number:04d}" for number in self.numbers]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Sample:
        """Read one frame; in the file, axes are reversed: (3, W, H) and (W, H)."""
        position = int(self.numbers[index]) - 1
        with open_hdf5(self.path) as file:
            part = (slice(position, position + 1),)
            frames = [
                checked_part(file[name], part, self._checked.setdefault(name, set()))[0]
                for name in ("images", self.depth, "labels")
            ]
        rgb = np.ascontiguousarray(frames[0].transpose(2, 1, 0))
        depth = np.ascontiguousarray(frames[1].T, dtype=np.float32)
        ids = frames[2].T
        if ids.max() >= len(self.classes):
            raise DatasetError(f"{self.path}: label {ids.max()} is not in the class mapping")
        depth[~(np.isfinite(depth) & (depth > 0))] = 0
        labels = np.ascontiguousarray(self.classes[ids])
        height, width = labels.shape
        # Original frames are 640x480; resizing also supports resized copies of the data set.
        return Sample(rgb, depth, labels, CAMERA.resized(width, height))


def _check_frame_size(array: Any) -> None:
    """Raise ValueError if reading a frame would take too much memory or time."""
    if (pixels := math.prod(array.shape[-2:])) > images.MAX_PIXELS:
        raise ValueError(
            f"{array.name} has frames of {pixels} pixels; at most {images.MAX_PIXELS} are read"
        )
    check_storage(array)
    if array.chunks is None:
        return
    frame = zip(array.shape[1:], array.chunks[1:], strict=True)
    touched = array.chunks[0] * math.prod(-(-side // chunk) * chunk for side, chunk in frame)
    if touched * array.dtype.itemsize > MAX_UNPACKED_BYTES:
        raise ValueError(
            f"{array.name} has chunks of {array.chunks}: a frame needs "
            f"{touched * array.dtype.itemsize} decompressed bytes; the limit is "
            f"{MAX_UNPACKED_BYTES}"
        )


def read_split(path: Path, split: str) -> NDArray[np.int64]:
    """Read the numbers of the frames of "train" or "test" from ``splits.mat``, counted from 1."""
    return np.ravel(whole_numbers(path, variable(path, SPLIT_VARIABLES[split])))


def class_table(mapping40: Path, mapping13: Path | None = None) -> NDArray[np.uint8]:
    """Return the class of every label, (895,) uint8 counted from 0; unlabeled is 255.

    Args:
        mapping40: ``classMapping40.mat``: 894 labels → 40 classes.
        mapping13: ``class13Mapping.mat``: 40 → 13 classes; None returns 40 classes.

    Raises:
        DatasetError: a file cannot be read, or its numbers are out of range.
    """
    to_40 = _checked(mapping40, variable(mapping40, "mapClass"), len(NYU40))
    if mapping13 is None:
        return np.concatenate([[IGNORE_ID], to_40 - 1]).astype(np.uint8)
    struct = variable(mapping13, "classMapping13")
    to_13 = _checked(mapping13, getattr(struct, "labels13", ()), len(NYU13))
    if len(to_13) != len(NYU40):
        raise DatasetError(f"{mapping13} maps {len(to_13)} classes, not {len(NYU40)}")
    return np.concatenate([[IGNORE_ID], to_13[to_40 - 1] - 1]).astype(np.uint8)


def _checked(path: Path, values: Any, classes: int) -> NDArray[np.int64]:
    array = np.squeeze(np.atleast_1d(whole_numbers(path, values)))
    if array.ndim != 1 or not array.size or array.min() < 1 or array.max() > classes:
        raise DatasetError(f"{path}: classes must be numbers 1..{classes}")
    return array
