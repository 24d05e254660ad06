"""Masks of labeled frames from a `Segmenter`, with the code that runs on a robot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from sgnet_core.data.loading import Samples
from sgnet_core.data.sample import Sample
from sgnet_core.data.transforms import flip as mirror
from sgnet_core.inference.segmenter import Prediction, Segmenter


class SegmentedSample(NamedTuple):
    """A labeled frame and its predicted mask.

    Attributes:
        sample: the frame.
        mask: (H, W) uint8 class ids.
        ms: milliseconds of the segmenter for all views of the frame.
    """

    sample: Sample
    mask: npt.NDArray[np.uint8]
    ms: float


def segmenter_masks(
    segmenter: Segmenter,
    samples: Samples,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    progress: bool = True,
) -> Iterator[SegmentedSample]:
    """Yield every sample with the mask of a segmenter.

    Args:
        segmenter: the segmenter.
        samples: the frames.
        scales: factors of the network's input size; the scores of several are averaged.
        flip: also average with the scores of the mirror images.
        progress: show a progress bar on stderr.
    """
    for index in tqdm(range(len(samples)), unit="frame", disable=not progress):
        sample = samples[index]
        yield _segment(segmenter, sample, scales, flip)


def _segment(
    segmenter: Segmenter, sample: Sample, scales: Sequence[float], flip: bool
) -> SegmentedSample:
    frame = sample.rgb, sample.depth, sample.intrinsics
    result = segmenter.segment(*frame, scales=scales, scores=flip)
    if result.scores is None:
        return SegmentedSample(sample, result.labels, _ms(result))
    other = mirror(sample)
    mirrored = segmenter.segment(
        other.rgb, other.depth, other.intrinsics, scales=scales, scores=True
    )
    assert mirrored.scores is not None
    mask = (result.scores + mirrored.scores[:, :, ::-1]).argmax(axis=0).astype(np.uint8)
    return SegmentedSample(sample, mask, _ms(result) + _ms(mirrored))


def _ms(prediction: Prediction) -> float:
    return sum(prediction.stages_ms.values())
