"""Find the frames that `sgnet_core.predict` labels: pairs of images, folders of them, and bags."""

from __future__ import annotations

import contextlib
import functools
import glob
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sgnet_core.data.datasets.folder import MILLIMETERS, FolderListing, read_camera
from sgnet_core.data.images import read_depth, read_rgb
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.inference.image_names import (
    ARRAY_SUFFIXES,
    IMAGE_SUFFIXES,
    DepthFinder,
    InputError,
    image_key,
    kind_of,
)
from sgnet_core.inference.tum import DEPTH_SCALE, is_tum_folder, tum_pairs
from sgnet_core.plugins import PluginError, load_plugin

# A bag reader rejects some of these and names the command that makes the file readable.
_BAG_ENDINGS = (".bag", ".bag.active", ".mcap", ".mcap.zstd", ".mcap.zst", ".db3", ".db3.zstd")

RECORDINGS = "sgnet.recordings"
"""Entry-point group of readers of recordings.

A reader is called as ``(path, rgb_topic, depth_topic, intrinsics=…, depth_scale=…)``; all arguments
but the path may be None. Its ``count`` is the number of frames, and its ``attempts()`` yields
frames with ``rgb``, ``depth`` (millimeters) and ``intrinsics``, or a ValueError for a frame that
cannot be read.
"""


@dataclass(frozen=True)
class RgbdFrame:
    """An RGB-D frame, depth registered to color.

    Attributes:
        rgb: (H, W, 3) uint8 RGB.
        depth: (H, W) float32 meters; 0, negative, NaN and infinite mean "no measurement".
        intrinsics: camera of both images, or None if it is unknown.
    """

    rgb: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]
    intrinsics: Intrinsics | None


@dataclass(frozen=True)
class Unread:
    """A frame that has not been read yet.

    Attributes:
        name: name of the frame, which is valid as a file name.
        read: function that reads the frame. It raises ValueError, which names the file, if that is
            damaged.
    """

    name: str
    read: Callable[[], RgbdFrame]


@dataclass(frozen=True)
class Input:
    """Ordered frames of one input.

    Attributes:
        name: name given by the user.
        count: maximum number of frames.
        frames: the frames.
    """

    name: str
    count: int
    frames: Iterable[Unread]


@dataclass(frozen=True)
class Calibration:
    """Camera data given by the user; it overrides what files say.

    Attributes:
        matrix: fx, fy, cx, cy in pixels of the images.
        depth_scale: meters per unit of depth images, integers and floating-point numbers alike.
        rgb_topic, depth_topic: topics of the images, for bags with several.
    """

    matrix: tuple[float, float, float, float] | None = None
    depth_scale: float | None = None
    rgb_topic: str | None = None
    depth_topic: str | None = None

    def read(
        self, rgb: Path, depth: Path, camera: Path | None = None, scale: float = MILLIMETERS
    ) -> RgbdFrame:
        """Read a frame from two image files and an optional camera file.

        Args:
            rgb, depth, camera: the files.
            scale: meters per unit of integer depth if neither the user nor the camera file gives
                it.

        Raises:
            InputError: the sizes of the images or of the camera differ.
        """
        found = read_camera(camera) if camera is not None else None
        scale = self.depth_scale or (found.depth_scale if found else scale)
        image, meters = read_rgb(rgb), read_depth(depth, scale, self.depth_scale or 1.0)
        height, width = image.shape[:2]
        if meters.shape != (height, width):
            raise InputError(
                f"{rgb}, {depth}: rgb is {width}x{height} but depth is "
                f"{meters.shape[1]}x{meters.shape[0]}: depth must be registered to the color image"
            )
        intrinsics = found.intrinsics if found else None
        if self.matrix is not None:
            intrinsics = Intrinsics(*self.matrix, width, height)
        elif intrinsics and (intrinsics.width, intrinsics.height) != (width, height):
            raise InputError(
                f"{camera} is for {intrinsics.width}x{intrinsics.height} images, "
                f"but {rgb} is {width}x{height}"
            )
        return RgbdFrame(image, meters, intrinsics)


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Turn an OSError into an InputError that names the file."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}") from error


