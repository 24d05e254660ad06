"""Small networks and frames for tests of segmenters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from sgnet_core import SGNet, create_model
from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.models.info import ModelInfo, Normalization
from sgnet_core.models.labels import LabelSet

NORM = Normalization((10.0, 20.0, 30.0), (2.0, 4.0, 5.0), "rgb")
RGB, DEPTH = np.zeros((6, 8, 3), np.uint8), np.ones((6, 8), np.float32)
SIX = LabelSet("six", tuple("abcdef"), tuple((i * 50, 255 - i, i) for i in range(6)))


def make(spatial: str = "depth", labels: LabelSet = SIX, **info: Any) -> SGNet:
    """Return a small seeded network with random statistics, whose labels vary."""
    torch.manual_seed(3)
    model = create_model("sgnet_lite", num_classes=len(labels), spatial=spatial)
    randomize(model)
    model.info = replace(ModelInfo("tiny", labels, NORM), **info)
    return model.eval()


def randomize(model: nn.Module) -> None:
    """Move norms off their initial values, as training does."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.uniform_(module.bias, -0.3, 0.3)


class Fixed(nn.Module):
    """A head that gives every image the same scores."""

    def __init__(self, scores: Any) -> None:
        super().__init__()
        self.scores = torch.tensor(scores)[None]

    def forward(self, features: object) -> Tensor:
        return self.scores


def fixed(scores: Any) -> Segmenter:
    model = make()
    model.head = Fixed(scores)
    return Segmenter(model, "cpu")


def frame(height: int, width: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Return a smooth random picture and depth with holes, always the same for one size."""
    rng = np.random.default_rng((height, width))
    rgb = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    rgb = np.array(Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC))
    depth = rng.uniform(0.5, 5, (height, width)).astype(np.float32)
    depth[rng.random((height, width)) < 0.2] = 0
    return rgb, depth
