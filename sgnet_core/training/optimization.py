"""The optimiser, its learning rate over time, the average of the weights, which norms learn."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from sgnet_core.models.sconv import SConv2d
from sgnet_core.models.sgnet import SGNet
from sgnet_core.training.config import TrainConfig

BatchNorm = nn.BatchNorm2d | nn.SyncBatchNorm


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW or SGD; norms and biases are not decayed.

    Groups of parameters have a ``lr_factor``, by which the learning rate is multiplied for them.
    """
    parts: dict[float, list[nn.Parameter]] = {1.0: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            if guides(name):
                factor = config.guidance_lr
            else:
                factor = config.trunk_lr if name.startswith("trunk.") else 1.0
            parts.setdefault(factor, []).append(parameter)
    groups: list[dict[str, Any]] = []
    for factor, parameters in parts.items():
        kernels = [p for p in parameters if p.ndim > 1]
        others = [p for p in parameters if p.ndim <= 1]
        for chosen, decay in ((kernels, config.weight_decay), (others, 0.0)):
            groups.append({"params": chosen, "weight_decay": decay, "lr_factor": factor})
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    return torch.optim.AdamW(groups, lr=config.lr)


def guides(name: str) -> bool:
    """Whether the parameter of that name belongs to the projector or a generator of an S-Conv."""
    return any(part in name for part in ("projector", "generator"))


def averaging(decay: float) -> Callable[..., None]:
    """The rule by which `AveragedModel` keeps an exponential average of the weights.

    Over few weights at first: the decay of the n-th is (1 + n)/(10 + n) if that is less. Otherwise
    the ones that a run starts with would still be two thirds of the average after 200 iterations.
    """

    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        n = int(count)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averaged, current, count)

    return update


def learning_rate(config: TrainConfig, iteration: int) -> float:
    """Linear warm-up, then polynomial (power 0.9) or cosine decay to 0."""
    if iteration < config.warmup:
        return config.lr * (iteration + 1) / config.warmup
    progress = (iteration - config.warmup) / max(1, config.iterations - config.warmup)
    progress = min(progress, 1.0)
    if config.schedule == "poly":
        return float(config.lr * (1 - progress) ** 0.9)
    return float(config.lr * (1 + math.cos(math.pi * progress)) / 2)


def frozen_norms(model: SGNet, which: str) -> list[nn.Module]:
    """The batch norms that keep their statistics and factors.

    Args:
        which: "none", "trunk" (without those of the S-Convs' projectors) or "all".
    """
    if which == "none":
        return []
    norms = [m for m in model.modules() if isinstance(m, BatchNorm)]
    if which == "trunk":
        sconvs = [m for m in model.modules() if isinstance(m, SConv2d)]
        guiding = {id(m) for sconv in sconvs for m in sconv.modules()}
        trunk = {id(m) for m in model.trunk.modules()} - guiding
        norms = [norm for norm in norms if id(norm) in trunk]
    return list(norms)
