"""What the camera plays: procedural rooms, a folder of images, or a bag."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from sgnet_core.camera import Intrinsics
from sgnet_core.data.rooms import RoomTour
from sgnet_core.images import ImageFileError, read_depth, read_labels, read_rgb
from sgnet_core.labels import IGNORE_ID, LABEL_SETS, NYU40
from sgnet_ros.bag_source import BagSource
from sgnet_ros.bags import is_bag
from sgnet_ros.frames import Frame, Size, Source, SourceError, millimetres

_SECONDS_PER_ROOM = 4.0  # so that a short look shows several


class RoomsSource(Source):
    """A camera that moves through procedural rooms, with exact labels; endless.

    Args:
        size: of the frames.
        rate_hz: frames per second of the movement.
        seed: the same seed gives the same tour.
    """

    def __init__(self, size: Size, rate_hz: float, seed: int = 0) -> None:
        super().__init__("rooms", None, NYU40.name)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._tour = RoomTour(seed, (size[1], size[0]), rate_hz, _SECONDS_PER_ROOM, device)

    def __iter__(self) -> Iterator[Frame]:
        for sample in self._tour:
            yield Frame(sample.rgb, millimetres(sample.depth), sample.labels, sample.intrinsics)


@dataclass(frozen=True)
class _Layout:
    """How a folder names the images of a frame.

    ``pattern`` finds the colour images; ``depth`` and ``labels`` turn a match into the path of the
    other images, ``labels`` being None where the layout has none.
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

    ``K.txt`` holds the 3x3 matrix of the colour camera; depth is then in millimetres.
    ``camera.json`` holds an object with ``K`` (3x3), ``depth_scale`` (metres per unit, 0.001 if
    absent) and ``label_set`` (name of the label set of the label images, if known).

    Raises:
        SourceError: no layout fits, or the calibration is missing or wrong.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        files = sorted(p.relative_to(folder).as_posix() for p in folder.glob("*.*"))
        files += sorted(p.relative_to(folder).as_posix() for p in folder.glob("rgb/*.*"))
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

    def __iter__(self) -> Iterator[Frame]:
        """Raises SourceError for a file that is missing or damaged."""
        return (self._read(match) for match in self._matches)

    def _read(self, match: re.Match[str]) -> Frame:
        paths = {"rgb": match[0], "depth": self._layout.depth(match)}
        if self._labels:
            paths["labels"] = self._labels(match)
        try:
            rgb = read_rgb(self._folder / paths["rgb"])
            depth = read_depth(self._folder / paths["depth"], self._depth_scale)
            labels = read_labels(self._folder / paths["labels"]) if self._labels else None
        except ImageFileError as error:
            raise SourceError(f"{error}; restore it, or take the frame's files away") from error
        for kind, image in (("depth", depth), ("labels", labels)):
            if image is not None and image.shape != rgb.shape[:2]:
                raise SourceError(
                    f"{self._folder / paths[kind]} is {image.shape[1]}x{image.shape[0]}, its "
                    f"colour image {rgb.shape[1]}x{rgb.shape[0]}: register {kind} to colour"
                )
        classes = LABEL_SETS.get(self.label_set or "")
        if labels is not None and classes and not np.isin(labels, [*classes.ids, IGNORE_ID]).all():
            raise SourceError(
                f"{self._folder / paths['labels']} holds ids that are not of {classes.name}, which "
                f"{self._layout.calibration} names as label_set: correct one of them"
            )
        intrinsics = Intrinsics.from_matrix(self._matrix, rgb.shape[1], rgb.shape[0])
        return Frame(rgb, millimetres(depth), labels, intrinsics)


def _read_calibration(path: Path) -> tuple[npt.NDArray[np.float64], float, str | None]:
    """K (3, 3), metres per depth unit, and the name of the label set if it is given."""
    try:
        if path.suffix == ".json":
            data = json.loads(path.read_text())
            matrix, scale = data["K"], float(data.get("depth_scale", 0.001))
            label_set = data.get("label_set")
        else:
            matrix, scale, label_set = np.loadtxt(path), 0.001, None
        matrix = np.asarray(matrix, np.float64).reshape(3, 3)
        Intrinsics.from_matrix(matrix, 1, 1)  # refuses focal lengths that are none
    except FileNotFoundError as error:
        raise SourceError(f"{path} is missing; it holds the 3x3 camera matrix") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SourceError(f"{path} holds no 3x3 camera matrix K ({error})") from error
    return matrix, scale, label_set


class _Resized(Source):
    """A source whose frames are brought to a fixed size."""

    def __init__(self, source: Source, size: Size) -> None:
        super().__init__(source.name, source.count, source.label_set, source.rate_hz)
        self._source, self._size = source, size

    def __iter__(self) -> Iterator[Frame]:
        return (frame.resized(self._size) for frame in self._source)


def open_source(
    spec: str,
    size: Size | None = None,
    rate_hz: float = 10.0,
    topics: tuple[str | None, str | None] = (None, None),
) -> Source:
    """The source that a command line names.

    Args:
        spec: ``rooms``, a folder of images (`FolderSource`), or a bag (`BagSource`).
        size: brings frames to this size; None keeps that of a recording (rooms: 640x480).
        rate_hz: at which the frames will be shown; rooms move accordingly.
        topics: colour and depth topic of a bag, where it holds several.

    Raises:
        SourceError: there is no such thing, or it can't be played.
    """
    if spec == "rooms":
        return RoomsSource(size or (640, 480), rate_hz)
    path = Path(spec)
    if not path.exists():
        raise SourceError(f"{spec} does not exist; give `rooms`, a folder of images, or a bag")
    source: Source
    if is_bag(path):
        source = BagSource(path, *topics)
    elif path.is_dir():
        source = FolderSource(path)
    else:
        raise SourceError(f"{spec} is neither a folder nor a bag (.bag, .mcap, .db3)")
    return _Resized(source, size) if size else source
