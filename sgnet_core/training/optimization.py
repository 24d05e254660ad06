"""Optimizer, learning-rate schedule, average of the weights, and frozen batch norms."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from sgnet_core.models.dcn import DCNv2
from sgnet_core.models.sconv import Projector, SConv2d, WeightGenerator
from sgnet_core.models.sgnet import SGNet
from sgnet_core.training.config import TrainConfig

BatchNorm = nn.BatchNorm2d | nn.SyncBatchNorm


def make_optimizer(model: SGNet, config: TrainConfig) -> torch.optim.Optimizer:
    """Return AdamW or SGD; norms and biases are not decayed.

    Each group of parameters has an ``lr_factor``, by which its learning rate is multiplied. The
    fused implementations read the gradient scaler's verdict on the device, so that a step with
    precision fp16 does not wait for it.
    """
    guidance = {id(p) for module in guidance_modules(model) for p in module.parameters()}
    trunk = {id(p) for p in model.trunk.parameters()} - guidance
    parts: dict[float, list[nn.Parameter]] = {1.0: []}
    for parameter in model.parameters():
        if parameter.requires_grad:
            factor = 1.0
            if id(parameter) in guidance:
                factor = config.guidance_lr
            elif id(parameter) in trunk:
                factor = config.trunk_lr
            parts.setdefault(factor, []).append(parameter)
    groups: list[dict[str, Any]] = []
    for factor, parameters in parts.items():
        kernels = [p for p in parameters if p.ndim > 1]
        others = [p for p in parameters if p.ndim <= 1]
        for chosen, decay in ((kernels, config.weight_decay), (others, 0.0)):
            groups.append({"params": chosen, "weight_decay": decay, "lr_factor": factor})
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, fused=True)
    sgd = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=True)
    if config.momentum:
        # The first fused step makes its buffers without a value, and leaves them so if the scaler
        # lets it skip.
        for parameter in (p for group in groups for p in group["params"]):
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def guidance_modules(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the projectors and generators of S-Convs, and the generators of DCNv2."""
    for module in model.modules():
        if isinstance(module, Projector | WeightGenerator):
            yield module
        elif isinstance(module, SConv2d) and module.offset_generator is not None:
            yield module.offset_generator
        elif isinstance(module, DCNv2):
            yield module.generator


@torch.no_grad()
def update_average(average: AveragedModel, model: nn.Module, decay: float) -> None:
    """Update an exponential average of a model's weights and batch statistics.

    The decay of the n-th update is at most (1 + n)/(10 + n). With a constant decay of 0.998, the
    initial weights would still make up two thirds of the average after 200 iterations. Unlike
    `AveragedModel.update_parameters`, this does not wait for a GPU.

    Args:
        average: average so far; its counter is on the CPU.
        model: the model.
        decay: greatest decay, 0..1.
    """
    n = int(average.n_averaged)
    decay = min(decay, (1 + n) / (10 + n)) if n else 0.0
    averages: list[Tensor] = []
    currents: list[Tensor] = []
    for ours, theirs in (
        *zip(average.module.parameters(), model.parameters(), strict=True),
        *zip(average.module.buffers(), model.buffers(), strict=True),
    ):
        if ours.is_floating_point():
            averages.append(ours.detach())
            currents.append(theirs.detach())
        else:  # a counter of batches
            ours.copy_(theirs)
    torch._foreach_lerp_(averages, currents, 1 - decay)
    average.n_averaged += 1


def learning_rate(config: TrainConfig, iteration: int) -> float:
    """Return the learning rate: linear warm-up, then polynomial (0.9) or cosine decay to 0."""
    if iteration < config.warmup:
        return config.lr * (iteration + 1) / config.warmup
    progress = (iteration - config.warmup) / max(1, config.iterations - config.warmup)
    progress = min(progress, 1.0)
    if config.schedule == "poly":
        return float(config.lr * (1 - progress) ** 0.9)
    return float(config.lr * (1 + math.cos(math.pi * progress)) / 2)


def frozen_norms(model: SGNet, which: str) -> list[nn.Module]:
    """Return the batch norms that keep their statistics and factors.

    Args:
        which: "none", "trunk" (without those of the S-Convs' projectors) or "all".
    """
    if which == "none":
        return []
    norms = [m for m in model.modules() if isinstance(m, BatchNorm)]
    if which == "trunk":
        guidance = {id(m) for part in guidance_modules(model) for m in part.modules()}
        trunk = {id(m) for m in model.trunk.modules()} - guidance
        norms = [norm for norm in norms if id(norm) in trunk]
    return list(norms)
