"""ScanNet (Dai et al., CVPR 2017): frames of its benchmark, exported as images.

::

    SCENE/color/N.jpg, depth/N.png (millimeters), label/N.png (NYU-40 ids from 1, 0 = unlabeled)
    SCENE/intrinsics_depth.txt, or SCENE/intrinsic/intrinsic_depth.txt    4x4 matrix
    SPLIT.txt, scannetv2_SPLIT.txt                                        names of scenes
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sgnet_core.data.datasets.frame_files import (
    DatasetError,
    FrameFiles,
    FramePaths,
    chosen_splits,
    existing,
    from_one,
    read_lines,
    read_words,
    to_classes,
)
from sgnet_core.data.images import read_depth, read_labels, read_rgb
from sgnet_core.data.sample import Sample
from sgnet_core.files import not_hidden
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.models.labels import NYU40

INTRINSICS = ("intrinsics_depth.txt", "intrinsic/intrinsic_depth.txt")


class ScanNet(FrameFiles):
    """Frames of a scene, of all scenes in a folder, or of those that a split lists.

    Color and labels are resized to the size of the depth image, whose camera is used.

    Args:
        folder: a scene, or a folder of scenes.
        split: name of a list of scenes; None takes all scenes.

    Raises:
        DatasetError: a file is missing.
    """

    def __init__(self, folder: Path, split: str | None = None) -> None:
        frames = [frame for scene in _scenes(folder, split) for frame in _frames(folder, scene)]
        if not frames:
            raise DatasetError(f"{folder} holds no color/N.jpg")
        super().__init__(existing(frames), NYU40)
        self.id_table = from_one(len(NYU40))

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        return folder.is_dir() and any(_is_scene(path) for path in (folder, *folder.iterdir()))

    def __getitem__(self, index: int) -> Sample:
        """Read one frame; see `FrameFiles`."""
        frame = self.frames[index]
        depth = read_depth(frame.depth)
        height, width = depth.shape
        labels = to_classes(read_labels(frame.labels), self.id_table, frame.labels)
        rgb = _resized(read_rgb(frame.rgb), width, height, cv2.INTER_AREA)
        labels = _resized(labels, width, height, cv2.INTER_NEAREST_EXACT)
        return Sample(rgb, depth, labels, self.read_intrinsics(frame, width, height))

    def read_intrinsics(self, frame: FramePaths, width: int, height: int) -> Intrinsics:
        assert frame.camera is not None
        try:
            numbers = [float(word) for word in read_words(frame.camera)]
            matrix = np.reshape(numbers, (4, 4))[:3, :3]
            return Intrinsics.from_matrix(matrix.ravel().tolist(), width, height)
        except ValueError as error:
            raise DatasetError(f"cannot read the intrinsics {frame.camera}: {error}") from error


def _is_scene(folder: Path) -> bool:
    return all((folder / kind).is_dir() for kind in ("color", "depth", "label"))


def _scenes(folder: Path, split: str | None) -> list[Path]:
    if split is None:
        return [path for path in (folder, *sorted(folder.iterdir())) if _is_scene(path)]
    lists = {
        path.stem.removeprefix("scannetv2_"): path for path in not_hidden(folder.glob("*.txt"))
    }
    [(_, file)] = chosen_splits(lists, split, folder)
    scenes = [folder / name for name in read_lines(file)]
    for scene in scenes:
        if not _is_scene(scene):
            raise DatasetError(f"{file} names {scene.name}, but {scene} is not a scene")
    return scenes


def _frames(root: Path, scene: Path) -> list[FramePaths]:
    camera = next((scene / name for name in INTRINSICS if (scene / name).is_file()), None)
    if camera is None:
        raise DatasetError(f"{scene} holds no intrinsics: {' or '.join(INTRINSICS)}")
    files = not_hidden((scene / "color").iterdir())
    images = [path for path in files if path.suffix.lower() in (".jpg", ".png")]
    prefix = "" if scene == root else f"{scene.name}-"
    return [
        FramePaths(
            name=f"{prefix}{image.stem}",
            rgb=image,
            depth=scene / "depth" / f"{image.stem}.png",
            labels=scene / "label" / f"{image.stem}.png",
            camera=camera,
        )
        for image in sorted(images, key=lambda path: (len(path.stem), path.stem))
    ]


def _resized(image: NDArray[Any], width: int, height: int, how: int) -> NDArray[np.uint8]:
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(cv2.resize(image, (width, height), interpolation=how), np.uint8)
