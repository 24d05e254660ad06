"""Optimizer: its steps and its cooperation with the gradient scaler."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.utils.deterministic
from torch.utils._python_dispatch import TorchDispatchMode

from sgnet_core.models.sgnet import SGNet, create_model
from sgnet_core.training.config import TrainConfig
from sgnet_core.training.optimization import make_optimizer


class ReadValues(TorchDispatchMode):
    """Counts the values that Python reads from tensors; on a GPU, each would wait for it."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def network(optimizer: str, **values: Any) -> tuple[SGNet, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = create_model("sgnet_lite", 5)
    config = TrainConfig("rooms:1", "rooms:2:2", optimizer=optimizer, **values)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return model, make_optimizer(model, config)


@pytest.mark.parametrize(("optimizer", "lr"), [("adamw", 1e-3), ("sgd", 1e-2)])
def test_a_step_follows_the_definition(optimizer: str, lr: float) -> None:
    model, stepper = network(optimizer, lr=lr, weight_decay=0.1)
    before = {name: p.detach().double() for name, p in model.named_parameters()}
    stepper.step()
    for name, p in model.named_parameters():
        assert p.grad is not None
        gradient, decay = p.grad.double(), 0.1 * (p.ndim > 1)
        if optimizer == "sgd":
            expected = before[name] - lr * (gradient + decay * before[name])
        else:  # the first moments are the gradient and its square, once corrected for their bias
            expected = (1 - lr * decay) * before[name] - lr * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(p.detach().double(), expected, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_scaled_step_reads_no_value_and_an_overflow_changes_nothing(optimizer: str) -> None:
    model, stepper = network(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(torch.zeros(()))  # makes its tensors
    for overflow in (False, True):
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        if overflow:
            next(iter(model.parameters())).grad[0, 0, 0, 0] = torch.inf  # type: ignore[index]
        with ReadValues() as read:
            scaler.unscale_(stepper)
            scaler.step(stepper)
            scaler.update()
        assert read.count == 0
        changed = [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
        assert len(changed) == (0 if overflow else len(before))
    assert scaler.get_scale() == 2.0


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_after_an_overflow_the_first_step_is_still_the_first(
    optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)  # with NaN
    torch.use_deterministic_algorithms(True)
    try:
        networks = []
        for overflow in (True, False):
            model, stepper = network(optimizer)
            scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
            scaler.scale(torch.zeros(()))
            for factor in (torch.inf, 1.0)[not overflow :]:
                for parameter in model.parameters():
                    parameter.grad = torch.full_like(parameter, factor)
                scaler.unscale_(stepper)
                scaler.step(stepper)
                scaler.update(1.0)
            networks.append(model.state_dict())
    finally:
        torch.use_deterministic_algorithms(False)
    for name, expected in networks[1].items():
        assert torch.equal(networks[0][name], expected), name
