"""Labeled RGB-D frames in image files: the base of every folder layout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgnet_core.data.images import read_depth, read_labels, read_rgb
from sgnet_core.data.sample import Sample
from sgnet_core.files import read_limited
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.models.labels import IGNORE_ID, LabelSet

MAX_JSON_BYTES = 1 << 24
"""Maximum size of a JSON file."""

MAX_LIST_BYTES = 1 << 28
"""Maximum size of a list of frames."""

IdTable = NDArray[np.int16]
"""(256,) classes by id in a label file; -1 marks ids that are not allowed."""


class DatasetError(ValueError):
    """A data set that cannot be read; the message names the file or folder and the remedy."""


@dataclass(frozen=True)
class FramePaths:
    """Paths of the files of one labeled frame.

    Attributes:
        name: name, unique in its data set and valid as a file name.
        rgb, depth, labels: image files.
        camera: file with the intrinsics, in layouts that have one.
    """

    name: str
    rgb: Path
    depth: Path
    labels: Path
    camera: Path | None = None


class FrameFiles:
    """A data set of frames in files, which are read on access.

    Layouts override `read_depth` if their depth is not 16-bit millimeters, `read_labels` if their
    labels are not ids in images, and `read_intrinsics`.

    Args:
        frames: the frames in their order.
        label_set: the classes.

    Attributes:
        frames, label_set: as given.
        id_table: class of every id in the label files; by default, ids are classes.
    """

    def __init__(self, frames: Sequence[FramePaths], label_set: LabelSet) -> None:
        self.frames = list(frames)
        self.label_set = label_set
        self.id_table = id_table(range(len(label_set)))

    @property
    def names(self) -> list[str]:
        """Names of the frames, in order."""
        return [frame.name for frame in self.frames]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Sample:
        """Read one frame.

        Raises:
            IndexError: there is no such frame.
            ValueError: a file is missing, damaged, has wrong content, or differs in size from the
                color image.
        """
        frame = self.frames[index]
        rgb = read_rgb(frame.rgb)
        depth = self.read_depth(frame)
        labels = self.read_labels(frame)
        height, width = rgb.shape[:2]
        for path, array in ((frame.depth, depth), (frame.labels, labels)):
            if array.shape != (height, width):
                raise DatasetError(
                    f"{path} is {array.shape[1]}x{array.shape[0]}, "
                    f"but {frame.rgb} is {width}x{height}"
                )
        intrinsics = self.read_intrinsics(frame, width, height)
        depth[~(np.isfinite(depth) & (depth > 0))] = 0
        return Sample(rgb, depth, labels, intrinsics)

    def read_depth(self, frame: FramePaths) -> NDArray[np.float32]:
        """Read the depth, (H, W) float32 meters."""
        return read_depth(frame.depth)

    def read_labels(self, frame: FramePaths) -> NDArray[np.uint8]:
        """Read the labels, (H, W) uint8 class ids, 255 = ignore."""
        return to_classes(read_labels(frame.labels), self.id_table, frame.labels)

    def read_intrinsics(self, frame: FramePaths, width: int, height: int) -> Intrinsics:
        """Read the intrinsics of an image of ``width`` x ``height`` pixels."""
        raise NotImplementedError


def id_table(ids: Iterable[int], ignored: Iterable[int] = (IGNORE_ID,)) -> IdTable:
    """Return the table that maps the i-th of ``ids`` to class i and ``ignored`` ids to 255."""
    table = np.full(256, -1, np.int16)
    table[list(ignored)] = IGNORE_ID
    for index, value in enumerate(ids):
        table[value] = index
    return table


def from_one(num_classes: int) -> IdTable:
    """Return the table for label files that count classes from 1; 0 and 255 are unlabeled."""
    return id_table(range(1, num_classes + 1), ignored=(0, IGNORE_ID))


def to_classes(ids: NDArray[np.integer[Any]], table: IdTable, path: Path) -> NDArray[np.uint8]:
    """Convert (H, W) ids of a file to (H, W) uint8 classes.

    Raises:
        DatasetError: an id is neither a class nor ignored.
    """
    classes = table[ids]
    if (classes < 0).any():
        strange = ", ".join(map(str, np.unique(ids[classes < 0])))
        raise DatasetError(f"{path} holds ids that are neither a class nor ignored: {strange}")
    return classes.astype(np.uint8)


def read_lines(path: Path) -> list[str]:
    """Read the lines of a list file without blank lines and comments (#), with / in paths.

    Raises:
        DatasetError: the file is missing, not text, or empty.
    """
    try:
        text = _decoded(read_limited(path, MAX_LIST_BYTES))
        lines = [line.strip().replace("\\", "/") for line in text.splitlines()]
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read the list {path}: {error}") from error
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise DatasetError(f"the list {path} is empty; it should name one frame per line")
    return lines


def read_words(path: Path) -> list[str]:
    """Read the words of a small text file, such as the numbers of a matrix.

    Raises:
        DatasetError: the file is missing, not text, or larger than `MAX_JSON_BYTES`.
    """
    try:
        return _decoded(read_limited(path, MAX_JSON_BYTES)).split()
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read {path}: {error}") from error


def _decoded(data: bytes) -> str:
    """Decode UTF-8 or UTF-16, with or without a byte-order mark."""
    return data.decode(json.detect_encoding(data))


def parse_json(data: bytes, name: object) -> Any:
    """Parse JSON in UTF-8 or UTF-16, with or without a byte-order mark.

    Args:
        data: content of a file.
        name: name of the file for errors.

    Raises:
        DatasetError: the content is not JSON, nested too deeply, or too large.
    """
    if len(data) > MAX_JSON_BYTES:
        raise DatasetError(
            f"cannot read {name}: it has {len(data)} bytes; at most {MAX_JSON_BYTES} are read"
        )
    try:
        return json.loads(data)
    except RecursionError as error:
        raise DatasetError(f"cannot read {name}: its values are nested too deeply") from error
    except ValueError as error:
        raise DatasetError(f"cannot read {name}: {error}") from error


def read_json(path: Path) -> Any:
    """Read a JSON file, in UTF-8 or UTF-16, with or without a byte-order mark.

    Raises:
        DatasetError: the file is missing, not JSON, nested too deeply, or too large.
    """
    try:
        data = read_limited(path, MAX_JSON_BYTES)
    except FileNotFoundError as error:
        raise DatasetError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read {path}: {error}") from error
    return parse_json(data, path)


def existing(frames: Sequence[FramePaths]) -> Sequence[FramePaths]:
    """Return the frames after checking their files.

    Raises:
        DatasetError: a file does not exist, or two frames have the same name.
    """
    seen: set[str] = set()
    for frame in frames:
        if frame.name in seen:
            raise DatasetError(f"two frames have the name {frame.name}; one is {frame.rgb}")
        seen.add(frame.name)
        for path in (frame.rgb, frame.depth, frame.labels, frame.camera):
            if path is not None and not path.is_file():
                raise DatasetError(f"{path} does not exist: frame {frame.name} needs it")
    return frames


def chosen_splits(
    lists: Mapping[str, Path], split: str | None, folder: Path
) -> list[tuple[str, Path]]:
    """Return the (name, list file) of a split, or those of all splits if ``split`` is None.

    Raises:
        DatasetError: there is no such split.
    """
    if split is None:
        return list(lists.items())
    if split not in lists:
        there = ", ".join(lists) if lists else "none"
        raise DatasetError(f"{folder} has no split {split!r}; there is: {there}")
    return [(split, lists[split])]
