"""Layouts with list files that other projects use: SGNet's release, ESANet, DFormer.

In all of them, class ids start at 1, and 0 is unlabeled.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sgnet_core.data.datasets import nyuv2
from sgnet_core.data.datasets.cityscapes import MAX_DEPTH
from sgnet_core.data.datasets.folder import Classes, read_classes
from sgnet_core.data.datasets.frame_files import (
    DatasetError,
    FrameFiles,
    FramePaths,
    chosen_splits,
    existing,
    from_one,
    read_lines,
    to_classes,
)
from sgnet_core.data.datasets.sunrgbd import read_matrix, read_rotated_depth
from sgnet_core.data.images import ImageFileError, read_depth, read_numbers, read_rgb
from sgnet_core.files import not_hidden
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.models.labels import CITYSCAPES19, NYU13, NYU40, SUN37, LabelSet

CITYSCAPES_CAMERA = Intrinsics(2262.52, 2265.302, 1096.98, 513.137, 2048, 1024)
"""Camera of most cities; ESANet's copy of Cityscapes has no camera files."""

_LONGEST_LINE = 1 << 14


class _CountedFromOne(FrameFiles):
    """Frames of one camera, with label files that count from 1."""

    camera = nyuv2.CAMERA

    def __init__(self, frames: list[FramePaths], label_set: LabelSet) -> None:
        super().__init__(existing(frames), label_set)
        self.id_table = from_one(len(label_set))

    def read_intrinsics(self, frame: FramePaths, width: int, height: int) -> Intrinsics:
        return self.camera.resized(width, height)


class ListFile(_CountedFromOne):
    """SGNet's release: lines ``image label depth HHA``; depth in millimeters, NYUv2's 40 classes.

    Paths are relative to the folder of the list or to the nearest parent folder that has the file.

    Args:
        path: a list file, or a folder with lists ``train*.txt`` and ``test*.txt``.
        split: "train" or "test" for a folder; None takes both.
    """

    def __init__(self, path: Path, split: str | None = None) -> None:
        lists = [("", path)]
        if path.is_dir():
            lists = chosen_splits(_four_column_lists(path), split, path)
        frames = []
        for _, file in lists:
            for line in read_lines(file):
                columns = line.split()
                if len(columns) not in (3, 4):
                    raise DatasetError(f"{file}: {line!r} is not `image label depth [HHA]`")
                rgb, labels, depth = (_upwards(file, column) for column in columns[:3])
                name = "-".join(Path(columns[0]).with_suffix("").parts)
                frames.append(FramePaths(name, rgb, depth, labels))
        super().__init__(frames, NYU40)

    @classmethod
    def recognizes(cls, path: Path) -> bool:
        return path.suffix == ".txt" if path.is_file() else bool(_four_column_lists(path))


class EsanetNyu(_CountedFromOne):
    """ESANet's NYUv2: ``SPLIT.txt`` of names, ``SPLIT/{rgb,depth,labels_40}/NAME.png``.

    Without ``labels_40``, ``labels_13`` and its classes are used.
    """

    def __init__(self, folder: Path, split: str | None = None) -> None:
        lists = {n: folder / f"{n}.txt" for n in ("train", "test") if (folder / n).is_dir()}
        chosen = chosen_splits(lists, split, folder)
        classes = NYU40 if (folder / chosen[0][0] / "labels_40").is_dir() else NYU13
        labels = f"labels_{len(classes)}"
        frames = []
        for part, path in chosen:
            for name in read_lines(path):
                rgb, depth, ids = (
                    folder / part / kind / f"{name}.png" for kind in ("rgb", "depth", labels)
                )
                frames.append(FramePaths(name, rgb, depth, ids))
        super().__init__(frames, classes)

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        return any(
            (folder / f"{n}.txt").is_file() and (folder / n / "rgb").is_dir()
            for n in ("train", "test")
        )


class EsanetSun(_CountedFromOne):
    """ESANet's SUN RGB-D: ``SPLIT_{rgb,depth,label}.txt`` with paths in the official folders."""

    def __init__(self, folder: Path, split: str | None = None) -> None:
        frames = []
        for name, _ in chosen_splits(_listed(folder, "rgb", "label"), split, folder):
            for rgb, depth, labels in _parallel(folder, name, ("rgb", "depth", "label")):
                scene = rgb.parent.parent
                title = "-".join(scene.relative_to(folder).parts)
                frames.append(
                    FramePaths(title, rgb, depth, labels, camera=scene / "intrinsics.txt")
                )
        super().__init__(frames, SUN37)

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        return bool(_listed(folder, "rgb", "label"))

    def read_depth(self, frame: FramePaths) -> NDArray[np.float32]:
        return read_rotated_depth(frame.depth)

    def read_labels(self, frame: FramePaths) -> NDArray[np.uint8]:
        ids = read_numbers(frame.labels)  # a .npy file
        if ids.min() < 0 or ids.max() > 255 or (ids != np.rint(ids)).any():
            raise DatasetError(f"{frame.labels} does not hold ids")
        return to_classes(ids.astype(np.uint8), self.id_table, frame.labels)

    def read_intrinsics(self, frame: FramePaths, width: int, height: int) -> Intrinsics:
        assert frame.camera is not None
        return read_matrix(frame.camera, width, height)


