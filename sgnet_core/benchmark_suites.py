"""What the benchmark measures: every group of cases, by suite."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torchvision.ops
from torch import Tensor, nn

from sgnet_core.deform import deform_conv2d, find_taps
from sgnet_core.export import ExportError, export
from sgnet_core.fusion import LinearWeightGenerator, fuse
from sgnet_core.network import SGNet, create_model
from sgnet_core.onnx_backend import OnnxNetwork
from sgnet_core.sconv import POSITIONS, PROJECTED_CHANNELS, SConv2d, WeightGenerator
from sgnet_core.segmenter import Segmenter
from sgnet_core.spatial import spatial_input


@dataclass(frozen=True)
class Case:
    """One way to do something.

    Attributes:
        name: unique in its group.
        run: does it, on what the group's ``fresh`` returned.
        reference: the case of the group it is compared with; itself for a reference.
        bytes: that must be read and written at least: weights, inputs, outputs; 0 if unknown.
    """

    name: str
    run: Callable[[Any], object]
    reference: str
    bytes: int = 0


@dataclass(frozen=True)
class Group:
    """Cases that do the same on the same inputs.

    Attributes:
        suite: they belong to.
        shape: of the input, e.g. "1x3x240x320".
        fresh: makes new inputs.
        cases: to be measured in turns.
    """

    suite: str
    shape: str
    fresh: Callable[[], Any]
    cases: Sequence[Case]


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

TORCHVISION = "torchvision.ops.deform_conv2d"


def operator_groups(device: torch.device, quick: bool) -> Iterator[Group]:
    """Deformable convolution and weight generator at every shape of SGNet-R101."""
    for channels, height, width, stride in QUICK_SHAPES if quick else SCONV_SHAPES:
        yield _deformable(channels, height, width, stride, device)
    yield _weight_generator(*((15, 20) if quick else (120, 160)), device)


def _deformable(channels: int, height: int, width: int, stride: int, device: torch.device) -> Group:
    weight = torch.randn(channels, channels, 3, 3, device=device)
    h, w = height // stride, width // stride

    def fresh() -> tuple[Tensor, Tensor, Tensor]:
        x = torch.randn(1, channels, height, width, device=device)
        offset = torch.randn(1, 2 * POSITIONS, h, w, device=device)
        mask = torch.rand(1, POSITIONS, h, w, device=device)
        return x.contiguous(memory_format=torch.channels_last), offset, mask

    def theirs(inputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        x, offset, mask = inputs
        return torchvision.ops.deform_conv2d(x, offset, weight, None, stride, 1, mask=mask)

    def ours(inputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        x, offset, mask = inputs
        return deform_conv2d(x, offset, weight, mask, stride=stride)

    def plain(inputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return nn.functional.conv2d(inputs[0], weight, stride=stride, padding=1)

    values = channels * height * width + channels * h * w + weight.numel()
    guided = 4 * (values + 3 * POSITIONS * h * w)
    return Group(
        "operator",
        f"1x{channels}x{height}x{width}/{stride}",
        fresh,
        (
            Case(TORCHVISION, theirs, TORCHVISION),
            Case("deform_conv2d", ours, TORCHVISION, guided),
            Case("conv2d", plain, TORCHVISION, 4 * values),
        ),
    )


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
            Case("weight generator", lambda inputs: run(generator, inputs), "weight generator"),
            Case("weight generator, fused", lambda x: run(linear, x), "weight generator"),
        ),
    )


def network_groups(device: torch.device, quick: bool) -> Iterator[Group]:
    """SGNets beside their plain twins, and beside the plain ways of running them."""
    runs = [("lite", 64, 96)] if quick else [("lite", 240, 320), ("lite", 480, 640)]
    if not quick:
        runs += [("r18", 240, 320), ("r101", 480, 640)]
    exported = {} if quick or device.type != "cpu" else _exported("lite")
    for name, height, width in runs:
        yield _network(name, height, width, device, exported if name == "lite" else {})


def _network(
    name: str, height: int, width: int, device: torch.device, exported: Mapping[str, OnnxNetwork]
) -> Group:
    guided, plain = random_model(f"sgnet_{name}", device), random_model(f"plain_{name}", device)

    def fresh() -> tuple[Tensor, Tensor]:
        image = torch.randn(1, 3, height, width, device=device)
        depth = 5 * torch.rand(1, 1, height, width, device=device)
        return image.contiguous(memory_format=torch.channels_last), depth

    def with_torchvision(inputs: tuple[Tensor, Tensor]) -> object:
        with (
            mock.patch("sgnet_core.sconv.uses_gather", lambda x: False),
            mock.patch("sgnet_core.deform.uses_gather", lambda x: False),
        ):
            return guided(*inputs)

    def runtime(network: OnnxNetwork) -> Callable[[tuple[Tensor, Tensor]], object]:
        return lambda inputs: network.logits(inputs[0].to(torch.uint8), inputs[1])

    sgnet, twin = f"sgnet_{name}", f"plain_{name}"
    fused, fused_twin = fuse(guided), fuse(plain)
    eager = f"{sgnet}, {TORCHVISION}"
    cases = [
        Case(eager, with_torchvision, eager),
        Case(f"{sgnet}, eager", lambda inputs: guided(*inputs), eager),
        Case(f"{twin}, fused", lambda x: fused_twin(x[0]), f"{twin}, fused", _traffic(plain)),
        Case(f"{sgnet}, fused", lambda x: fused(*x), f"{twin}, fused", _traffic(guided)),
    ]
    for key, network in exported.items():
        cases.append(Case(f"{key}, onnx", runtime(network), f"{twin}, onnx"))
    return Group("network", f"1x3x{height}x{width}", fresh, cases)


def segmenter_groups(device: torch.device, quick: bool) -> Iterator[Group]:
    """Numpy frames in, numpy labels out, with every backend there is."""
    sizes = [(64, 96)] if quick else [(240, 320), (480, 640)]
    model = random_model("sgnet_lite", device)
    eager, fused = Segmenter(model, device, "fp32"), Segmenter(model, device, "fp32")
    eager.model = model
    segmenters = {"sgnet_lite, eager": eager, "sgnet_lite, torch": fused}
    with tempfile.TemporaryDirectory() as folder:
        if not quick and device.type == "cpu":
            path = Path(folder) / "sgnet_lite.onnx"
            if _try_export(model, path):
                segmenters["sgnet_lite, onnx"] = Segmenter(path)
    for height, width in sizes:
        yield _segmenter(segmenters, height, width)


def _segmenter(segmenters: Mapping[str, Segmenter], height: int, width: int) -> Group:
    def fresh() -> tuple[Any, Any]:
        coarse = torch.rand(1, 4, height // 16, width // 16)
        smooth = nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)[0]
        rgb = (smooth[:3].permute(1, 2, 0) * 255).to(torch.uint8)
        return rgb.contiguous().numpy(), (5 * smooth[3]).contiguous().numpy()

    def labels(segmenter: Segmenter) -> Callable[[tuple[Any, Any]], object]:
        return lambda frame: segmenter.segment(*frame).labels

    cases = [
        Case(name, labels(segmenter), "sgnet_lite, eager") for name, segmenter in segmenters.items()
    ]
    return Group("segmenter", f"{height}x{width}", fresh, cases)


def spatial_groups(device: torch.device, quick: bool) -> Iterator[Group]:
    """Depth, 3D coordinates and HHA beside a plain 3x3 convolution of 64 channels at stride 4."""
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
    yield Group("spatial", f"1x1x{height}x{width}", fresh, cases)


SUITES: dict[str, Callable[[torch.device, bool], Iterator[Group]]] = {
    "operator": operator_groups,
    "network": network_groups,
    "segmenter": segmenter_groups,
    "spatial": spatial_groups,
}


def random_model(name: str, device: torch.device) -> SGNet:
    """A variant with random weights, its offsets not 0, as after training."""
    model = create_model(name).eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, SConv2d) and module.offset_generator is not None:
            nn.init.normal_(module.offset_generator.weight, std=0.05)
    return model.to(device).to(memory_format=torch.channels_last)


def _traffic(model: nn.Module) -> int:
    """Bytes of the weights: what a frame costs at least."""
    return sum(p.nbytes for p in model.parameters())


def _exported(name: str) -> dict[str, OnnxNetwork]:
    """The exported twins, or nothing where they cannot be had."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for key in (f"plain_{name}", f"sgnet_{name}"):
            path = Path(folder) / f"{key}.onnx"
            if not _try_export(random_model(key, torch.device("cpu")), path):
                return {}
            found[key] = OnnxNetwork(path)
    return found


def _try_export(model: SGNet, path: Path) -> bool:
    try:
        export(model, path)
    except ExportError as error:
        print(f"without ONNX: {error}", file=sys.stderr)
        return False
    return True
