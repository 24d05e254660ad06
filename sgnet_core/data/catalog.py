"""Data sets by name."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from sgnet_core.data.datasets.cityscapes import Cityscapes
from sgnet_core.data.datasets.folder import PlainFolder
from sgnet_core.data.datasets.frame_files import DatasetError, FrameFiles
from sgnet_core.data.datasets.lists import (
    DFormerFolder,
    EsanetCityscapes,
    EsanetNyu,
    EsanetSun,
    ListFile,
)
from sgnet_core.data.datasets.scannet import ScanNet
from sgnet_core.data.datasets.shards import INDEX, Shards
from sgnet_core.data.datasets.sunrgbd import SunRgbd
from sgnet_core.data.loading import ENDLESS, Samples
from sgnet_core.data.rooms import Rooms
from sgnet_core.models.labels import NYU40, LabelSet


class Layout(Protocol):
    """A subclass of `FrameFiles` for one layout of folders."""

    def recognizes(self, path: Path, /) -> bool:
        """Return True for a path in this layout."""

    def __call__(self, path: Path, split: str | None, /) -> FrameFiles:
        """Open the folder, or one of its splits."""


LAYOUTS: tuple[tuple[Layout, str], ...] = (
    (PlainFolder, "plain folder: rgb/, depth/, labels/, camera.json, classes.json"),
    (EsanetSun, "ESANet's SUN RGB-D: SPLIT_rgb.txt, SPLIT_depth.txt, SPLIT_label.txt"),
    (
        EsanetCityscapes,
        "ESANet's Cityscapes: SPLIT_rgb.txt, SPLIT_depth_raw.txt, SPLIT_labels_19.txt",
    ),
    (EsanetNyu, "ESANet's NYUv2: SPLIT.txt, SPLIT/rgb/, SPLIT/depth/, SPLIT/labels_40/"),
    (DFormerFolder, "DFormer's folders: SPLIT.txt, RGB/, Depth/, Label/ or labels/"),
    (ScanNet, "ScanNet's frames: [SCENE/]color/, depth/, label/, intrinsics_depth.txt"),
    (SunRgbd, "SUN RGB-D: SUNRGBD/, SUNRGBDtoolbox/"),
    (Cityscapes, "Cityscapes: leftImg8bit/, gtFine/, disparity/, camera/"),
    (ListFile, "SGNet's lists: train*.txt, test*.txt with lines `image label depth HHA`"),
)
"""Layouts in the order in which they are tried, with a description of their files."""


def open_dataset(name: str, size: tuple[int, int]) -> tuple[Samples, LabelSet]:
    """Open a data set by name; return it with its classes.

    Args:
        name: ``rooms:SEED:N`` for N procedural rooms, ``rooms:SEED`` for endless rooms, or a folder
            of shards, or a folder or list file in one of `LAYOUTS`, where ``:SPLIT`` chooses one
            split.
        size: (H, W) at which rooms are rendered; frames in files keep their size.

    Raises:
        ValueError: the data set does not exist, or a file is missing or damaged.
    """
    kind, _, rest = name.partition(":")
    if kind == "rooms" and not Path(name).exists():
        return _rooms(name, rest, size), NYU40
    if "://" in name or (Path(name).expanduser() / INDEX).is_file():
        shards = Shards(name)
        return shards, shards.label_set
    path, split = Path(name).expanduser(), None
    if not path.exists() and ":" in name:
        head, _, split = name.rpartition(":")
        path = Path(head).expanduser()
    if not path.exists():
        raise DatasetError(f"no data set {name!r}: {path} does not exist (rooms are rooms:SEED:N)")
    frames = open_folder(path, split)
    return frames, frames.label_set


def open_folder(path: Path, split: str | None = None) -> FrameFiles:
    """Open a folder or list file in the first of `LAYOUTS` that recognizes it.

    Raises:
        DatasetError: no layout fits, or a file is missing or damaged.
    """
    for layout, _ in LAYOUTS:
        if layout.recognizes(path):
            return layout(path, split)
    if path.suffix == ".mat" or any(path.glob("*.mat")):
        raise DatasetError(
            f"{path}: convert the MATLAB files with `python -m sgnet_core.prepare nyuv2`"
        )
    wanted = "\n".join(f"  {description}" for _, description in LAYOUTS)
    empty = "is empty" if path.is_dir() and not any(path.iterdir()) else "is not a data set"
    raise DatasetError(f"{path} {empty}. Looked for\n{wanted}")


def _rooms(name: str, numbers: str, size: tuple[int, int]) -> Rooms:
    try:
        seed, *length = (int(number) for number in numbers.split(":"))
        if len(length) > 1 or seed < 0 or min(length, default=1) < 1:
            raise ValueError
    except ValueError:
        raise DatasetError(
            f"{name!r} is not a set of rooms: use rooms:SEED or rooms:SEED:N, e.g. rooms:1:200"
        ) from None
    return Rooms(seed=seed, length=length[0] if length else ENDLESS, size=size)