class EsanetCityscapes(_CountedFromOne):
    """ESANet's Cityscapes: ``SPLIT_{rgb,depth_raw,labels_19}.txt``, files in ``SPLIT/KIND/``."""

    camera = CITYSCAPES_CAMERA

    def __init__(self, folder: Path, split: str | None = None) -> None:
        kinds = ("rgb", "depth_raw", "labels_19")
        frames = [
            FramePaths(rgb.stem.removesuffix("_leftImg8bit"), rgb, depth, labels)
            for name, _ in chosen_splits(_listed(folder, *kinds), split, folder)
            for rgb, depth, labels in _parallel(folder, name, kinds, below=name)
        ]
        super().__init__(frames, CITYSCAPES19)

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        return bool(_listed(folder, "rgb", "depth_raw", "labels_19"))

    def read_depth(self, frame: FramePaths) -> NDArray[np.float32]:
        depth = read_depth(frame.depth)
        return np.where(depth <= MAX_DEPTH, depth, np.float32(0))


class DFormerFolder(_CountedFromOne):
    """DFormer's data sets: RGB/NAME.jpg, Depth/NAME.png, Label/NAME.png (or labels/NAME.png).

    ``train.txt`` and ``test.txt`` list the files in RGB/. Depth of 16 bits is millimeters. Depth of
    8 bits is scaled to the range of each frame, so its unit is lost; 255 is read as `FARTHEST` with
    a warning. There are no intrinsics: NYUv2's camera is used. Without a ``classes.json``, folders
    with "nyu" or "sun" in their name have the classes `NYU40` or `SUN37`, counted from 1.
    """

    FARTHEST = 10.0
    """Meters."""

    def __init__(self, folder: Path, split: str | None = None) -> None:
        lists = {p.stem: p for n in ("train", "test") if (p := folder / f"{n}.txt").is_file()}
        labels = _dformer_labels(folder)
        frames = []
        for _, path in chosen_splits(lists, split, folder):
            for line in read_lines(path):
                rgb = folder / line.split()[0]
                name = rgb.stem
                frames.append(
                    FramePaths(name, rgb, folder / "Depth" / f"{name}.png", labels / f"{name}.png")
                )
        classes = _dformer_classes(folder)
        super().__init__(frames, classes.label_set)
        self.id_table = classes.table
        self.relative_depth = _is_8_bit(self.frames[0].depth)
        if self.relative_depth:
            warnings.warn(
                f"{folder / 'Depth'} holds 8-bit depth without a unit; 255 is read as "
                f"{self.FARTHEST:g} m; for accurate results, prepare the set from the original "
                "files",
                stacklevel=2,
            )

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        kinds = (folder / "RGB", folder / "Depth", _dformer_labels(folder))
        return all(kind.is_dir() for kind in kinds) and any(folder.glob("t*.txt"))

    def read_depth(self, frame: FramePaths) -> NDArray[np.float32]:
        if not self.relative_depth:
            return read_depth(frame.depth)
        gray = read_rgb(frame.depth)[..., 0]
        return gray.astype(np.float32) * np.float32(self.FARTHEST / 255)


def _dformer_labels(folder: Path) -> Path:
    return folder / "Label" if (folder / "Label").is_dir() else folder / "labels"


def _dformer_classes(folder: Path) -> Classes:
    if (folder / "classes.json").is_file():
        return read_classes(folder / "classes.json")
    for word, label_set in (("nyu", NYU40), ("sun", SUN37)):
        if word in folder.absolute().name.lower():
            return Classes(label_set, from_one(len(label_set)))
    raise DatasetError(
        f"{folder} is in DFormer's layout, but its classes are unknown: write {folder}/"
        'classes.json, e.g. {"names": ["road", "car"], "ids": [1, 2], "ignore": [0]}, or name the '
        "folder NYUDepthv2 or SUNRGBD"
    )


def _is_8_bit(path: Path) -> bool:
    try:
        read_rgb(path)
    except ImageFileError:
        return False
    return True


def _four_column_lists(folder: Path) -> dict[str, Path]:
    """Return the list files of "train" and "test" whose first line has three or four columns."""
    found: dict[str, Path] = {}
    for split in ("train", "test"):
        for path in sorted(folder.glob(f"{split}*.txt")):
            if not path.is_file():
                continue
            with open(path, encoding="utf-8", errors="replace") as file:
                if len(file.readline(_LONGEST_LINE).split()) in (3, 4):
                    found.setdefault(split, path)
    return found


def _upwards(list_file: Path, relative: str) -> Path:
    """Return the file below the folder of the list or the nearest parent folder that has it."""
    for folder in list_file.absolute().parents:
        if (folder / relative).is_file():
            return folder / relative
    raise DatasetError(
        f"{list_file} names {relative}, which is not in its folder or one of the parent folders"
    )


def _listed(folder: Path, *kinds: str) -> dict[str, Path]:
    """Return the splits that have lists ``SPLIT_KIND.txt`` of all kinds, with their first list."""
    first = f"_{kinds[0]}.txt"
    splits = [path.name.removesuffix(first) for path in not_hidden(folder.glob(f"*{first}"))]
    return {
        split: folder / f"{split}{first}"
        for split in splits
        if all((folder / f"{split}_{kind}.txt").is_file() for kind in kinds)
    }


def _parallel(
    folder: Path, split: str, kinds: tuple[str, str, str], below: str | None = None
) -> list[tuple[Path, Path, Path]]:
    """Read three lists ``SPLIT_KIND.txt`` line by line; ``below`` puts paths into BELOW/KIND/."""
    files = []
    for kind in kinds:
        root = folder / below / kind if below else folder
        files.append([root / line for line in read_lines(folder / f"{split}_{kind}.txt")])
    lengths = {len(column) for column in files}
    if len(lengths) > 1:
        names = ", ".join(f"{split}_{kind}.txt" for kind in kinds)
        raise DatasetError(f"{folder}: {names} differ in length: {sorted(lengths)}")
    return list(zip(*files, strict=True))
