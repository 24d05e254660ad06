"""Check every file of a plain folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sgnet_core.data.catalog import LAYOUTS
from sgnet_core.data.datasets.folder import (
    Classes,
    FolderCamera,
    FolderListing,
    frame_name,
    read_camera,
    read_classes,
)
from sgnet_core.data.datasets.frame_files import DatasetError, read_lines
from sgnet_core.data.depth_units import unit_hint
from sgnet_core.data.images import ImageFileError, read_depth, read_labels, read_rgb
from sgnet_core.models.labels import IGNORE_ID

DEPTH_EDGES = (0, 0.01, 0.1, 0.3, 0.5, 1, 2, 4, 8, 16, 32, 65, 300, 1000, np.inf)
"""Edges in meters of the bins of the depth histogram."""

NEAREST_MEDIAN = 0.1
"""Minimum plausible median in meters; a wrong unit is off by a factor of 1000."""

LONE_PEAK_SHARE = 0.002
"""Share of measured pixels that is reported if they have the largest depth, far from others."""

SATURATED_SHARE = 0.01
"""Share of measured pixels that is reported if they have the largest depth, with few others near
it."""

_PEAK_PIXELS = 5


@dataclass
class FolderCheck:
    """Findings of a check.

    Attributes:
        problems: "FILE: what is wrong", in the order of the frames.
        frames: number of color images.
        depth_counts: number of measured pixels in each bin of `DEPTH_EDGES`.
        id_counts: (256,) number of pixels by id in the label files.
        classes: classes of the folder; None if classes.json cannot be read.
    """

    problems: list[str] = field(default_factory=list)
    frames: int = 0
    depth_counts: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(len(DEPTH_EDGES) - 1, np.int64)
    )
    id_counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    classes: Classes | None = None

    def report(self) -> str:
        """Return problems, histogram of depth and share of the classes as text."""
        lines = [*self.problems]
        if self.depth_counts.any():
            lines += ["", "depth in meters, share of the measured pixels", *self._histogram()]
        if self.classes is not None and self.id_counts.any():
            lines += ["", "classes, share of all pixels", *self._shares(self.classes)]
        count = len(self.problems)
        verdict = "no problems" if not count else f"{count} problem{'s' * (count > 1)}"
        return "\n".join([*lines, "", f"{self.frames} frame{'s' * (self.frames != 1)}: {verdict}"])

    def _histogram(self) -> list[str]:
        shares = self.depth_counts / self.depth_counts.sum()
        used = np.flatnonzero(shares)
        return [
            f"{DEPTH_EDGES[i]:>7g} – {DEPTH_EDGES[i + 1]:<7g}{shares[i]:7.1%} "
            + "█" * round(40 * shares[i])
            for i in range(used[0], used[-1] + 1)
        ]

    def _shares(self, classes: Classes) -> list[str]:
        pixels = np.zeros(256)
        for value in np.flatnonzero(self.id_counts):
            pixels[classes.table[value] if classes.table[value] >= 0 else 255] += self.id_counts[
                value
            ]
        pixels /= pixels.sum()
        rows = [*enumerate(classes.label_set.names), (255, "(ignored)")]
        lines = [f"{name:<24}{pixels[i]:7.2%}" for i, name in rows if pixels[i]]
        absent = [name for i, name in rows if not pixels[i] and i != 255]
        return [*lines, *([f"never: {', '.join(absent)}"] if absent else [])]


def check_folder(folder: Path) -> FolderCheck:
    """Read every file of a plain folder and collect its problems; raise nothing."""
    check = FolderCheck()
    if not (folder / "rgb").is_dir():
        check.problems.append(_why_not_plain(folder))
        return check
    listing = FolderListing.of(folder)
    check.frames = len(listing.rgb)
    if not listing.rgb:
        check.problems.append(f"{folder / 'rgb'}: there is no color image (.png, .jpg)")
    try:
        check.classes = read_classes(folder / "classes.json")
    except DatasetError as error:
        check.problems.append(str(error))
    cameras = _Cameras(check)
    for name in tqdm(listing.rgb, "check", unit="frame", leave=False):
        check.problems += listing.problems(name)
        _check_frame(check, listing, name, cameras)
    _check_ids(check, folder)
    _check_orphans(check, listing)
    _check_splits(check, listing)
    return check


def _why_not_plain(folder: Path) -> str:
    """Return why the folder is not a plain folder."""
    if not folder.is_dir():
        return f"{folder}: {'is not a folder' if folder.exists() else 'does not exist'}"
    for layout, description in LAYOUTS:
        if layout.recognizes(folder):
            return (
                f"{folder}: is {description.partition(':')[0]}; only plain folders are checked, "
                "but training can read it without conversion"
            )
    return f"{folder}: has no folder rgb: docs/data.md describes the layout"


@dataclass
class _Cameras:
    """Camera files, each read and reported once."""

    check: FolderCheck
    known: dict[Path, FolderCamera | None] = field(default_factory=dict)

    def get(self, path: Path | None) -> FolderCamera | None:
        if path is None:
            return None
        if path not in self.known:
            try:
                self.known[path] = read_camera(path)
            except DatasetError as error:
                self.check.problems.append(str(error))
                self.known[path] = None
        return self.known[path]


def _check_frame(check: FolderCheck, listing: FolderListing, name: str, cameras: _Cameras) -> None:
    camera_path = listing.cameras.get(name, [listing.camera])[0]
    camera = cameras.get(camera_path)
    scale = FolderCamera.depth_scale if camera is None else camera.depth_scale
    sizes: dict[Path, tuple[int, int]] = {}
    readers: tuple[tuple[dict[str, list[Path]], Callable[[Path], tuple[int, ...]]], ...] = (
        (listing.rgb, lambda path: read_rgb(path).shape),
        (listing.depth, lambda path: _check_depth(check, path, scale)),
        (listing.labels, lambda path: _check_labels(check, path)),
    )
    for files, shape_of in readers:
        for path in files.get(name, []):
            try:
                height, width = shape_of(path)[:2]
                sizes[path] = (width, height)
            except ImageFileError as error:
                check.problems.append(str(error))
    if camera is not None and camera_path is not None:
        sizes[camera_path] = (camera.intrinsics.width, camera.intrinsics.height)
    rgb = listing.rgb[name][0]
    for path, size in sizes.items():
        if rgb in sizes and size != sizes[rgb]:
            check.problems.append(
                f"{path}: is {size[0]}x{size[1]}, but {rgb} is {sizes[rgb][0]}x{sizes[rgb][1]}"
            )


def _check_depth(check: FolderCheck, path: Path, scale: float) -> tuple[int, ...]:
    """Collect the problems of a depth file; return its shape."""
    depth = read_depth(path, scale)
    measured = depth[np.isfinite(depth) & (depth > 0)]
    if not measured.size:
        check.problems.append(f"{path}: no pixel has a depth")
        return depth.shape
    check.depth_counts += np.histogram(measured, DEPTH_EDGES)[0]
    median = float(np.median(measured))
    integers = path.suffix.lower() == ".png"
    if median < NEAREST_MEDIAN:
        check.problems.append(
            f"{path}: the median depth is {median:.4g} m: is the unit right? "
            + unit_hint(median / scale if integers else median, integers)
        )
    elif peak := _impossible_peak(measured):
        value, share = peak
        unit = f" ({value / scale:.0f} in the file)" if integers else ""
        check.problems.append(
            f"{path}: {share:.1%} of the measured pixels are exactly {value:.4g} m{unit}, and "
            "almost none are near that value: if it means no measurement, or too far for the "
            "camera, store 0 instead"
        )
    elif integers and measured.max() <= 255.5 * scale:
        check.problems.append(
            f"{path}: no value is above 255: is it an 8-bit picture of the depth?"
        )
    return depth.shape


def _impossible_peak(measured: NDArray[np.float32]) -> tuple[float, float] | None:
    """Return the largest depth and its share if it seems to be a special value, else None.

    A far wall spreads over several values, and depth limited to a maximum, as in SUN RGB-D, has
    other values just below it. A special value is far beyond all others, or has many pixels and
    almost none within 10 % below it.
    """
    values, counts = np.unique(measured, return_counts=True)
    value, share = float(values[-1]), float(counts[-1] / measured.size)
    median = float(np.median(measured))
    if len(values) < 2 or share < LONE_PEAK_SHARE or counts[-1] < _PEAK_PIXELS:
        return None
    lone = value >= max(1.5 * values[-2], 3 * median)
    near, nearest = (counts[:-1][values[:-1] >= part * value].sum() for part in (0.9, 0.98))
    alone = counts[-1] > max(5 * near, 100 * nearest)
    saturated = share >= SATURATED_SHARE and value >= 1.25 * median and alone
    return (value, share) if lone or saturated else None


def _check_labels(check: FolderCheck, path: Path) -> tuple[int, ...]:
    """Collect the problems of a label file; return its shape."""
    ids = read_labels(path)
    counts = np.bincount(ids.reshape(-1), minlength=256)
    check.id_counts += counts
    if check.classes is None:
        return ids.shape
    strange = np.flatnonzero((check.classes.table < 0) & (counts > 0))
    if strange.size:
        listed = ", ".join(f"{i} ({counts[i]} pixels)" for i in strange)
        check.problems.append(f"{path}: ids that are not in classes.json: {listed}")
    return ids.shape


def _check_ids(check: FolderCheck, folder: Path) -> None:
    """Collect problems of the ids in all label files together."""
    if check.classes is None or not check.id_counts.any():
        return
    used = np.flatnonzero(check.id_counts)
    table, names = check.classes.table, check.classes.label_set.names
    if (table[used] == IGNORE_ID).all():
        listed = ", ".join(map(str, used))
        check.problems.append(f"{folder / 'labels'}: no pixel is labeled; all ids are {listed}")
    elif used.tolist() == [0, 255] and len(names) == 2 and table[255] == IGNORE_ID:
        check.problems.append(
            f"{folder / 'labels'}: the only ids are 0 and 255, and 255 is ignored, so {names[1]} "
            'never occurs; for masks of 0 and 255 write "ids": [0, 255] into classes.json'
        )


def _check_orphans(check: FolderCheck, listing: FolderListing) -> None:
    others = (listing.depth, listing.labels, listing.cameras)
    for path in [
        p for files in others for n, ps in files.items() for p in ps if n not in listing.rgb
    ]:
        check.problems.append(f"{path}: there is no color image of that name")


def _check_splits(check: FolderCheck, listing: FolderListing) -> None:
    owner: dict[str, Path] = {}
    for path in listing.split_files:
        try:
            names = [frame_name(line) for line in read_lines(path)]
        except DatasetError as error:
            check.problems.append(str(error))
            continue
        for name, count in Counter(names).items():
            if name not in listing.rgb:
                check.problems.append(f"{path}: names {name}, which is not in rgb/")
            if count > 1:
                check.problems.append(f"{path}: names {name} {count} times")
            if name in owner:
                check.problems.append(f"{path}: names {name}, and so does {owner[name].name}")
            owner[name] = path
