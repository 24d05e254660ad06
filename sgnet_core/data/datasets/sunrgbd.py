"""SUN RGB-D (Song et al., CVPR 2015): the official archives, unpacked into one folder.

::

    SUNRGBD/kv1|kv2|realsense|xtion/…/SCENE/image/*.jpg, depth/*.png, depth_bfx/*.png,
                                            intrinsics.txt, seg.mat
    SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat                5285 and 5050 scene folders
    SUNRGBDtoolbox/Metadata/SUNRGBDMeta.mat, SUNRGBD2Dseg.mat   37 classes of every frame

Without ``SUNRGBD2Dseg.mat``, labels come from ``seg.mat``; names other than the 37 are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgnet_core.data.datasets.frame_files import (
    DatasetError,
    FrameFiles,
    FramePaths,
    chosen_splits,
    existing,
    from_one,
    read_words,
    to_classes,
)
from sgnet_core.data.datasets.matlab import open_hdf5, read_array, read_mat, variable, whole_numbers
from sgnet_core.data.images import ImageFileError, read_numbers
from sgnet_core.files import not_hidden
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.models.labels import IGNORE_ID, SUN37

SPLITS = {"train": "alltrain", "test": "alltest"}
MAX_DEPTH = 8.0
"""Meters; the toolbox of the data set limits depth to this."""
OTHER_NAMES = {"fridge": "refrigerator", "tv": "television"}
"""Names in ``seg.mat`` that differ from those in `SUN37`."""


class SunRgbd(FrameFiles):
    """The frames of the official folders, or those of "train" or "test".

    Args:
        folder: folder with ``SUNRGBD`` and ``SUNRGBDtoolbox``.
        split: "train" or "test"; None takes both.
        raw_depth: read the depth of the sensor with its holes instead of the filled depth.
    """

    def __init__(self, folder: Path, split: str | None = None, *, raw_depth: bool = False) -> None:
        toolbox = folder / "SUNRGBDtoolbox"
        splits = toolbox / "traintestSUNRGBD" / "allsplit.mat"
        scenes: list[str] = []
        for name, _ in chosen_splits(dict.fromkeys(SPLITS, splits), split, folder):
            scenes += map(_scene, np.atleast_1d(variable(splits, SPLITS[name])))
        if not scenes:
            raise DatasetError(f"{splits} names no scene for {split or 'any split'}")
        self.seg = toolbox / "Metadata" / "SUNRGBD2Dseg.mat"
        self.rows = _rows(toolbox / "Metadata" / "SUNRGBDMeta.mat") if self.seg.is_file() else {}
        depth = "depth" if raw_depth else "depth_bfx"
        frames = [_frame(folder / "SUNRGBD", scene, depth) for scene in scenes]
        if self.rows:
            absent = [frame.name for frame in frames if frame.name not in self.rows]
            if absent:
                raise DatasetError(f"{self.seg} has no labels for {absent[0]}")
            frames = [replace(frame, labels=self.seg) for frame in frames]
        super().__init__(existing(frames), SUN37)
        self.id_table = from_one(len(SUN37))

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        return (folder / "SUNRGBD").is_dir() and (folder / "SUNRGBDtoolbox").is_dir()

    def read_depth(self, frame: FramePaths) -> NDArray[np.float32]:
        return read_rotated_depth(frame.depth)

    def read_labels(self, frame: FramePaths) -> NDArray[np.uint8]:
        if not self.rows:
            return read_named_segments(frame.labels)
        with open_hdf5(self.seg) as file:
            reference = file["SUNRGBD2Dseg"]["seglabel"][self.rows[frame.name]].item()
            ids = read_array(file[reference]).T.astype(np.int64)
        if ids.min() < 0 or ids.max() > 255:
            raise DatasetError(f"{self.seg}: the labels of {frame.name} are out of range")
        return to_classes(ids, self.id_table, self.seg)

    def read_intrinsics(self, frame: FramePaths, width: int, height: int) -> Intrinsics:
        assert frame.camera is not None
        return read_matrix(frame.camera, width, height)


def read_rotated_depth(path: Path) -> NDArray[np.float32]:
    """Read a depth PNG of the data set as (H, W) float32 meters.

    The 16-bit values are millimeters, with their bits rotated left by three.

    Raises:
        ImageFileError: the file is missing, damaged, or not 16-bit.
    """
    stored = read_numbers(path)
    if stored.min() < 0 or stored.max() > 0xFFFF:
        raise ImageFileError(f"{path} does not hold 16-bit depth")
    bits = stored.astype(np.uint16)
    millimeters = (bits >> 3) | (bits << 13)
    return np.minimum(millimeters.astype(np.float32) * np.float32(0.001), np.float32(MAX_DEPTH))


def read_matrix(path: Path, width: int, height: int) -> Intrinsics:
    """Read ``intrinsics.txt``, the nine numbers of K in row-major order.

    The toolbox of the data set counts pixels from 1, `Intrinsics` counts from 0.

    Raises:
        DatasetError: the file is missing or does not contain nine numbers of a camera.
    """
    try:
        numbers = [float(word) for word in read_words(path)]
        if len(numbers) != 9:
            raise ValueError(f"{len(numbers)} numbers instead of the 9 of a camera matrix")
        camera = Intrinsics.from_matrix(numbers, width, height)
        return replace(camera, cx=camera.cx - 1, cy=camera.cy - 1)
    except ValueError as error:
        raise DatasetError(f"cannot read the intrinsics {path}: {error}") from error


def read_named_segments(path: Path) -> NDArray[np.uint8]:
    """Read ``seg.mat``, (H, W) indices into free names, as uint8 classes of `SUN37`.

    Raises:
        DatasetError: the file is missing, damaged, or not a ``seg.mat``.
    """
    content = read_mat(path)
    try:
        ids = whole_numbers(path, content["seglabel"])
        names = [str(name) for name in np.atleast_1d(content["names"])]
    except KeyError as error:
        raise DatasetError(f"{path} has no {error}: it is not a seg.mat of SUN RGB-D") from error
    if ids.ndim != 2 or not ids.size or ids.min() < 0 or ids.max() > len(names):
        raise DatasetError(f"{path}: labels are not in 0..{len(names)}, the number of names")
    classes = [IGNORE_ID, *map(_class, names)]
    return np.array(classes, np.uint8)[ids]


def _class(name: str) -> int:
    plain = name.strip().lower().replace("_", " ")
    plain = OTHER_NAMES.get(plain, plain)
    return SUN37.names.index(plain) if plain in SUN37.names else IGNORE_ID


def _scene(path: str) -> str:
    """Return the part after "SUNRGBD/" of a path in the .mat files, without double slashes."""
    below = str(path).rpartition("SUNRGBD/")[2]
    return "/".join(part for part in below.split("/") if part)


def _frame(root: Path, scene: str, depth: str) -> FramePaths:
    folder = root / scene
    return FramePaths(
        name=scene.replace("/", "-"),
        rgb=_only_file(folder / "image", (".jpg", ".png")),
        depth=_only_file(folder / depth, (".png",)),
        labels=folder / "seg.mat",
        camera=folder / "intrinsics.txt",
    )


def _only_file(folder: Path, suffixes: Iterable[str]) -> Path:
    found = not_hidden(folder.glob("*"))
    files = [path for path in found if path.suffix.lower() in suffixes]
    if len(files) != 1:
        raise DatasetError(f"{folder} must contain one image, but it contains {len(files)}")
    return files[0]


def _rows(path: Path) -> dict[str, int]:
    """Return the row of each frame in SUNRGBD2Dseg.mat, which has the order of SUNRGBDMeta.mat."""
    metas: Any = np.atleast_1d(variable(path, "SUNRGBDMeta"))
    try:
        # …/SCENE/image/FILE.jpg
        scenes = [_scene(meta.rgbpath).rsplit("/", 2)[0] for meta in metas]
    except AttributeError as error:
        raise DatasetError(f"{path}: {error}") from error
    return {scene.replace("/", "-"): row for row, scene in enumerate(scenes)}
