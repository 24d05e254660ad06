"""Sources of frames: procedural rooms, a folder of images, or a bag."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from sgnet_core.data.datasets.folder import FolderListing, read_camera, read_classes
from sgnet_core.data.datasets.frame_files import (
    DatasetError,
    read_json,
    read_lines,
    to_classes,
)
from sgnet_core.data.images import ImageFileError, read_depth, read_labels, read_rgb
from sgnet_core.data.rooms import RoomTour
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.models.labels import IGNORE_ID, LABEL_SETS, NYU40
from sgnet_ros.recordings.bag_source import BagSource
from sgnet_ros.recordings.bags import is_bag
from sgnet_ros.recordings.errors import SourceError
from sgnet_ros.recordings.frames import CameraFrame, Size, Source, in_millimeters, stamp_of

_SECONDS_PER_ROOM = 4.0  # so that a short run shows several rooms


class RoomsSource(Source):
    """A camera that moves through procedural rooms, with exact labels; endless.

    Args:
        size: size of the frames.
        rate_hz: frames per second of the movement.
        seed: the same seed gives the same tour.
    """

    def __init__(self, size: Size, rate_hz: float, seed: int = 0) -> None:
        super().__init__("rooms", None, NYU40.name)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._tour = RoomTour(seed, (size[1], size[0]), rate_hz, _SECONDS_PER_ROOM, device)

    def __iter__(self) -> Iterator[CameraFrame]:
        for sample in self._tour:
            yield CameraFrame(
                sample.rgb, in_millimeters(sample.depth), sample.labels, sample.intrinsics
            )


@dataclass(frozen=True)
class _Layout:
    """Names of a frame's images in a folder.

    ``pattern`` matches the color images; ``depth`` and ``labels`` return the path of the other
    image for such a match. ``labels`` is None if the layout has no labels.
    """

    pattern: str
    depth: Callable[[re.Match[str]], str]
    labels: Callable[[re.Match[str]], str] | None
    calibration: str


_LAYOUTS = (
    _Layout(r"(.+)\.rgb\.(?:jpg|png)", lambda m: f"{m[1]}.depth.png", None, "K.txt"),
    _Layout(
        r"(.+)-color\.(?:jpg|png)",
        lambda m: f"{m[1]}-depth.png",
        lambda m: f"{m[1]}-label.png",
        "camera.json",
    ),
    _Layout(
        r"rgb/(.+)\.(?:jpg|jpeg|png)",
        lambda m: f"depth/{m[1]}.png",
        lambda m: f"labels/{m[1]}.png",
        "camera.json",
    ),
)
LAYOUTS_HELP = (
    "NAME.rgb.jpg + NAME.depth.png + K.txt, NAME-color.png + NAME-depth.png [+ NAME-label.png] + "
    "camera.json, or rgb/NAME.png + depth/NAME.png [+ labels/NAME.png] + camera.json"
)


class FolderSource(Source):
    """A folder of images in one of three layouts (`LAYOUTS_HELP`), played by name.

    ``K.txt`` contains the 3x3 matrix of the color camera; depth is then in millimeters.
    ``camera.json`` contains an object with ``K`` (3x3), ``depth_scale`` (meters per unit, 0.001 if
    absent) and ``label_set`` (name of the label set of the label images, if known).

    Raises:
        SourceError: no layout fits, or the calibration is missing or wrong.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        shown = [p for p in (*folder.glob("*.*"), *folder.glob("rgb/*.*")) if p.name[0] != "."]
        files = sorted(p.relative_to(folder).as_posix() for p in shown)
        for layout in _LAYOUTS:
            found = [m for m in (re.fullmatch(layout.pattern, f) for f in files) if m]
            if found:
                break
        else:
            raise SourceError(f"{folder} holds no frames; expected {LAYOUTS_HELP}")
        self._matches, self._layout = found, layout
        calibration = _read_calibration(folder / layout.calibration)
        self._matrix, self._depth_scale, label_set = calibration
        has_labels = layout.labels and (folder / layout.labels(found[0])).is_file()
        self._labels = layout.labels if has_labels else None
        super().__init__(str(folder), len(found), label_set if has_labels else None)

    def __iter__(self) -> Iterator[CameraFrame]:
        """Yield the frames; raise SourceError for a missing or damaged file."""
        return (self._read(match) for match in self._matches)

    def _read(self, match: re.Match[str]) -> CameraFrame:
        paths = {"rgb": match[0], "depth": self._layout.depth(match)}
        if self._labels:
            paths["labels"] = self._labels(match)
        try:
            rgb = read_rgb(self._folder / paths["rgb"])
            depth = read_depth(self._folder / paths["depth"], self._depth_scale)
            labels = read_labels(self._folder / paths["labels"]) if self._labels else None
        except ImageFileError as error:
            raise SourceError(f"{error}; restore it, or remove the frame's files") from error
        for kind, image in (("depth", depth), ("labels", labels)):
            if image is not None and image.shape != rgb.shape[:2]:
                raise SourceError(
                    f"{self._folder / paths[kind]} is {image.shape[1]}x{image.shape[0]}, its "
                    f"color image {rgb.shape[1]}x{rgb.shape[0]}: register {kind} to color"
                )
        classes = LABEL_SETS.get(self.label_set or "")
        if labels is not None and classes and not np.isin(labels, [*classes.ids, IGNORE_ID]).all():
            raise SourceError(
                f"{self._folder / paths['labels']} has ids that are not in the label set "
                f"{classes.name}, which {self._layout.calibration} names: correct one of them"
            )
        intrinsics = Intrinsics.from_matrix(self._matrix, rgb.shape[1], rgb.shape[0])
        return CameraFrame(rgb, in_millimeters(depth), labels, intrinsics)


