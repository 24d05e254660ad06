"""Write data sets in the layout of `sgnet_core.data.datasets.folder`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sgnet_core.data.datasets.folder import (
    MILLIMETERS,
    FolderListing,
    camera_values,
    classes_values,
)
from sgnet_core.data.datasets.frame_files import DatasetError, FrameFiles
from sgnet_core.data.depth_units import NO_MEASUREMENT
from sgnet_core.data.images import write_png
from sgnet_core.data.sample import Sample
from sgnet_core.files import atomic_write
from sgnet_core.models.labels import LabelSet


class NamedSamples(Protocol):
    """A data set whose samples have names."""

    @property
    def label_set(self) -> LabelSet: ...
    @property
    def names(self) -> Sequence[str]: ...
    def __getitem__(self, index: int, /) -> Sample: ...


def write_folder(
    folder: Path, splits: Mapping[str, NamedSamples], depth_scale: float = MILLIMETERS
) -> int:
    """Write data sets into a plain folder, one split each; return the number of frames.

    Color images of `FrameFiles` are copied; others become PNG. Depth that does not fit 16 bits
    becomes 0.

    Args:
        folder: folder without frames, made if necessary.
        splits: samples by split name, all with the same classes. A single one with the name ""
            writes no split file.
        depth_scale: meters per unit of the depth images.

    Raises:
        DatasetError: the folder contains frames.
        OSError: a file cannot be written.
    """
    require_no_frames(folder)
    first: dict[str, float] | None = None
    for split, samples in splits.items():
        label = f"{folder.name} {split}".strip()
        for index, name in enumerate(tqdm(samples.names, label, unit="frame")):
            sample = samples[index]
            source = samples.frames[index].rgb if isinstance(samples, FrameFiles) else None
            first = write_frame(folder, name, sample, depth_scale, first, source)
        if split:
            (folder / "splits").mkdir(exist_ok=True)
            write_text(folder / "splits" / f"{split}.txt", "\n".join(samples.names) + "\n")
    label_set = next(iter(splits.values())).label_set
    # A folder can be opened only with this file, so it is written last.
    write_json(folder / "classes.json", classes_values(label_set))
    return sum(len(samples.names) for samples in splits.values())


def require_no_frames(folder: Path) -> None:
    """Raise DatasetError if a folder contains frames."""
    if FolderListing.of(folder).rgb:
        raise DatasetError(f"{folder} already contains frames: remove it or choose another --out")


def write_frame(
    folder: Path,
    name: str,
    sample: Sample,
    depth_scale: float,
    first: dict[str, float] | None,
    source: Path | None = None,
) -> dict[str, float]:
    """Write the files of one frame, the labels last.

    Args:
        folder: plain folder, made if necessary.
        name: name of the frame.
        sample: the frame.
        depth_scale: meters per unit of the depth image.
        first: content of camera.json, which is the camera of the first frame; None for the first
            frame, which writes it.
        source: color image to copy; None writes a PNG.

    Returns:
        The content of camera.json.

    Raises:
        OSError: a file cannot be written.
    """
    for kind in ("rgb", "depth", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    _write_rgb(folder / "rgb" / name, sample.rgb, source)
    write_png(folder / "depth" / f"{name}.png", quantized(sample.depth, depth_scale))
    camera = camera_values(sample.intrinsics, depth_scale)
    if first is None:
        write_json(folder / "camera.json", camera)
    elif camera != first:
        (folder / "cameras").mkdir(exist_ok=True)
        write_json(folder / "cameras" / f"{name}.json", camera)
    write_png(folder / "labels" / f"{name}.png", sample.labels)
    return first or camera


def _write_rgb(stem: Path, rgb: NDArray[np.uint8], source: Path | None) -> None:
    if source is None:
        write_png(stem.with_name(f"{stem.name}.png"), rgb)
        return
    target = stem.with_name(f"{stem.name}{source.suffix.lower()}")
    with open(source, "rb") as original, atomic_write(target) as copy:
        shutil.copyfileobj(original, copy)


def quantized(depth: NDArray[np.float32], scale: float) -> NDArray[np.uint16]:
    """Return depth in units of ``scale``; values that do not fit 16 bits become 0."""
    units = np.rint(depth / scale)
    units[units >= NO_MEASUREMENT] = 0
    return units.astype(np.uint16)


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file; an existing one is replaced only by a complete new one."""
    write_text(path, json.dumps(values, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file; an existing one is replaced only by a complete new one."""
    with atomic_write(path) as file:
        file.write(text.encode())