@reading()
def open_inputs(names: Sequence[str], calibration: Calibration) -> list[Input]:
    """Open the bags, folders, images and globs given on the command line.

    A folder with subfolders ``rgb`` and ``depth`` is a plain folder
    (`sgnet_core.data.datasets.folder`), without need for labels and classes. A folder with
    ``rgb.txt`` and ``depth.txt`` has TUM's layout (`sgnet_core.inference.tum`). Other folders,
    images and globs give color images, or the subfolder that contains them (``RGB``, ``color`` …);
    `DepthFinder` finds their depth images.

    Raises:
        InputError: a name does not exist, contains no frames, or cannot be read.
    """
    inputs: list[Input] = []
    images: list[Path] = []
    for path in [path for name in names for path in expanded(name)]:
        if _is_bag(path):
            inputs.append(_bag(path, calibration))
        elif path.is_dir() and is_tum_folder(path):
            inputs.append(_tum_folder(path, calibration))
        elif path.is_dir() and all((path / kind).is_dir() for kind in ("rgb", "depth")):
            inputs.append(_plain_folder(path, calibration))
        elif path.is_dir():
            found = _colors(path)
            if not found and (folder := _color_folder(path)):
                found = _colors(folder)
            if not found:
                raise InputError(
                    f"{path} contains neither color images, nor a bag, nor folders rgb and depth; "
                    "if its folders have other names, give the folder of the color images"
                )
            images += found
        else:
            images.append(path)
    if images:
        inputs.append(_images(images, calibration))
    return inputs


def _colors(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if kind_of(path) == "color"]


def _color_folder(folder: Path) -> Path | None:
    """Return the subfolder for color images (``RGB``, ``color`` …) if there is exactly one."""
    names = ("rgb", "color", "colour", "image", "images")
    found = [path for path in folder.iterdir() if path.is_dir() and path.name.lower() in names]
    return found[0] if len(found) == 1 else None


@reading()
def open_pairs(rgb: str, depth: str, calibration: Calibration) -> Input:
    """Pair color and depth images by name; each argument is a folder or a glob.

    Raises:
        InputError: nothing is found, a folder cannot be read, or two images have the same name.
    """
    suffixes = {rgb: IMAGE_SUFFIXES, depth: IMAGE_SUFFIXES + ARRAY_SUFFIXES}
    found: dict[str, dict[str, Path]] = {}
    for name, wanted in suffixes.items():
        found[name] = {}
        for path in _files(expanded(name)):
            if path.suffix.lower() in wanted:
                other = found[name].setdefault(image_key(path), path)
                if other != path:
                    raise InputError(f"{other} and {path} have the same name: {image_key(path)!r}")
        if not found[name]:
            raise InputError(f"{name} contains no images")
    hint = f"expected: an image of that name in {depth}"
    pairs = [(path, found[depth].get(key), hint) for key, path in found[rgb].items()]
    return _pairs(rgb, pairs, calibration)


def expanded(name: str) -> list[Path]:
    """Return an existing path, or the paths that match a glob (``*``, ``?``, ``[…]``, ``**``).

    Raises:
        InputError: there is none.
    """
    path = Path(name).expanduser()
    if path.exists():
        return [path]
    if not glob.has_magic(name):
        raise InputError(f"{name} does not exist")
    found = sorted(glob.glob(str(path), recursive=True))
    if not found:
        raise InputError(f"{name} matches no file")
    return [Path(match) for match in found]


def _images(paths: Sequence[Path], calibration: Calibration) -> Input:
    """Pair the color images among the paths with their depth images."""
    colors = [path for path in dict.fromkeys(paths) if kind_of(path) == "color"]
    if not colors:
        raise InputError(
            f"{paths[0]} is not a color image: give the color image; its depth is found next to it"
        )
    finder = DepthFinder()
    hint = "expected: NAME.depth.png next to NAME.rgb.png, or depth/NAME.png next to rgb/"
    pairs = [(path, finder.find(path), hint) for path in colors]
    return _pairs(str(colors[0].parent), pairs, calibration)


