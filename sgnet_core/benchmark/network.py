"""Suites ``network`` and ``training``: SGNets against plain baselines and torchvision's operator.

All weights are random.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sgnet_core.benchmark.measure import Case, Group
from sgnet_core.benchmark.operator import TORCHVISION
from sgnet_core.benchmark.runners import random_inputs, random_model
from sgnet_core.inference.onnx_backend import OnnxNetwork
from sgnet_core.inference.onnx_export import ExportError, export
from sgnet_core.models.fusion import fuse
from sgnet_core.models.precision import cast, multiplies_bf16
from sgnet_core.models.sgnet import SGNet
from sgnet_core.ops.deform import force_implementation

SIZES = ((240, 320), (480, 640))

Inputs = tuple[Tensor, Tensor]
"""Image and depth."""


def network_groups(device: torch.device, quick: bool) -> Iterator[Group]:
    """Make groups of `sgnet_lite` and SGNet-R101 in all forms, and of other networks when fused."""
    cuda = device.type == "cuda"
    if quick:
        yield BaselinePair("lite", device).group(1, 64, 96)
        return
    sizes = (*SIZES, (720, 1280)) if cuda else SIZES
    for batches in ((1,), (4, 16)) if cuda else ((1,),):  # single frames matter most
        for name in ("lite", "r101"):
            pair = BaselinePair(name, device)
            if not cuda:
                pair.export()
            for size in sizes:
                for batch in batches:
                    yield pair.group(batch, *size)
            if name == "lite" and not cuda:  # a third size, for a curve
                yield pair.group(1, 120, 160)
    for name in ("r18", "r34", "r50", "r101_aspp"):
        yield BaselinePair(name, device).group(
            1, *(SIZES[1] if cuda else SIZES[0]), fused_only=True
        )


class BaselinePair:
    """An SGNet and the plain network of the same shape, in every form that runs on the device.

    Args:
        name: variant without the prefix ``sgnet_``.
        device: device; on a GPU the networks run in float16, as in `Segmenter`.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.sgnet, self.plain = f"sgnet_{name}", f"plain_{name}"
        self._device = device
        self._dtype = torch.float16 if device.type == "cuda" else torch.float32
        names = (self.plain, self.sgnet)
        models = {key: random_model(key, device) for key in names}
        self._fused = {key: cast(fuse(model), self._dtype) for key, model in models.items()}
        self._models = {key: cast(model, self._dtype) for key, model in models.items()}
        self._exported: dict[str, OnnxNetwork] = {}

    def export(self) -> None:
        """Export both networks for ONNX Runtime; print the reason if that fails."""
        with tempfile.TemporaryDirectory() as folder:
            for key, model in self._models.items():
                path = Path(folder) / f"{key}.onnx"
                try:
                    export(model, path)
                except ExportError as error:
                    print(f"without ONNX: {error}", file=sys.stderr)
                    self._exported.clear()
                    return
                self._exported[key] = OnnxNetwork(path)

    def group(self, batch: int, height: int, width: int, fused_only: bool = False) -> Group:
        """Make the cases at one size."""

        def fresh() -> Inputs:
            return random_inputs((batch, height, width), self._device, self._dtype)

        def case(name: str, run: Callable[[Inputs], object], to: str, traffic: int = 0) -> Case:
            return Case(name, run, to, traffic, str(self._dtype).removeprefix("torch."))

        def run(model: SGNet) -> Callable[[Inputs], object]:
            return lambda inputs: model(*inputs)

        def with_torchvision(inputs: Inputs) -> object:
            with force_implementation("torchvision"):
                return eager(*inputs)

        eager, sgnet, plain = self._models[self.sgnet], self.sgnet, self.plain
        fused, fused_plain = self._fused[sgnet], self._fused[plain]
        ours, baseline = f"{sgnet}, fused", f"{plain}, fused"
        cases = [
            case(baseline, run(fused_plain), baseline, _traffic(fused_plain)),
            case(ours, run(fused), baseline, _traffic(fused)),
        ]
        if not fused_only:
            cases.append(case(f"{sgnet}, eager", run(eager), ours))
            cases.append(case(f"{sgnet}, {TORCHVISION}", with_torchvision, ours))
        if not fused_only and multiplies_bf16(self._device):
            half = partial(_run_bf16, cast(fuse(eager), torch.bfloat16))
            cases.append(Case(f"{sgnet}, bf16", half, f"{sgnet}, {TORCHVISION}", dtype="bfloat16"))
        for key, network in self._exported.items():
            cases.append(case(f"{key}, onnx", partial(_run_exported, network), f"{plain}, onnx"))
        shape = f"{batch}x3x{height}x{width}"
        return Group("network", shape, fresh, cases, recorded_calls=1)


def _traffic(model: nn.Module) -> int:
    """Return the bytes of the weights, which every frame has to read."""
    return sum(p.nbytes for p in model.parameters())


def _run_bf16(network: SGNet, inputs: Inputs) -> object:
    return network(inputs[0].bfloat16(), inputs[1])


def _run_exported(network: OnnxNetwork, inputs: Inputs) -> object:
    return network.logits(inputs[0].to(torch.uint8), inputs[1])


def training_groups(device: torch.device, quick: bool) -> Iterator[Group]:
    """Make the group of a training step: forward, loss, backward, update of the weights."""
    # These imports need the extra "train".
    from sgnet_core.data.loading import Batch
    from sgnet_core.training.config import TrainConfig
    from sgnet_core.training.objective import Objective
    from sgnet_core.training.optimization import make_optimizer

    config = TrainConfig(size=(64, 96) if quick else (240, 320), batch=2 if quick else 4)
    classes = 40

    def fresh() -> Batch:
        shape = (config.batch, *config.size)
        return Batch(
            rgb=torch.randint(256, (config.batch, 3, *config.size), dtype=torch.uint8),
            depth=5 * torch.rand(config.batch, 1, *config.size),
            labels=torch.randint(classes, shape),
            intrinsics=torch.ones(config.batch, 4),
        ).to(device)

    def stepper() -> Callable[[Batch], Tensor]:
        model = random_model("sgnet_lite", device).train().requires_grad_(True)
        objective = Objective(model, torch.ones(classes), config)
        optimizer = make_optimizer(model, config)

        def step(batch: Batch) -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            loss: Tensor = objective(batch, objective.weight(batch))
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step

    ours, theirs = stepper(), stepper()

    def with_torchvision(batch: Any) -> Tensor:
        with force_implementation("torchvision"):
            return theirs(batch)

    reference = f"sgnet_lite, {TORCHVISION}"
    cases = (Case(reference, with_torchvision, reference), Case("sgnet_lite", ours, reference))
    shape = f"{config.batch}x3x{config.size[0]}x{config.size[1]}"
    yield Group("training", shape, fresh, cases, training=True)