class PlainSource(Source):
    """A plain folder (`sgnet_core.data.datasets.folder`), with or without labels, by name.

    Attributes:
        names: names of the frames.
        classes: classes of the labels; None without classes.json.

    Raises:
        SourceError: a frame is incomplete, or a camera or classes file is wrong.
    """

    def __init__(self, folder: Path) -> None:
        self._listing = listing = FolderListing.of(folder)
        self.names = sorted(listing.rgb)
        problems = [p for name in self.names for p in listing.problems(name)]
        # A camera plays frames without labels, too.
        problems = [p for p in problems if not p.startswith(f"{folder / 'labels'}")]
        if problems or not self.names:
            raise SourceError(problems[0] if problems else f"{folder / 'rgb'} holds no image")
        try:
            self._classes = (
                read_classes(path) if (path := folder / "classes.json").is_file() else None
            )
            files = {self._camera_file(name) for name in self.names}
            self._cameras = {path: read_camera(path) for path in files}
        except DatasetError as error:
            raise SourceError(str(error)) from error
        self.classes = self._classes.label_set if self._classes else None
        label_set = self.classes.name if self.classes and listing.labels else None
        super().__init__(str(folder), len(self.names), label_set)

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        """Return whether the folder has rgb/, depth/ and camera files of a plain folder."""
        files = [folder / "camera.json", *(folder / "cameras").glob("*.json")]
        if not all((folder / kind).is_dir() for kind in ("rgb", "depth")):
            return False
        try:
            return any("fx" in read_json(path) for path in files[:2] if path.is_file())
        except (DatasetError, TypeError):  # not JSON, or not an object
            return False

    def __iter__(self) -> Iterator[CameraFrame]:
        """Yield the frames; raise SourceError for a file that is damaged or does not fit."""
        return map(self._read, self.names)

    def _camera_file(self, name: str) -> Path:
        own = self._listing.cameras.get(name)
        path = own[0] if own else self._listing.camera
        assert path is not None  # the listing has checked it
        return path

    def _read(self, name: str) -> CameraFrame:
        listing, camera = self._listing, self._cameras[self._camera_file(name)]
        labels = None
        try:
            rgb = read_rgb(listing.rgb[name][0])
            depth = read_depth(listing.depth[name][0], camera.depth_scale)
            if paths := listing.labels.get(name):
                labels = read_labels(paths[0])
                if self._classes:
                    labels = to_classes(labels, self._classes.table, paths[0])
        except (ImageFileError, DatasetError) as error:
            raise SourceError(f"{error}; restore it, or remove the frame's files") from error
        size = (camera.intrinsics.height, camera.intrinsics.width)
        for kind, image in (("rgb", rgb), ("depth", depth), ("labels", labels)):
            if image is not None and image.shape[:2] != size:
                raise SourceError(
                    f"{listing.folder / kind / name} is {image.shape[1]}x{image.shape[0]}, "
                    f"but {self._camera_file(name)} is for {size[1]}x{size[0]}"
                )
        return CameraFrame(rgb, in_millimeters(depth), labels, camera.intrinsics, stamp_of(name))


def _read_calibration(path: Path) -> tuple[npt.NDArray[np.float64], float, str | None]:
    """Return K (3, 3), meters per depth unit, and the name of the label set if it is given."""
    try:
        if not path.is_file():
            raise SourceError(f"{path} is missing; it contains the 3x3 camera matrix")
        if path.suffix == ".json":
            data = read_json(path)
            matrix, scale = data["K"], float(data.get("depth_scale", 0.001))
            label_set = data.get("label_set")
        else:
            matrix, scale, label_set = np.loadtxt(read_lines(path)), 0.001, None
        if not 0 < scale < float("inf"):
            raise ValueError(f"depth_scale must be positive, got {scale}")
        matrix = np.asarray(matrix, np.float64).reshape(3, 3)
        Intrinsics.from_matrix(matrix, 1, 1)  # refuses focal lengths of 0
    except SourceError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SourceError(f"{path} does not contain a 3x3 camera matrix K ({error})") from error
    return matrix, scale, label_set


class _Resized(Source):
    """A source whose frames are resized to a fixed size."""

    def __init__(self, source: Source, size: Size) -> None:
        super().__init__(source.name, source.count, source.label_set, source.rate_hz)
        self._source, self._size = source, size

    def __iter__(self) -> Iterator[CameraFrame]:
        return (frame.resized(self._size) for frame in self._source)


def open_source(
    spec: str,
    size: Size | None = None,
    rate_hz: float = 10.0,
    topics: tuple[str | None, str | None] = (None, None),
) -> Source:
    """Open the source that a command line names.

    Args:
        spec: ``rooms``, a folder of images (`PlainSource`, `FolderSource`), or a bag (`BagSource`).
        size: size of the frames; None keeps that of a recording (rooms: 640x480).
        rate_hz: rate at which the frames will be shown; rooms move accordingly.
        topics: color and depth topic of a bag; needed if it holds several.

    Raises:
        SourceError: the source does not exist or cannot be played.
        BagError: the bag cannot be read.
    """
    if spec == "rooms":
        return RoomsSource(size or (640, 480), rate_hz)
    path = Path(spec)
    if not path.exists():
        raise SourceError(f"{spec} does not exist; give `rooms`, a folder of images, or a bag")
    source: Source
    if is_bag(path):
        source = BagSource(path, *topics)
    elif path.is_dir() and PlainSource.recognizes(path):
        source = PlainSource(path)
    elif path.is_dir():
        source = FolderSource(path)
    else:
        raise SourceError(f"{spec} is neither a folder nor a bag (.bag, .mcap, .db3)")
    return _Resized(source, size) if size else source