def _pairs(
    name: str, pairs: Sequence[tuple[Path, Path | None, str]], calibration: Calibration
) -> Input:
    """Make an input from triples: color file, depth file or None, and a hint if it is missing."""

    def read(rgb: Path, depth: Path | None, hint: str) -> RgbdFrame:
        if depth is None:
            raise InputError(f"{rgb} has no depth image ({hint})")
        return calibration.read(rgb, depth)

    if all(depth is None for _, depth, _ in pairs):
        raise InputError(f"{pairs[0][0]} has no depth image ({pairs[0][2]})")
    frames = [
        Unread(image_key(pair[0]) or pair[0].stem, functools.partial(read, *pair)) for pair in pairs
    ]
    return Input(name, len(frames), frames)


def _plain_folder(folder: Path, calibration: Calibration) -> Input:
    listing = FolderListing.of(folder)
    if not listing.rgb:
        raise InputError(f"{folder / 'rgb'} contains no images")
    if not listing.rgb.keys() & listing.depth.keys():
        raise InputError(
            f"{folder}: none of the {len(listing.rgb)} color images in rgb/ has the name of one of "
            f"the {len(listing.depth)} depth images in depth/; images named after different times "
            "need the lists rgb.txt and depth.txt with lines `timestamp filename`"
        )

    def read(name: str) -> RgbdFrame:
        colors, depths = listing.rgb[name], listing.depth.get(name, [])
        if len(colors) != 1 or len(depths) != 1:
            raise InputError(
                f"{colors[0]} needs one depth image of its name in {folder / 'depth'}, and to be "
                "the only color image of its name"
            )
        camera = listing.cameras[name][0] if name in listing.cameras else listing.camera
        return calibration.read(colors[0], depths[0], camera)

    frames = [Unread(name, functools.partial(read, name)) for name in listing.rgb]
    return Input(str(folder), len(frames), frames)


def _tum_folder(folder: Path, calibration: Calibration) -> Input:
    camera = folder / "camera.json" if (folder / "camera.json").is_file() else None
    frames = [
        Unread(color.stem, functools.partial(calibration.read, color, depth, camera, DEPTH_SCALE))
        for color, depth in tum_pairs(folder)
    ]
    return Input(str(folder), len(frames), frames)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files among the paths and those in the folders; hidden ones are skipped."""
    for path in paths:
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        yield from (file for file in inside if file.is_file() and not file.name.startswith("."))


def is_recording(path: Path) -> bool:
    """Return True for bags and folders of frames, False for single images."""
    return path.is_dir() or _is_bag(path)


def _is_bag(path: Path) -> bool:
    """Return True for bags: files by their suffix, folders of rosbag2 by their content."""
    if path.is_dir():
        names = [entry.name.lower() for entry in path.iterdir() if entry.name[0] != "."]
        return any(n.endswith(_BAG_ENDINGS) or n == "metadata.yaml" for n in names)
    return path.name.lower().endswith(_BAG_ENDINGS)


def _bag(path: Path, calibration: Calibration) -> Input:
    """Open a recording with the reader that an installed package registers.

    Raises:
        InputError: the recording cannot be read, or no reader is installed.
    """
    try:
        reader = load_plugin(RECORDINGS, "bags")
    except PluginError as error:
        raise InputError(f"{path}: {error}: pip install 'sgnet_ros[bags]'") from error
    source = reader(
        path,
        calibration.rgb_topic,
        calibration.depth_topic,
        intrinsics=calibration.matrix,
        depth_scale=calibration.depth_scale,
    )

    def read(recorded: Any) -> RgbdFrame:
        if isinstance(recorded, ValueError):
            raise recorded
        depth = recorded.depth.astype(np.float32) / 1000
        return RgbdFrame(recorded.rgb, depth, recorded.intrinsics)

    def frames() -> Iterator[Unread]:
        for index, recorded in enumerate(source.attempts()):
            yield Unread(f"{path.stem}_{index:06d}", functools.partial(read, recorded))

    return Input(str(path), source.count or 0, frames())
