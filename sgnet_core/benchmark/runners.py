"""Functions that the suite ``segmenter`` runs in separate processes.

This module imports only what inference needs, because imports count as memory of inference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.models.model_file import load_model
from sgnet_core.models.precision import cast, pick_precision
from sgnet_core.models.sconv import SConv2d
from sgnet_core.models.sgnet import MODELS, SGNet, create_model

FrameArrays = tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], Intrinsics]


def segment(
    model: str, device: torch.device, precision: str = "auto"
) -> Callable[[FrameArrays], Any]:
    """Make a function frame → labels with a `Segmenter` of a model file or of random weights."""
    network = random_model(model, device) if model in MODELS else model
    segmenter = Segmenter(network, device, precision)
    return lambda frame: segmenter.segment(*frame).labels


def segment_eagerly(model: str, device: torch.device) -> Callable[[FrameArrays], Any]:
    """Make the same function as `segment`, without fusion and CUDA graphs, as in training."""
    segmenter = Segmenter(model, device)
    assert isinstance(segmenter.model, SGNet)
    network = load_model(model).requires_grad_(False)
    network = cast(network, pick_precision("auto", device)).to(device)
    segmenter.model = network.to(memory_format=torch.channels_last)
    segmenter._graphs = None
    return lambda frame: segmenter.segment(*frame).labels


def random_model(name: str, device: torch.device) -> SGNet:
    """Create a variant with random weights and, as after training, offsets that are not 0."""
    model = create_model(name).eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, SConv2d) and module.offset_generator is not None:
            nn.init.normal_(module.offset_generator.weight, std=0.05)
    return model.to(device).to(memory_format=torch.channels_last)


def random_inputs(
    shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Make a normalized image and depth of 0 to 5 m; ``shape`` is (batch, height, width)."""
    batch, height, width = shape
    image = torch.randn(batch, 3, height, width, device=device, dtype=dtype)
    depth = 5 * torch.rand(batch, 1, height, width, device=device)
    return image.contiguous(memory_format=torch.channels_last), depth
