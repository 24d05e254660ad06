"""Masks of labeled frames from a `Segmenter`: the same code that runs in use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from sgnet_core.data.loading import Samples
from sgnet_core.data.sample import Sample
from sgnet_core.data.transforms import flip as mirror
from sgnet_core.inference.segmenter import Segmenter

Mask = npt.NDArray[np.uint8]


def segmenter_masks(
    segmenter: Segmenter,
    samples: Samples,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    progress: bool = True,
) -> Iterator[tuple[Sample, Mask]]:
    """Yield every sample with the (H, W) uint8 mask of a segmenter.

    Args:
        segmenter: the segmenter.
        samples: the frames.
        scales: factors of the network's input size; the scores of several are averaged.
        flip: also average with the scores of the mirror images.
        progress: show a bar on stderr.
    """
    for index in tqdm(range(len(samples)), unit="frame", disable=not progress):
        sample = samples[index]
        yield sample, _segment(segmenter, sample, scales, flip)


def _segment(segmenter: Segmenter, sample: Sample, scales: Sequence[float], flip: bool) -> Mask:
    frame = sample.rgb, sample.depth, sample.intrinsics
    result = segmenter.segment(*frame, scales=scales, scores=flip)
    if result.scores is None:
        return result.labels
    other = mirror(sample)
    mirrored = segmenter.segment(
        other.rgb, other.depth, other.intrinsics, scales=scales, scores=True
    )
    assert mirrored.scores is not None
    return (result.scores + mirrored.scores[:, :, ::-1]).argmax(axis=0).astype(np.uint8)
