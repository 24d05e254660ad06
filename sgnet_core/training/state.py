"""State of a run: everything that changes during training and is needed to resume it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from sgnet_core.models.info import ModelInfo
from sgnet_core.models.labels import class_difference
from sgnet_core.models.sgnet import SGNet
from sgnet_core.training.checkpoint import CheckpointError


@dataclass
class State:
    """Weights, optimizer and counters.

    Random generators need no state: order of the data, augmentation and dropout of an iteration
    depend only on the seed and the iteration number.

    Attributes:
        average: average of the model's weights over time, only on rank 0; None without averaging.
        class_weights: (C,) weights of the loss, on the CPU.
        iteration: number of steps done.
        loss: running average of the loss.
        best_miou: best mIoU of all validations; −1 before the first.
        stale: validations since the best one.
        validated: iteration of the last validation.
        seconds: time of all steps.
    """

    model: SGNet
    average: AveragedModel | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    class_weights: Tensor
    iteration: int = 0
    loss: float = 0.0
    best_miou: float = -1.0
    stale: int = 0
    validated: int = 0
    seconds: float = 0.0

    @property
    def final_model(self) -> SGNet:
        """Network that is validated and saved."""
        model = self.model if self.average is None else self.average.module
        assert isinstance(model, SGNet)
        return model

    def to_dict(self) -> dict[str, Any]:
        """Return tensors and plain values; `restore` reads them back."""
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "class_weights": self.class_weights,
            "info": json.dumps(self.model.info.to_dict()),
            **{name: getattr(self, name) for name in _COUNTERS},
        }

    def restore(self, content: Mapping[str, Any]) -> None:
        """Restore the result of `to_dict`.

        Settings of the optimizer, input height, depth range and hole policy stay as configured.

        Raises:
            CheckpointError: the content belongs to another network, optimizer or label set.
        """
        settings = [
            {key: value for key, value in group.items() if key != "params"}
            for group in self.optimizer.param_groups
        ]
        try:
            info = ModelInfo.from_dict(json.loads(content["info"]))
            others = ("the checkpoint", "the training set")
            if difference := class_difference(info.labels, self.model.info.labels, others):
                raise ValueError(difference)
            self.model.load_state_dict(content["model"])
            if self.average is not None:
                self.average.load_state_dict(content["average"])
            saved = content["optimizer"]
            groups = [g | own for g, own in zip(saved["param_groups"], settings, strict=True)]
            self.optimizer.load_state_dict({**saved, "param_groups": groups})
            if content["scaler"]:  # empty if the precision was not fp16
                self.scaler.load_state_dict(content["scaler"])
            self.class_weights.copy_(content["class_weights"])
            # The weights need the normalization with which they were trained.
            info = replace(self.model.info, normalization=info.normalization)
            self.model.info = self.final_model.info = info
            for name in _COUNTERS:
                setattr(self, name, content.get(name, getattr(self, name)))
        except Exception as error:
            raise CheckpointError(
                f"the checkpoint is not of this configuration ({error}); train into a new "
                "--output folder, or with the config.yaml of this one"
            ) from error


_COUNTERS = ("iteration", "loss", "best_miou", "stale", "validated", "seconds")
