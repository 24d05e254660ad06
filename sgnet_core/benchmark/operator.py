"""Suites ``operator`` and ``spatial``: deformable convolution and spatial inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
import torchvision.ops
from torch import Tensor, nn

from sgnet_core.benchmark.measure import Case, Group
from sgnet_core.geometry.spatial import spatial_input
from sgnet_core.models.fusion import LinearWeightGenerator
from sgnet_core.models.sconv import PROJECTED_CHANNELS, WeightGenerator
from sgnet_core.ops.deform import deform_conv2d
from sgnet_core.ops.gather import POSITIONS, find_taps

SCONV_SHAPES = (
    (64, 120, 160, 1),
    (128, 120, 160, 2),
    (128, 60, 80, 1),
    (256, 60, 80, 2),
    (256, 30, 40, 1),
    (512, 30, 40, 1),
)
"""(channels, H, W, stride) of every S-Conv of SGNet-R101 at 480x640."""

QUICK_SHAPES = ((64, 15, 20, 1),)

RECORDED_CALLS = 20
"""Calls in a CUDA graph; together they take some 100 µs, which the events of a GPU resolve."""

TORCHVISION = "torchvision.ops.deform_conv2d"

Inputs = tuple[Tensor, Tensor, Tensor]
"""Features, offsets and masks."""


def operator_groups(device: torch.device, quick: bool) -> Iterator[Group]:
    """Make groups of deformable convolution and weight generator at the shapes of SGNet-R101."""
    for channels, height, width, stride in QUICK_SHAPES if quick else SCONV_SHAPES:
        yield _deformable(channels, height, width, stride, device)
    yield _weight_generator(*((15, 20) if quick else (120, 160)), device)


def _deformable(channels: int, height: int, width: int, stride: int, device: torch.device) -> Group:
    """Make the group of one shape; on a GPU in float16, and torchvision's also in float32."""
    cuda = device.type == "cuda"
    dtypes = (torch.float16, torch.float32) if cuda else (torch.float32,)
    kernel = torch.randn(channels, channels, 3, 3, device=device)
    weights = {dtype: kernel.to(dtype) for dtype in dtypes}
    # as in `Segmenter`
    channels_last = weights[dtypes[0]].contiguous(memory_format=torch.channels_last)
    h, w = height // stride, width // stride

    def fresh() -> Mapping[torch.dtype, Inputs]:
        x = torch.randn(1, channels, height, width, device=device)
        offset = torch.randn(1, 2 * POSITIONS, h, w, device=device)
        mask = torch.rand(1, POSITIONS, h, w, device=device)
        x = x.contiguous(memory_format=torch.channels_last)
        return {dtype: (x.to(dtype), offset.to(dtype), mask.to(dtype)) for dtype in dtypes}

    def theirs(x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        weight = weights[x.dtype]
        return torchvision.ops.deform_conv2d(x, offset, weight, None, stride, 1, mask=mask)

    def ours(x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        return deform_conv2d(x, offset, channels_last, mask, stride=stride)

    def plain(x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        return nn.functional.conv2d(x, channels_last, stride=stride, padding=1)

    def case(
        name: str, run: Callable[..., Tensor], values: int = 0, dtype: torch.dtype = dtypes[0]
    ) -> Case:
        label = str(dtype).removeprefix("torch.")
        traffic = values * torch.finfo(dtype).bits // 8
        return Case(name, lambda inputs: run(*inputs[dtype]), TORCHVISION, traffic, label)

    values = channels * height * width + channels * h * w + kernel.numel()
    cases = [
        case(TORCHVISION, theirs),
        case("deform_conv2d", ours, values + 3 * POSITIONS * h * w),
        case("conv2d", plain, values),
    ]
    if cuda:
        cases.append(case(f"{TORCHVISION}, float32", theirs, dtype=torch.float32))
    shape = f"1x{channels}x{height}x{width}/{stride}"
    return Group("operator", shape, fresh, cases, recorded_calls=RECORDED_CALLS)


def _weight_generator(height: int, width: int, device: torch.device) -> Group:
    generator = WeightGenerator(PROJECTED_CHANNELS, 1).to(device)
    linear = LinearWeightGenerator(generator)

    def fresh() -> tuple[Tensor, Tensor]:
        projected = torch.randn(1, PROJECTED_CHANNELS, height, width, device=device)
        return projected, torch.randn(1, 2 * POSITIONS, height, width, device=device)

    def run(module: nn.Module, inputs: tuple[Tensor, Tensor]) -> object:
        taps = find_taps(inputs[1], (height, width)) if device.type == "cpu" else None
        return module(*inputs, taps)

    return Group(
        "operator",
        f"1x{PROJECTED_CHANNELS}x{height}x{width}",
        fresh,
        (
            Case("weight generator", partial(run, generator), "weight generator"),
            Case("weight generator, fused", partial(run, linear), "weight generator"),
        ),
        recorded_calls=RECORDED_CALLS,
    )


def spatial_groups(device: torch.device, quick: bool) -> Iterator[Group]:
    """Make the group of all spatial inputs; the reference is a 64-channel 3x3 conv at stride 4."""
    height, width = (120, 160) if quick else (480, 640)
    weight = torch.randn(64, 64, 3, 3, device=device)
    camera = torch.tensor([[width, width, width / 2, height / 2]], device=device).float()
    up = torch.tensor([[0.1, -0.9, -0.3]], device=device)

    def fresh() -> tuple[Tensor, Tensor]:
        features = torch.randn(1, 64, height // 4, width // 4, device=device)
        coarse = torch.rand(1, 1, 6, 8, device=device)
        depth = nn.functional.interpolate(coarse, (height, width), mode="bilinear") * 4 + 0.5
        depth = depth * (torch.rand_like(depth) > 0.1)
        return depth, features.contiguous(memory_format=torch.channels_last)

    cases = [
        Case(
            "conv 3x3",
            lambda x: nn.functional.conv2d(x[1], weight, padding=1),
            "conv 3x3",
            8 * 64 * (height // 4) * (width // 4) + weight.nbytes,
        ),
        Case("depth", lambda x: spatial_input("depth", x[0]), "conv 3x3"),
        Case("points", lambda x: spatial_input("points", x[0], camera), "conv 3x3"),
        Case("hha", lambda x: spatial_input("hha", x[0], camera), "conv 3x3"),
        Case("hha, up given", lambda x: spatial_input("hha", x[0], camera, up), "conv 3x3"),
    ]
    shape = f"1x1x{height}x{width}"
    yield Group("spatial", shape, fresh, cases, recorded_calls=RECORDED_CALLS)
