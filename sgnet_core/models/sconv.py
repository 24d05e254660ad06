"""S-Conv: a convolution whose sampling positions and weights come from the geometry.

Chen, Lin, Wang, Yang, Cheng: Spatial Information Guided Convolution for Real-Time RGBD Semantic
Segmentation, IEEE TIP 2021 (arXiv 2004.04534), section III.

The spatial input S (depth, 3D coordinates or HHA) never mixes with the features. A projector φ
turns it into S' = φ(S); an offset generator η turns S' into displacements Δd of the nine sampling
positions; a weight generator f gathers S' at the displaced positions and turns it into one factor
per position. The features are then convolved at those positions with those factors. Positions and
factors depend on S alone, so they can be computed before the features exist.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sgnet_core.ops.deform import deform_conv2d, fused_conv, implementation
from sgnet_core.ops.gather import KERNEL, POSITIONS, Taps, find_taps, gather_conv
from sgnet_core.ops.resize import resize_maps

PROJECTED_CHANNELS = 64


class Guidance(NamedTuple):
    """Sampling positions and factors of one S-Conv, computed by the spatial branch.

    Attributes:
        offset: (B, 18, H', W') pixels, (Δy, Δx) per kernel position, row-major.
        mask: (B, 9, H', W') in (0, 1), or None if masks are switched off.
        taps: the offsets as gather indices, shared by weight generator and convolution, where the
            gather implementation runs; else None.
    """

    offset: Tensor
    mask: Tensor | None
    taps: Taps | None


class Projector(nn.Sequential):
    """φ: three 3x3 convolutions with batch norm and ReLU, (B, c', H, W) → (B, C, H, W).

    C is ``channels``, 64 as published.
    """

    def __init__(self, spatial_channels: int, channels: int = PROJECTED_CHANNELS) -> None:
        layers: list[nn.Module] = []
        for inputs in (spatial_channels, channels, channels):
            layers += [
                nn.Conv2d(inputs, channels, KERNEL, padding=1),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)

    def forward(self, spatial: Tensor) -> Tensor:
        """Compute S' = φ(S), (B, C, H, W), in the type of the second and third convolution.

        The first convolution computes in the type of its own weights, outside autocast. For
        geometry this is float32 (`sgnet_core.models.precision.cast`): bfloat16 would round depths
        between 4 and 8 m to 3 cm.
        """
        first, second = self[0], self[3]
        assert isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d)
        kind = spatial.device.type
        inside = torch.is_autocast_enabled(kind)
        with torch.autocast(kind, enabled=False) if inside else contextlib.nullcontext():
            projected = first(spatial.to(first.weight.dtype))
        projected = projected.to(second.weight.dtype)
        for layer in list(self)[1:]:
            projected = layer(projected)
        return projected


class SConv2d(nn.Module):
    """Spatial information guided 3x3 convolution, padding 1, dilation 1.

    Used alone it is called as ``conv(x, spatial)``. A network calls `guide` on the spatial branch
    first and `convolve` in the trunk.

    Args:
        in_channels, out_channels: channels of the input and output features.
        spatial_channels: c' of the spatial input: 1 for depth, 3 for HHA or 3D coordinates.
        stride: stride of the convolution.
        bias: add a bias to the convolution.
        projector: build φ; without it the caller passes S' to `guide`.
        offsets, masks: the two parts of the guidance; either can be switched off for ablation.
        projected_channels: channels of S' and of the hidden layer of f, 64 as published.

    Raises:
        ValueError: ``offsets`` and ``masks`` are both off.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_channels: int = 1,
        stride: int = 1,
        *,
        bias: bool = False,
        projector: bool = True,
        offsets: bool = True,
        masks: bool = True,
        projected_channels: int = PROJECTED_CHANNELS,
    ) -> None:
        super().__init__()
        if not (offsets or masks):
            raise ValueError("an S-Conv without offsets and without masks is a plain convolution")
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, KERNEL, KERNEL))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        channels = projected_channels if projector else spatial_channels
        self.projector = Projector(spatial_channels, channels) if projector else None
        self.offset_generator = (
            nn.Conv2d(channels, 2 * POSITIONS, KERNEL, stride, padding=1) if offsets else None
        )
        self.weight_generator = (
            WeightGenerator(channels, stride, projected_channels) if masks else None
        )
        if self.offset_generator is not None:
            assert self.offset_generator.bias is not None
            nn.init.zeros_(self.offset_generator.weight)
            nn.init.zeros_(self.offset_generator.bias)

    def guide(self, spatial: Tensor) -> Guidance:
        """Compute offsets and masks from the spatial input at this layer's input resolution.

        Args:
            spatial: (B, c', H, W) spatial input, resized to the (H, W) of the features; without a
                projector, S' of (B, C, H, W).
        """
        projected = spatial if self.projector is None else self.projector(spatial)
        size = (projected.shape[2], projected.shape[3])
        if self.offset_generator is not None:
            offset = self.offset_generator(projected)
        else:
            h, w = ((n - 1) // self.stride + 1 for n in size)
            offset = projected.new_zeros(len(projected), 2 * POSITIONS, h, w)
        taps = None
        if implementation(projected) == "gather":
            taps = find_taps(offset, size, self.stride)
        mask = None
        if self.weight_generator is not None:
            mask = self.weight_generator(projected, offset, taps)
        return Guidance(offset, mask, taps)

    def convolve(self, x: Tensor, guidance: Guidance) -> Tensor:
        """Convolve (B, C, H, W) features with the result of `guide` → (B, O, H', W')."""
        offset, mask, taps = guidance
        if taps is not None:
            return gather_conv(x, taps, self.weight, mask, self.bias)
        return deform_conv2d(x, offset, self.weight, mask, self.bias, stride=self.stride)

    def forward(self, x: Tensor, spatial: Tensor) -> Tensor:
        """Convolve (B, C, H, W) features, guided by a (B, c', Hs, Ws) spatial input of any size.

        Returns:
            (B, O, H', W').
        """
        return self.convolve(x, self.guide(resize_maps(spatial, (x.shape[2], x.shape[3]))))


class WeightGenerator(nn.Module):
    """Weight generator f: S' at the displaced positions → a factor in (0, 1) per kernel position.

    A deformable 3x3 convolution (C → C, no bias), a 1x1 convolution (C → 9), a sigmoid. The paper
    mentions non-linear activations between the layers; the released code has none.
    """

    def __init__(
        self, channels: int, stride: int, gathered_channels: int = PROJECTED_CHANNELS
    ) -> None:
        super().__init__()
        self.stride = stride
        self.gather = nn.Parameter(torch.empty(gathered_channels, channels, KERNEL, KERNEL))
        bound = (channels * POSITIONS) ** -0.5
        nn.init.uniform_(self.gather, -bound, bound)
        self.to_mask = nn.Conv2d(gathered_channels, POSITIONS, 1)

    def forward(self, projected: Tensor, offset: Tensor, taps: Taps | None) -> Tensor:
        """Compute the (B, 9, H', W') mask from (B, C, H, W) S' and (B, 18, H', W') offsets.

        ``taps`` are those of the offsets, or None.
        """
        if taps is None and implementation(projected) == "fused":
            # Both layers are linear, so one kernel replaces them.
            weight = torch.einsum("om,mcyx->ocyx", self.to_mask.weight[:, :, 0, 0], self.gather)
            bias = self.to_mask.bias
            return fused_conv(projected, offset, weight, None, bias, self.stride, sigmoid=True)
        if taps is not None:
            gathered = gather_conv(projected, taps, self.gather)
        else:
            gathered = deform_conv2d(projected, offset, self.gather, stride=self.stride)
        return torch.sigmoid(self.to_mask(gathered))
