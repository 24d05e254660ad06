"""Label one frame on its device, from the resized frame to labels at the size of the image.

A CUDA graph records `frame_labels`, so on a GPU nothing here may wait for the device or copy from
the host.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sgnet_core.geometry.holes import HolePolicy
from sgnet_core.inference.cuda_graph import forward_on_two_streams
from sgnet_core.inference.onnx_backend import OnnxNetwork
from sgnet_core.inference.unlabeling import unlabel
from sgnet_core.inference.upsampling import best_by_rows, best_labels
from sgnet_core.models.preprocess import network_input
from sgnet_core.models.sgnet import SGNet
from sgnet_core.models.views import mean_scores, rescaled


def frame_labels(
    network: SGNet,
    needed: Tensor | None,
    *frame: Tensor | None,
    size: tuple[int, int],
    scores: bool,
    scales: Sequence[float],
) -> tuple[Tensor | None, ...]:
    """Label a resized frame whose holes are filled; this is the function that is recorded.

    Args:
        network: network that labels the frame.
        needed, size, scores: as in `labels_of`, whose result is returned.
        frame: image, meters, camera and up as in `scaled_inputs`.
        scales: factors of the frame size.
    """
    image, meters, camera, up = frame
    assert image is not None and meters is not None
    inputs = scaled_inputs(network, image, meters, camera, up, "none", scales)
    return labels_of(network_logits(network, *inputs), size, True, scores, needed)


def scaled_inputs(
    network: SGNet,
    image: Tensor,
    meters: Tensor,
    camera: Tensor | None,
    up: Tensor | None,
    holes: HolePolicy | None,
    scales: Sequence[float],
) -> tuple[Tensor | None, ...]:
    """Return image and spatial input of the network for every scale, as one flat tuple.

    Args:
        network: network that reads them.
        image, meters, camera: as returned by `Segmenter.resized`.
        up: (1, 3) direction against gravity in the camera frame, or None.
        holes: policy that fills pixels without a measurement; None takes the model's.
        scales: factors of the frame size.
    """
    kind = network.config.spatial
    both = network_input(kind, network.info, image, meters, camera, up, holes)
    return tuple(tensor for scale in scales for tensor in rescaled(*both, scale))


def network_logits(network: SGNet | OnnxNetwork, *inputs: Tensor | None) -> list[Tensor]:
    """Return (C, h, w) float32 logits of every scale, from `scaled_inputs`.

    An `OnnxNetwork` takes the frame itself: image, usable depth, camera and up.
    """
    if isinstance(network, OnnxNetwork):
        picture, meters, camera, direction = inputs
        assert picture is not None and meters is not None
        return [network.logits(picture, meters, camera, direction)[0]]
    dtype = next(network.trunk.stem.parameters()).dtype
    logits = []
    for image, spatial in zip(inputs[::2], inputs[1::2], strict=True):
        assert image is not None
        guide = spatial
        if spatial is not None and not network.config.projector:
            guide = spatial.to(dtype)  # only projectors read float32
        image = image.to(dtype)
        output = (
            forward_on_two_streams(network, image, guide)
            if image.is_cuda
            else network(image, guide)
        )
        logits.append(output.logits[0].float())
    return logits


def labels_of(
    logits: Sequence[Tensor],
    size: tuple[int, int],
    confidence: bool,
    scores: bool,
    needed: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """Label the pixels of an image.

    Args:
        logits: (C, h, w) float32 of every scale.
        size: (H, W) of the image.
        confidence, scores: also return these.
        needed: (C,) float32 of `needed_confidence`, which needs ``confidence``; None labels all.

    Returns:
        () bool, True where all logits are finite; (H, W) uint8 labels; (H, W) uint8 confidence or
        None; (C, H, W) float32 mean logits or None.
    """
    finite = torch.stack([each.isfinite().all() for each in logits]).all()
    mean = None
    if scores or len(logits) > 1:
        mean = mean_scores(logits, size)
        labels, sure = best_by_rows(mean, size, confidence)
    else:
        labels, sure = best_labels(logits[0], size, confidence)
    if needed is not None:
        assert sure is not None
        labels = unlabel(labels, sure, needed)
    return finite, labels, sure, mean if scores else None
