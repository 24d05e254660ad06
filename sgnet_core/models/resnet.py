"""ResNet trunk in which S-Conv replaces chosen 3x3 convolutions.

He et al., CVPR 2016; placement, strides and dilation after Chen et al., IEEE TIP 2021.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from sgnet_core.models.dcn import DCNv2
from sgnet_core.models.sconv import PROJECTED_CHANNELS, Guidance, SConv2d

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
"""Blocks per layer; 18 and 34 are made of basic blocks, 50 and 101 of bottlenecks."""

WIDTHS = (64, 128, 256, 512)


@dataclass(frozen=True)
class SConvOptions:
    """Arguments of `SConv2d` for all S-Convs of a trunk.

    If ``spatial_channels`` is None, each S-Conv is guided by the features that it convolves. If
    ``dcn`` is true, `DCNv2` replaces the S-Convs.
    """

    spatial_channels: int | None
    projected_channels: int = PROJECTED_CHANNELS
    projector: bool = True
    offsets: bool = True
    masks: bool = True
    dcn: bool = False


def _conv3x3(
    inputs: int, outputs: int, stride: int, dilation: int, sconv: SConvOptions | None
) -> nn.Conv2d | SConv2d | DCNv2:
    """Make a 3x3 convolution: an S-Conv or DCNv2 if there are options for it, else a plain one."""
    if sconv is None:
        return nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False)
    if sconv.dcn:
        return DCNv2(inputs, outputs, stride)
    return SConv2d(
        inputs,
        outputs,
        inputs if sconv.spatial_channels is None else sconv.spatial_channels,
        stride,
        projector=sconv.projector,
        offsets=sconv.offsets,
        masks=sconv.masks,
        projected_channels=sconv.projected_channels,
    )


def apply_conv(conv: nn.Module, x: Tensor, guidance: Guidance | None) -> Tensor:
    """Convolve (B, C, H, W) features; an S-Conv without guidance is guided by ``x``."""
    if isinstance(conv, SConv2d):
        return conv.convolve(x, conv.guide(x) if guidance is None else guidance)
    result: Tensor = conv(x)
    return result


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; the first, which carries the stride, may be an S-Conv."""

    expansion = 1

    def __init__(
        self, inputs: int, width: int, stride: int, dilation: int, sconv: SConvOptions | None
    ) -> None:
        super().__init__()
        self.conv1 = _conv3x3(inputs, width, stride, dilation, sconv)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width, 1, 1 if sconv else dilation, None)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _downsample(inputs, width, stride)

    @property
    def sconv(self) -> SConv2d | None:
        """The S-Conv of this block, if it has one."""
        return self.conv1 if isinstance(self.conv1, SConv2d) else None

    def forward(self, x: Tensor, guidance: Guidance | None = None) -> Tensor:
        """Compute (B, width, H', W') features from (B, inputs, H, W)."""
        y = F.relu(self.bn1(apply_conv(self.conv1, x, guidance)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.downsample(x), inplace=True)


class Bottleneck(nn.Module):
    """Bottleneck of 1x1, 3x3, 1x1; the 3x3, which carries the stride, may be an S-Conv."""

    expansion = 4

    def __init__(
        self, inputs: int, width: int, stride: int, dilation: int, sconv: SConvOptions | None
    ) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width, stride, dilation, sconv)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _downsample(inputs, outputs, stride)

    @property
    def sconv(self) -> SConv2d | None:
        """The S-Conv of this block, if it has one."""
        return self.conv2 if isinstance(self.conv2, SConv2d) else None

    def forward(self, x: Tensor, guidance: Guidance | None = None) -> Tensor:
        """Compute (B, 4·width, H', W') features from (B, inputs, H, W)."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(apply_conv(self.conv2, y, guidance)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + self.downsample(x), inplace=True)


def _downsample(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Make the shortcut of a block: the identity, or a 1x1 convolution if its shape changes."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


def deep_stem() -> nn.Sequential:
    """Make a stem of three 3x3 convolutions to 128 channels and max-pool, stride 4."""
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((3, 64, 2), (64, 64, 1), (64, 128, 1)):
        layers += [
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers, nn.MaxPool2d(3, 2, 1))


def torchvision_stem() -> nn.Sequential:
    """Make torchvision's stem: one 7x7 convolution to 64 channels and max-pool, stride 4."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    )


