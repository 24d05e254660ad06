"""Cityscapes (Cordts et al., CVPR 2016): the official archives, unpacked into one folder.

::

    leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png
    disparity/SPLIT/CITY/NAME_disparity.png
    camera/SPLIT/CITY/NAME_camera.json
    gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sgnet_core.data.datasets.frame_files import (
    DatasetError,
    FrameFiles,
    FramePaths,
    chosen_splits,
    existing,
    read_json,
)
from sgnet_core.data.images import read_numbers
from sgnet_core.files import not_hidden
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.models.labels import CITYSCAPES19, IGNORE_ID

SPLITS = ("train", "val")
"""Splits with labels; those of the test split are not public."""

MAX_DEPTH = 300.0
"""Meters; larger depths have a disparity below 1.6 pixels, which is mostly noise."""

EVALUATED_IDS = (7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33)
"""The label ids of the 19 evaluated classes, in the order of `CITYSCAPES19`."""


class Cityscapes(FrameFiles):
    """The frames of the official folders, or those of "train" or "val"."""

    def __init__(self, folder: Path, split: str | None = None) -> None:
        images = folder / "leftImg8bit"
        if not images.is_dir():
            raise DatasetError(f"{images} does not exist: unpack all archives into {folder}")
        lists = {name: images / name for name in SPLITS if (images / name).is_dir()}
        frames = []
        for name, where in chosen_splits(lists, split, folder):
            found = not_hidden(where.glob("*/*_leftImg8bit.png"))
            if not found:
                raise DatasetError(f"{where} holds no CITY/NAME_leftImg8bit.png")
            frames += [_frame(folder, name, path) for path in found]
        super().__init__(existing(frames), CITYSCAPES19)
        # Ids 0..33, and 255 for the license plates' −1.
        self.id_table = np.full(256, -1, np.int16)
        self.id_table[[*range(34), 255]] = IGNORE_ID
        self.id_table[list(EVALUATED_IDS)] = range(len(CITYSCAPES19))

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        return (folder / "leftImg8bit").is_dir()

    def read_depth(self, frame: FramePaths) -> NDArray[np.float32]:
        values = _camera(frame)
        focal, baseline = values["intrinsic"]["fx"], values["extrinsic"]["baseline"]
        stored = read_numbers(frame.depth).astype(np.float32)
        return disparity_to_depth(stored, focal * baseline)

    def read_intrinsics(self, frame: FramePaths, width: int, height: int) -> Intrinsics:
        optics = _camera(frame)["intrinsic"]
        return Intrinsics(optics["fx"], optics["fy"], optics["u0"], optics["v0"], width, height)


def disparity_to_depth(stored: NDArray[np.float32], focal_baseline: float) -> NDArray[np.float32]:
    """Convert (H, W) values of a disparity PNG to float32 meters, 0 where there is none.

    A value p > 0 stands for a disparity of (p − 1)/256 pixels; depth is focal · baseline / it.
    """
    disparity = (stored - 1) / 256
    depth = np.zeros_like(stored)
    # This also excludes a disparity of 0 and "not measured".
    near = disparity * MAX_DEPTH > focal_baseline
    depth[near] = focal_baseline / disparity[near]
    return depth


def _frame(folder: Path, split: str, image: Path) -> FramePaths:
    name = image.name.removesuffix("_leftImg8bit.png")

    def beside(kind: str, ending: str) -> Path:
        return folder / kind / split / image.parent.name / f"{name}_{ending}"

    return FramePaths(
        name,
        rgb=image,
        depth=beside("disparity", "disparity.png"),
        labels=beside("gtFine", "gtFine_labelIds.png"),
        camera=beside("camera", "camera.json"),
    )


def _camera(frame: FramePaths) -> Mapping[str, Mapping[str, float]]:
    """Return the numbers of a camera file."""
    assert frame.camera is not None
    wanted = {"intrinsic": ("fx", "fy", "u0", "v0"), "extrinsic": ("baseline",)}
    try:
        values = read_json(frame.camera)
        return {part: {k: float(values[part][k]) for k in keys} for part, keys in wanted.items()}
    except DatasetError:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise DatasetError(f"cannot read the camera {frame.camera}: {error!r}") from error
