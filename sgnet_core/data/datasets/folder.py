"""Plain folder: the layout for own data, which `sgnet_core.prepare` also writes.

::

    rgb/NAME.png (or .jpg)      8-bit color
    depth/NAME.png (or .npy)    16-bit integers times depth_scale, or floating-point meters
    labels/NAME.png             8-bit ids
    camera.json                 width, height, fx, fy, cx, cy, depth_scale; or one per image in
    cameras/NAME.json
    classes.json                the classes, or the name of a built-in set
    splits/SPLIT.txt            optional: one NAME per line
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgnet_core.data.datasets.frame_files import (
    DatasetError,
    FrameFiles,
    FramePaths,
    IdTable,
    chosen_splits,
    id_table,
    read_json,
    read_lines,
)
from sgnet_core.data.images import read_depth
from sgnet_core.files import not_hidden
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.models.labels import IGNORE_ID, LABEL_SETS, LabelSet, bit_palette

RGB_SUFFIXES = (".png", ".jpg", ".jpeg")
DEPTH_SUFFIXES = (".png", ".npy")
MILLIMETERS = 0.001
MAX_CLASSES = 255


@dataclass(frozen=True)
class FolderCamera:
    """Content of a camera file: intrinsics, and meters per unit of the integer depth images."""

    intrinsics: Intrinsics
    depth_scale: float = MILLIMETERS


@dataclass(frozen=True)
class Classes:
    """Content of a classes file: the label set, and the class of every id in the label images."""

    label_set: LabelSet
    table: IdTable


class PlainFolder(FrameFiles):
    """The frames of a plain folder sorted by name, or those of a split in its order.

    Raises:
        DatasetError: a file is missing; the message names the first one and the number of others.
    """

    def __init__(self, folder: Path, split: str | None = None) -> None:
        listing = FolderListing.of(folder)
        lists = {path.stem: path for path in listing.split_files}
        if split is None:
            names = list(listing.rgb)
        else:
            [(_, path)] = chosen_splits(lists, split, folder)
            names = read_lines(path)
            names = [frame_name(name) for name in names]
            absent = [name for name in names if name not in listing.rgb]
            if absent:
                raise DatasetError(f"{path} names {absent[0]!r}, which is not in {folder / 'rgb'}")
        if not names:
            raise DatasetError(f"{folder / 'rgb'} holds no image ({' or '.join(RGB_SUFFIXES)})")
        problems = [problem for name in names for problem in listing.problems(name)]
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise DatasetError(
                f"{problems[0]}{more}; `python -m sgnet_core.prepare check {folder}` lists all"
            )
        classes = read_classes(folder / "classes.json")
        super().__init__([listing.frame(name) for name in names], classes.label_set)
        self.id_table = classes.table
        self.cameras = {
            path: read_camera(path) for path in {frame.camera for frame in self.frames} if path
        }

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        return all((folder / kind).is_dir() for kind in ("rgb", "depth"))

    def read_depth(self, frame: FramePaths) -> NDArray[np.float32]:
        return read_depth(frame.depth, self._camera(frame).depth_scale)

    def read_intrinsics(self, frame: FramePaths, width: int, height: int) -> Intrinsics:
        intrinsics = self._camera(frame).intrinsics
        if (intrinsics.width, intrinsics.height) != (width, height):
            raise DatasetError(
                f"{frame.camera} is for {intrinsics.width}x{intrinsics.height} images, "
                f"but {frame.rgb} is {width}x{height}"
            )
        return intrinsics

    def _camera(self, frame: FramePaths) -> FolderCamera:
        assert frame.camera is not None  # the listing has checked it
        return self.cameras[frame.camera]


@dataclass(frozen=True)
class FolderListing:
    """Paths of the files of a plain folder by frame name.

    Attributes:
        folder: the folder.
        rgb, depth, labels, cameras: files by frame name; more than one per name is a mistake.
        camera: camera.json, or None if it does not exist.
        split_files: the files in splits/, sorted.
    """

    folder: Path
    rgb: dict[str, list[Path]]
    depth: dict[str, list[Path]]
    labels: dict[str, list[Path]]
    cameras: dict[str, list[Path]]
    camera: Path | None
    split_files: list[Path]

    @classmethod
    def of(cls, folder: Path) -> FolderListing:
        """List a folder, which may be incomplete."""
        camera = folder / "camera.json"
        return cls(
            folder,
            rgb=_files(folder / "rgb", RGB_SUFFIXES),
            depth=_files(folder / "depth", DEPTH_SUFFIXES),
            labels=_files(folder / "labels", (".png",)),
            cameras=_files(folder / "cameras", (".json",)),
            camera=camera if camera.is_file() else None,
            split_files=not_hidden((folder / "splits").glob("*.txt")),
        )

    def problems(self, name: str) -> list[str]:
        """Return descriptions of the missing or duplicated files of a frame."""
        found = []
        wanted = ((self.rgb, "rgb"), (self.depth, "depth"), (self.labels, "labels"))
        for files, kind in wanted:
            paths = files.get(name, [])
            if not paths:
                ending = "(.png|.npy)" if kind == "depth" else ".png"
                found.append(f"{self.folder / kind / name}{ending} does not exist")
            elif len(paths) > 1:
                found.append(f"{paths[0]} and {paths[1].name} are the same frame: keep one")
        if name not in self.cameras and self.camera is None:
            found.append(
                f"there are no intrinsics for {name}: write {self.folder / 'camera.json'} "
                f"or {self.folder / 'cameras' / name}.json"
            )
        return found

    def frame(self, name: str) -> FramePaths:
        """Return the files of a frame without problems."""
        camera = self.cameras[name][0] if name in self.cameras else self.camera
        return FramePaths(
            name, self.rgb[name][0], self.depth[name][0], self.labels[name][0], camera=camera
        )


def _files(folder: Path, suffixes: Sequence[str]) -> dict[str, list[Path]]:
    """Return the files of those types by stem, sorted, without hidden ones."""
    found: dict[str, list[Path]] = {}
    if folder.is_dir():
        for path in not_hidden(folder.iterdir()):
            if path.suffix.lower() in suffixes:
                found.setdefault(composed(path.stem), []).append(path)
    return found


def frame_name(line: str) -> str:
    """Return the frame name for a line of a split, which is a name or a path of a color image."""
    path = PurePosixPath(line)
    return composed(path.stem if path.suffix.lower() in RGB_SUFFIXES else path.name)


def composed(name: str) -> str:
    """Return a name with composed accents (NFC); file systems of macOS decompose them."""
    return unicodedata.normalize("NFC", name)


def read_camera(path: Path) -> FolderCamera:
    """Read a camera file, a JSON object.

    Its keys are ``width``, ``height``, ``fx``, ``fy``, ``cx``, ``cy`` in pixels, and optionally
    ``depth_scale``, meters per unit of integer depth images (default: 0.001).

    Raises:
        DatasetError: the file is not JSON, or a value is missing, unknown or out of range.
    """
    values = read_json(path)
    known = ("width", "height", "fx", "fy", "cx", "cy")
    if not isinstance(values, dict):
        raise DatasetError(f"{path} must hold an object with {', '.join(known)}, depth_scale")
    strange = sorted(set(values) - {*known, "depth_scale"})
    missing = [key for key in known if key not in values]
    if strange or missing:
        wrong = f"lacks {', '.join(missing)}" if missing else f"has unknown {', '.join(strange)}"
        raise DatasetError(f"{path} {wrong}; a camera is {', '.join(known)} and depth_scale")
    try:
        scale = _number({"depth_scale": MILLIMETERS, **values}, "depth_scale")
        if not 0 < scale < float("inf"):
            raise ValueError(f"depth_scale must be positive, got {scale}")
        fx, fy, cx, cy = (_number(values, key) for key in ("fx", "fy", "cx", "cy"))
        width, height = (int(_number(values, key)) for key in ("width", "height"))
        return FolderCamera(Intrinsics(fx, fy, cx, cy, width, height), scale)
    except (TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"{path}: {error}") from error


def read_classes(path: Path) -> Classes:
    """Read a classes file: the name of a built-in label set, or a JSON object.

    The object has ``names`` and optionally ``ids`` (default: 0, 1, …), ``colors`` (each [r, g, b]),
    ``ignore`` (an id or a list of ids; 255 is also ignored unless it is in ``ids``) and ``name``.

    Raises:
        DatasetError: the file is not JSON or does not have this form.
    """
    values = read_json(path)
    if isinstance(values, str):
        if values not in LABEL_SETS:
            raise DatasetError(
                f"{path}: unknown label set {values!r}; use one of {', '.join(LABEL_SETS)}"
            )
        return Classes(LABEL_SETS[values], id_table(LABEL_SETS[values].ids))
    known = ("names", "ids", "colors", "ignore", "name")
    if not isinstance(values, dict) or "names" not in values or set(values) - set(known):
        raise DatasetError(
            f"{path} must hold the name of a built-in set ({', '.join(LABEL_SETS)}) "
            f"or an object with names, and optionally {', '.join(known[1:])}"
        )
    try:
        return _classes(values, default_name=path.absolute().parent.name)
    except (TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"{path}: {error}") from error


def _classes(values: Mapping[str, Any], default_name: str) -> Classes:
    names = values["names"]
    if not isinstance(names, list) or not 1 <= len(names) <= MAX_CLASSES:
        raise ValueError(f"names must be a list of 1 to {MAX_CLASSES} classes")
    colors = values.get("colors", bit_palette(len(names)))
    name = values.get("name", default_name)
    label_set = LabelSet.from_dict({"name": name, "names": names, "colors": colors})
    ids = [_whole(i) for i in values.get("ids", range(len(names)))]
    ignore = values.get("ignore", [])
    ignored = set(ignore if isinstance(ignore, list) else [ignore])
    if IGNORE_ID not in ids:
        ignored.add(IGNORE_ID)
    if not all(isinstance(i, int) and 0 <= i <= 255 for i in (*ids, *ignored)):
        raise ValueError("ids are whole numbers 0..255")
    if len(ids) != len(names) or len(set(ids)) != len(ids):
        raise ValueError(f"{len(names)} names need as many different ids, got {ids}")
    if ignored & set(ids):
        raise ValueError(f"{sorted(ignored & set(ids))} cannot be both a class and ignored")
    return Classes(label_set, id_table(ids, ignored))


def _whole(value: Any) -> Any:
    """Return 2.0 as 2, and anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _number(values: Mapping[str, Any], key: str) -> float:
    try:
        return float(values[key])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{key} must be a number, got {values[key]!r}") from error


def camera_values(camera: Intrinsics, depth_scale: float) -> dict[str, float]:
    """Return the content of a camera file; `read_camera` reads it back."""
    size = {"width": camera.width, "height": camera.height}
    optics = {key: float(getattr(camera, key)) for key in ("fx", "fy", "cx", "cy")}
    return {**size, **optics, "depth_scale": depth_scale}


def classes_values(label_set: LabelSet) -> Any:
    """Return the content of a classes file; `read_classes` reads it back."""
    if LABEL_SETS.get(label_set.name) == label_set:
        return label_set.name
    values = label_set.to_dict()
    return {key: values[key] for key in ("name", "names", "colors")}