class ResNet(nn.Module):
    """Stem and four layers of residual blocks.

    Args:
        depth: 18, 34, 50 or 101.
        stem: "deep" or "torchvision".
        output_stride: stride of the last layer: 8, 16 or 32. At 8 and 16 plain blocks of layer 3
            are dilated by 2 and those of layer 4 by 4, as published; S-Conv blocks never are.
        sconv: arguments for the S-Convs; None for a plain trunk.
        placement: for each layer, the indices of the blocks that get an S-Conv.
    """

    def __init__(
        self,
        depth: int,
        stem: str,
        output_stride: int,
        sconv: SConvOptions | None,
        placement: Sequence[frozenset[int]],
    ) -> None:
        super().__init__()
        block = BasicBlock if depth < 50 else Bottleneck
        strides = {8: (1, 2, 1, 1), 16: (1, 2, 2, 1), 32: (1, 2, 2, 2)}[output_stride]
        dilations = (1, 1, 1, 1) if output_stride == 32 else (1, 1, 2, 4)
        self.stem = deep_stem() if stem == "deep" else torchvision_stem()
        self.channels = tuple(w * block.expansion for w in WIDTHS)
        self.strides = strides
        self.guided_by_features = sconv is not None and sconv.spatial_channels is None
        inputs = 128 if stem == "deep" else 64
        layers = []
        for index, count in enumerate(BLOCKS[depth]):
            blocks: list[BasicBlock | Bottleneck] = []
            for i in range(count):
                options = sconv if i in placement[index] else None
                stride = strides[index] if i == 0 else 1
                blocks.append(block(inputs, WIDTHS[index], stride, dilations[index], options))
                inputs = self.channels[index]
            layers.append(nn.ModuleList(blocks))
        self.layers = nn.ModuleList(layers)
        _initialize(self)

    def blocks(self) -> Iterator[tuple[int, BasicBlock | Bottleneck]]:
        """Yield every block in order, with the index of its layer."""
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, nn.ModuleList)
            for block in layer:
                assert isinstance(block, BasicBlock | Bottleneck)
                yield index, block

    def forward(self, x: Tensor, guidance: Iterable[Guidance]) -> list[Tensor]:
        """Return the (B, C, h, w) features of the four layers.

        Args:
            x: (B, C, h, w) output of the stem.
            guidance: one item per S-Conv in order, each taken right before its S-Conv runs; unused
                where S-Convs are guided by the features that they convolve.
        """
        remaining = iter(guidance)
        features: list[Tensor] = []
        for index, block in self.blocks():
            if len(features) < index + 1:
                features.append(x)
            outside = block.sconv is not None and not self.guided_by_features
            x = block(x, next(remaining) if outside else None)
            features[index] = x
        return features


def _initialize(module: nn.Module) -> None:
    """Apply He initialization to the trunk's own convolutions, not to the generators of S-Convs."""
    guided = {m for s in module.modules() if isinstance(s, SConv2d | DCNv2) for m in s.modules()}
    for m in module.modules():
        if isinstance(m, nn.Conv2d) and m not in guided:
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")


def downsampled(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Return (H, W) after a convolution or pooling of that stride, padded by half its kernel."""
    return (size[0] - 1) // stride + 1, (size[1] - 1) // stride + 1


def load_imagenet(trunk: ResNet, state: dict[str, Tensor]) -> list[str]:
    """Load torchvision's ResNet weights into the trunk; return the keys that keep random values.

    The kernel of an S-Conv takes the weights of the 3x3 that it replaces. A deep stem and the 1x1
    convolutions that read it fit no weights of torchvision and stay random.

    Raises:
        ValueError: the weights are not those of a torchvision ResNet of this depth.
    """
    own = trunk.state_dict()
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        name = key
        if key.startswith("layer"):
            layer, rest = key.split(".", 1)
            name = f"layers.{int(layer[5:]) - 1}.{rest}"
        elif key.startswith("conv1."):
            name = "stem.0." + key.removeprefix("conv1.")
        elif key.startswith("bn1."):
            name = "stem.1." + key.removeprefix("bn1.")
        if name in own and own[name].shape == value.shape:
            renamed[name] = value
    if not any(name.startswith("layers.") for name in renamed):
        raise ValueError("no weight fits: not a torchvision ResNet of this depth")
    missing = trunk.load_state_dict(renamed, strict=False).missing_keys
    return [key for key in missing if not key.endswith("num_batches_tracked")]


def torchvision_weights(depth: int) -> dict[str, Tensor]:
    """Return torchvision's ImageNet weights of a ResNet, from its cache or by download."""
    import torchvision

    api = torchvision.models.get_model_weights(f"resnet{depth}")
    state: dict[str, Tensor] = api["IMAGENET1K_V1"].get_state_dict(progress=True, check_hash=True)
    return state
