"""Compare two exported models on the same labeled frames."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from sgnet_core.data.loading import Samples
from sgnet_core.evaluation.metrics import ConfusionMatrix
from sgnet_core.inference.segmenter import Segmenter


class Difference(NamedTuple):
    """Difference between the labels of two models.

    Attributes:
        same_labels: share of the pixels with the same label, 0..1.
        miou: mIoU of the first and the second model, 0..1; NaN without labeled pixels.
    """

    same_labels: float
    miou: tuple[float, float]


def compare(
    first: str | os.PathLike[str], second: str | os.PathLike[str], frames: Samples
) -> Difference:
    """Run two model files on the CPU on the same frames and compare their labels.

    Raises:
        ModelFileError: a model file cannot be used.
    """
    segmenters = [Segmenter(path, device="cpu") for path in (first, second)]
    scores = [ConfusionMatrix(len(segmenter.labels)) for segmenter in segmenters]
    same = total = 0
    for index in tqdm(range(len(frames)), "comparison", unit="frame", leave=False):
        sample = frames[index]
        masks = [
            segmenter.segment(sample.rgb, sample.depth, sample.intrinsics).labels
            for segmenter in segmenters
        ]
        for score, mask in zip(scores, masks, strict=True):
            score.update(sample.labels, mask)
        same, total = same + int(np.count_nonzero(masks[0] == masks[1])), total + masks[0].size
    return Difference(same / total, (scores[0].miou, scores[1].miou))
