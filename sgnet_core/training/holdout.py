"""Open training and validation sets, or hold out a part of the training set for validation."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from torch.utils.data import Subset

from sgnet_core.data.catalog import open_dataset
from sgnet_core.data.datasets.frame_files import DatasetError, FrameFiles
from sgnet_core.data.loading import ENDLESS, Samples
from sgnet_core.data.mixture import Mixture
from sgnet_core.data.rooms import Rooms
from sgnet_core.models.labels import LabelSet, class_difference

HOLDOUT = "holdout:"
BLOCKS = 10
"""Maximum number of held-out blocks. Neighboring frames often show the same scene, so they stay
together."""


def open_training_sets(
    train: str, validation: str, size: tuple[int, int]
) -> tuple[Samples, Samples, LabelSet]:
    """Return training set, validation set, and the classes of both.

    Warns if frames are in both sets, because their scores say nothing about other frames.

    Args:
        train: name of a data set for `open_dataset`.
        validation: likewise, or ``holdout:SHARE`` with 0 < SHARE < 1 of the training set.
        size: (H, W) in pixels of rendered rooms.

    Raises:
        ValueError: a set does not exist or is damaged, or the two have different classes.
    """
    samples, labels = open_dataset(train, size)
    if validation.startswith(HOLDOUT):
        return *hold_out(samples, _share(validation), train), labels
    held_out, other = open_dataset(validation, size)
    if difference := class_difference(labels, other, (train, validation)):
        raise DatasetError(f"{train} and {validation} differ in their classes: {difference}")
    if len(held_out) == ENDLESS:
        raise DatasetError(
            f"{validation} is endless: give a number of frames, for example {validation}:100"
        )
    if common := _common(samples, held_out):
        warnings.warn(
            f"{common} of the {len(held_out)} validation frames ({validation}) are also in the "
            f"training set ({train}): their scores are not valid for other frames",
            stacklevel=2,
        )
    return samples, held_out, labels


def mix_in(
    samples: Samples,
    labels: LabelSet,
    mix: Mapping[str, float],
    size: tuple[int, int],
    seed: int,
) -> Samples:
    """Return the training set mixed with frames of other data sets.

    Args:
        samples: the training set.
        labels: classes of the training set.
        mix: shares of the frames by name of the data set for `open_dataset`.
        size: (H, W) in pixels of rendered rooms.
        seed: seed of the order of the frames.

    Raises:
        ValueError: a set does not exist, is damaged, or has other classes.
    """
    if not mix:
        return samples
    others = []
    for name in mix:
        other, classes = open_dataset(name, size)
        if difference := class_difference(labels, classes, ("the training set", name)):
            raise DatasetError(f"{name} cannot be mixed in, its classes differ: {difference}")
        others.append(other)
    shares = [1 - sum(mix.values()), *mix.values()]
    return Mixture([samples, *others], shares, seed)


def _common(train: Samples, validation: Samples) -> int:
    """Return how many frames of the validation set are known to be in the training set."""
    if isinstance(train, Rooms) and isinstance(validation, Rooms):
        return min(len(train), len(validation)) if train.seed == validation.seed else 0
    if isinstance(train, FrameFiles) and isinstance(validation, FrameFiles):
        trained = {frame.rgb.resolve() for frame in train.frames}
        return sum(frame.rgb.resolve() in trained for frame in validation.frames)
    return 0


def hold_out(samples: Samples, share: float, name: str) -> tuple[Samples, Samples]:
    """Divide a set into the part to train on and the held-out part.

    The set is divided into up to `BLOCKS` blocks, and the end of each is held out. The choice
    depends only on the number of samples and the share.

    Raises:
        DatasetError: the set is endless or too small.
    """
    if len(samples) == ENDLESS:
        raise DatasetError(
            f"{name} is endless, so no share can be held out: validate on rooms:OTHER_SEED:N"
        )
    count = min(BLOCKS, max(1, round(share * len(samples))))
    blocks = np.array_split(np.arange(len(samples)), count)
    cuts = [len(block) - round(share * len(block)) for block in blocks]
    kept = [int(i) for block, cut in zip(blocks, cuts, strict=True) for i in block[:cut]]
    held = [int(i) for block, cut in zip(blocks, cuts, strict=True) for i in block[cut:]]
    if not kept or not held:
        raise DatasetError(
            f"{name} has only {len(samples)} frames, too few to hold out a share of {share}"
        )
    dataset = cast(Any, samples)  # the annotation of Subset requires PyTorch's base class
    return cast(Samples, Subset(dataset, kept)), cast(Samples, Subset(dataset, held))


def _share(validation: str) -> float:
    try:
        share = float(validation.removeprefix(HOLDOUT))
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise DatasetError(
            f"validation {validation!r}: write holdout:SHARE, for example holdout:0.1"
        )
    return share
