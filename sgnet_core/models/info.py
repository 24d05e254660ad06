"""Description of a model: classes, normalization, input size, depth range, training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from sgnet_core.geometry.depth_range import DEPTH_RANGE
from sgnet_core.geometry.holes import HolePolicy
from sgnet_core.models.labels import LabelSet


@dataclass(frozen=True)
class Normalization:
    """Normalization of images: (value − mean) / std per channel, for values in 0..255.

    Attributes:
        mean, std: one value per channel, in the order below.
        order: order in which the network expects the channels.

    Raises:
        ValueError: an unknown order, not three values, or a std that is not positive.
    """

    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    order: Literal["rgb", "bgr"] = "rgb"

    def __post_init__(self) -> None:
        if self.order not in ("rgb", "bgr"):
            raise ValueError(f"channel order must be rgb or bgr, got {self.order!r}")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(s > 0 for s in self.std):
            raise ValueError(
                f"normalization needs 3 means and 3 positive stds, got {self.mean}, {self.std}"
            )

    def __call__(self, rgb: Tensor) -> Tensor:
        """Normalize (B, 3, H, W) RGB of any type, 0..255; return float32 in the network's order."""
        image = rgb.float() if self.order == "rgb" else rgb.flip(1).float()
        return (image - _filled(self.mean, image)) / _filled(self.std, image)


def _filled(values: Sequence[float], like: Tensor) -> Tensor:
    """Return values as (1, C, 1, 1), with the device and type of a tensor.

    The values are written on the device: a copy from the host would block, and a CUDA graph cannot
    record it.
    """
    return torch.cat([like.new_full((1, 1, 1, 1), value) for value in values], dim=1)


IMAGENET = Normalization()
"""torchvision's ImageNet statistics, on the 0..255 scale."""

RELEASED = Normalization((104.008, 116.669, 122.675), (1.0, 1.0, 1.0), "bgr")
"""The input of the published SGNet weights: BGR, 0..255, mean subtracted, not divided."""


@dataclass(frozen=True)
class ModelInfo:
    """Everything a model needs to run besides its config and its weights.

    Attributes:
        name: the variant's name (``sgnet_r18``, …) or the name it was saved under.
        labels: the classes, in the order of the network's output channels.
        normalization: normalization of the RGB input.
        input_height: height to which frames are resized before the network, with their aspect
            ratio; None runs every frame at its own size.
        holes: policy by which depth pixels without a measurement are filled, see
            `sgnet_core.geometry.holes.fill_holes`.
        depth_range: (nearest, farthest) meters that count as a measurement.
        training: free-form JSON about the training: data, seed, iterations, scores.

    Raises:
        ValueError: a value out of range.
    """

    name: str
    labels: LabelSet
    normalization: Normalization = IMAGENET
    input_height: int | None = None
    holes: HolePolicy = "none"
    depth_range: tuple[float, float] = DEPTH_RANGE
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.input_height is not None and self.input_height < 1:
            raise ValueError(f"input_height must be positive, got {self.input_height}")
        check_depth(self.holes, self.depth_range)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, which `from_dict` reads back."""
        return {
            "name": self.name,
            "labels": self.labels.to_dict(),
            "normalization": asdict(self.normalization),
            "input_height": self.input_height,
            "holes": self.holes,
            "depth_range": list(self.depth_range),
            "training": dict(self.training),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelInfo:
        """Read the result of `to_dict`; holes and depth_range may be missing, as in older files.

        Raises:
            ValueError: a field is missing or has a wrong type or value.
        """
        try:
            norm = data["normalization"]
            height = data["input_height"]
            nearest, farthest = (float(meters) for meters in data.get("depth_range", DEPTH_RANGE))
            return cls(
                name=str(data["name"]),
                labels=LabelSet.from_dict(data["labels"]),
                normalization=Normalization(
                    mean=_triple(norm["mean"]), std=_triple(norm["std"]), order=norm["order"]
                ),
                input_height=None if height is None else int(height),
                holes=data.get("holes", "none"),
                depth_range=(nearest, farthest),
                training=dict(data["training"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the description of a model: {error!r}") from error


def check_depth(holes: str, depth_range: tuple[float, float]) -> None:
    """Raise ValueError unless hole policy and depth range, as in `ModelInfo`, are valid."""
    if holes not in get_args(HolePolicy):
        raise ValueError(f"holes must be one of {', '.join(get_args(HolePolicy))}; got {holes!r}")
    nearest, farthest = depth_range
    if not DEPTH_RANGE[0] <= nearest < farthest <= DEPTH_RANGE[1]:
        raise ValueError(
            f"depth_range must be (nearest, farthest) meters within {DEPTH_RANGE}, "
            f"got {depth_range}"
        )


def _triple(values: Any) -> tuple[float, float, float]:
    a, b, c = (float(v) for v in values)
    return a, b, c
