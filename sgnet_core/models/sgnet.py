"""SGNet: configuration, network and the variants by name.

Chen et al., IEEE TIP 2021 (arXiv 2004.04534), sections III and IV.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, NamedTuple, get_args

from torch import Tensor, nn

from sgnet_core.geometry.spatial import SPATIAL_CHANNELS
from sgnet_core.models.heads import ASPPHead, FCNHead, FPNHead
from sgnet_core.models.info import ModelInfo
from sgnet_core.models.labels import LABEL_SETS, LabelSet, generic_label_set
from sgnet_core.models.resnet import BLOCKS, ResNet, SConvOptions, downsampled
from sgnet_core.models.sconv import PROJECTED_CHANNELS, Guidance, Projector, SConv2d
from sgnet_core.ops.resize import resize_maps

Spatial = Literal["none", "depth", "points", "points_released", "hha", "features"]
Operator = Literal["sconv", "dcnv2"]
Stem = Literal["deep", "torchvision"]
Head = Literal["fcn", "aspp", "fpn"]
Placement = Literal["published", "first"]


@dataclass(frozen=True)
class SGNetConfig:
    """Architecture of an SGNet.

    Attributes:
        depth: depth of the ResNet: 18, 34, 50 or 101.
        num_classes: output channels, 1..255.
        spatial: input that guides the S-Convs: "depth" in meters, 3D coordinates ("points", or
            "points_released" as the released code computes them), or "hha". "features" guides each
            S-Conv by the features that it convolves; "none" is the plain baseline.
        operator: "sconv", or "dcnv2" in its place, which needs ``spatial="features"``.
        output_stride: 8, 16, or 32 (32 with the "fpn" head).
        stem: "deep" (three 3x3, as published) or "torchvision" (7x7, for its ImageNet weights).
        head: "fcn" (published), "aspp" (SGNet*) or "fpn" (light decoder, not published).
        placement: "published" puts S-Convs in the first and the last two blocks of each layer,
            "first" in the first block only.
        layers: layers that get S-Convs, a subset of 1 to 4.
        aux: add a deep-supervision head on layer 3, which runs only in training.
        shared_projector: one projector per input resolution instead of one per S-Conv.
        projected_channels: channels of the projected geometry S', 1..256; 64 as published.
        projector, offsets, masks: parts of S-Conv that can be switched off for ablation.

    Raises:
        ValueError: a value is out of range, or values contradict each other.
    """

    depth: int = 101
    num_classes: int = 40
    spatial: Spatial = "depth"
    operator: Operator = "sconv"
    output_stride: int = 16
    stem: Stem = "deep"
    head: Head = "fcn"
    placement: Placement = "published"
    layers: tuple[int, ...] = (1, 2, 3, 4)
    aux: bool = True
    shared_projector: bool = False
    projected_channels: int = PROJECTED_CHANNELS
    projector: bool = True
    offsets: bool = True
    masks: bool = True

    def __post_init__(self) -> None:
        _one_of("depth", self.depth, tuple(BLOCKS))
        _one_of("output_stride", self.output_stride, (8, 16, 32))
        for name, kind in (
            *(("spatial", Spatial), ("stem", Stem), ("head", Head)),
            *(("placement", Placement), ("operator", Operator)),
        ):
            _one_of(name, getattr(self, name), get_args(kind))
        if not 1 <= self.num_classes <= 255:
            raise ValueError(f"num_classes must be 1..255, got {self.num_classes}")
        if not self.layers or not set(self.layers) <= {1, 2, 3, 4}:
            raise ValueError(f"layers must be among 1..4, got {self.layers}")
        if not 1 <= self.projected_channels <= 256:
            raise ValueError(f"projected_channels must be 1..256, got {self.projected_channels}")
        if self.spatial != "none" and not (self.offsets or self.masks):
            raise ValueError("offsets and masks both off: use spatial='none' for a plain network")
        if self.shared_projector and not self.projector:
            raise ValueError("shared_projector needs the projector")
        if self.operator == "dcnv2" and self.spatial != "features":
            raise ValueError("operator 'dcnv2' is guided by spatial='features'")
        if self.spatial == "features" and self.shared_projector:
            raise ValueError("shared_projector needs a spatial input other than 'features'")
        object.__setattr__(self, "layers", tuple(self.layers))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, which `from_dict` reads back."""
        return {**asdict(self), "layers": list(self.layers)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SGNetConfig:
        """Read the result of `to_dict`.

        Raises:
            ValueError: an entry is unknown, or has a wrong type or value.
        """
        known = {f.name: f.default for f in fields(cls)}
        for key, value in data.items():
            if key not in known:
                raise ValueError(f"unknown configuration entry {key!r}")
            expected = list if key == "layers" else type(known[key])
            if type(value) not in (expected, type(known[key])):
                raise ValueError(f"configuration entry {key} cannot be {value!r}")
        return cls(**data)

    def sconv_blocks(self, layer: int) -> frozenset[int]:
        """Return the indices of the blocks of layer 1..4 that get an S-Conv."""
        if self.spatial == "none" or layer not in self.layers:
            return frozenset()
        count = BLOCKS[self.depth][layer - 1]
        return frozenset({0} if self.placement == "first" else {0, count - 2, count - 1})


def _one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}; got {value!r}")


class Output(NamedTuple):
    """Logits at the resolution of the heads; `sgnet_core.ops.resize.resize_maps` enlarges them.

    Attributes:
        logits: (B, C, h, w) scores of the head.
        aux: (B, C, h', w') scores of the deep-supervision head in training, else None.
    """

    logits: Tensor
    aux: Tensor | None


class PlacedSConv(NamedTuple):
    """An S-Conv and its place in the network.

    Attributes:
        layer: layer of the trunk, 1 to 4.
        stride: stride of its input relative to the image.
        sconv: the module.
    """

    layer: int
    stride: int
    sconv: SConv2d


class SGNet(nn.Module):
    """RGB-D segmentation network: image and spatial input → class scores.

    Args:
        config: architecture.
        info: label set, normalization and training record, saved with the weights; None takes
            generic class names.

    Attributes:
        config, info: as given.

    Raises:
        ValueError: label set and config differ in the number of classes.
    """

    def __init__(self, config: SGNetConfig, info: ModelInfo | None = None) -> None:
        super().__init__()
        self.config = config
        self.info = info or ModelInfo("sgnet", generic_label_set(config.num_classes))
        if len(self.info.labels) != config.num_classes:
            raise ValueError(
                f"label set {self.info.labels.name!r} has {len(self.info.labels)} classes, "
                f"but the network has {config.num_classes}"
            )
        channels = SPATIAL_CHANNELS[config.spatial]
        projected = config.projected_channels
        options = SConvOptions(
            spatial_channels=projected if config.shared_projector else channels or None,
            projected_channels=projected,
            projector=config.projector and not config.shared_projector,
            offsets=config.offsets,
            masks=config.masks,
            dcn=config.operator == "dcnv2",
        )
        self.trunk = ResNet(
            config.depth,
            config.stem,
            config.output_stride,
            options if config.spatial != "none" else None,
            [config.sconv_blocks(layer) for layer in (1, 2, 3, 4)],
        )
        self.projectors = nn.ModuleDict()
        if config.shared_projector and channels:
            for stride in sorted({placed.stride for placed in self.sconvs()}):
                self.projectors[str(stride)] = Projector(channels, projected)
        features = self.trunk.channels
        self.head: nn.Module
        if config.head == "fpn":
            self.head = FPNHead(features, config.num_classes)
        else:
            kind = FCNHead if config.head == "fcn" else ASPPHead
            self.head = kind(features[-1], features[-1] // 4, config.num_classes)
        self.aux_head = (
            FCNHead(features[2], features[-1] // 4, config.num_classes) if config.aux else None
        )

    def sconvs(self) -> list[PlacedSConv]:
        """Return every S-Conv in order."""
        found = []
        stride, previous = 4, -1
        for index, block in self.trunk.blocks():
            if block.sconv is not None:
                found.append(PlacedSConv(index + 1, stride, block.sconv))
            if index != previous:  # the first block of a layer carries the layer's stride
                stride, previous = stride * self.trunk.strides[index], index
        return found

    def spatial_branch(self, spatial: Tensor | None, size: tuple[int, int]) -> Iterator[Guidance]:
        """Compute the guidance of one S-Conv after the other from the geometry alone.

        Args:
            spatial: (B, c', Hs, Ws) spatial input; None only for networks that take none.
            size: (H, W) of the RGB image.

        Yields:
            One `Guidance` per S-Conv in order; nothing for networks without spatial input.

        Raises:
            ValueError: ``spatial`` is missing or has a wrong number of channels.
        """
        channels = SPATIAL_CHANNELS[self.config.spatial]
        if not channels:
            return
        if spatial is None or spatial.shape[1] != channels:
            given = "none" if spatial is None else f"{spatial.shape[1]}"
            raise ValueError(
                f"this network is guided by {self.config.spatial!r} ({channels} channels), "
                f"got {given}"
            )
        resized: dict[int, Tensor] = {}
        stride, current = 1, size
        for _, needed, sconv in self.sconvs():
            while stride < needed:
                stride, current = stride * 2, downsampled(current, 2)
            if needed not in resized:
                s = resize_maps(spatial, current)
                resized[needed] = self.projectors[str(needed)](s) if self.projectors else s
            yield sconv.guide(resized[needed])

    def forward(self, rgb: Tensor, spatial: Tensor | None = None) -> Output:
        """Compute class scores.

        Args:
            rgb: (B, 3, H, W) normalized image.
            spatial: (B, c', Hs, Ws) spatial input; None only for networks that take none.

        Raises:
            ValueError: ``spatial`` is missing or has a wrong number of channels.
        """
        guidance = list(self.spatial_branch(spatial, (rgb.shape[2], rgb.shape[3])))
        return self.rgb_branch(self.trunk.stem(rgb), guidance)

    def rgb_branch(self, stem: Tensor, guidance: Iterable[Guidance]) -> Output:
        """Compute class scores from the stem's output and the result of `spatial_branch`.

        Stem and spatial branch do not depend on each other: a caller may run them concurrently.
        """
        features = self.trunk(stem, guidance)
        logits = self.head(features if self.config.head == "fpn" else features[-1])
        aux = self.aux_head(features[2]) if self.training and self.aux_head is not None else None
        return Output(logits, aux)


def _variants() -> dict[str, dict[str, Any]]:
    lite = {
        "depth": 18,
        "stem": "torchvision",
        "head": "fpn",
        "output_stride": 32,
        "placement": "first",
        "shared_projector": True,
        "layers": [2, 3, 4],
        "projected_channels": 32,
        "aux": False,
    }
    sgnet: dict[str, dict[str, Any]] = {
        "r18": {"depth": 18, "stem": "torchvision"},
        "r34": {"depth": 34, "stem": "torchvision"},
        "r50": {"depth": 50},
        "r101": {"depth": 101},
        "r101_aspp": {"depth": 101, "head": "aspp"},
        "lite": lite,
    }
    plain = {
        f"plain_{k}": {**v, "spatial": "none", "shared_projector": False} for k, v in sgnet.items()
    }
    return {**{f"sgnet_{k}": v for k, v in sgnet.items()}, **plain}


MODELS = _variants()
"""Variants by name, as differences from the default `SGNetConfig`."""


def create_model(
    name: str,
    num_classes: int | None = None,
    *,
    labels: str | LabelSet | None = None,
    **overrides: Any,
) -> SGNet:
    """Create a network with random weights by variant name.

    Args:
        name: one of `MODELS`: ``sgnet_r18``, ``sgnet_r34``, ``sgnet_r50``, ``sgnet_r101``,
            ``sgnet_r101_aspp``, ``sgnet_lite`` or their ``plain_`` baselines.
        num_classes: 1..255; None takes the number of ``labels``, or 40 without them.
        labels: the classes: a label set, or the name of a built-in one (``nyu40``, ``nyu13``,
            ``sun37``, ``cityscapes19``); None names them class_0, class_1, …
        overrides: fields of `SGNetConfig`, e.g. ``spatial="points"``, ``output_stride=8``.

    Raises:
        ValueError: an unknown variant or label set, a number of classes that differs from the label
            set's, or a field that is unknown or out of range.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; choose from {', '.join(MODELS)}")
    if isinstance(labels, str):
        if labels not in LABEL_SETS:
            raise ValueError(f"unknown label set {labels!r}; choose from {', '.join(LABEL_SETS)}")
        labels = LABEL_SETS[labels]
    if num_classes is None:
        num_classes = SGNetConfig.num_classes if labels is None else len(labels)
    config = SGNetConfig.from_dict({**MODELS[name], "num_classes": num_classes, **overrides})
    return SGNet(config, ModelInfo(name, labels or generic_label_set(config.num_classes)))
