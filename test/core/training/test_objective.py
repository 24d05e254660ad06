"""The loss: that of the whole batch, however it is cut; weighted and smoothed as in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from fake_gpu import HostTraffic, move_to_fake_gpu
from sgnet_core.data.loading import Batch
from sgnet_core.models.labels import generic_label_set
from sgnet_core.models.sgnet import SGNet
from sgnet_core.ops.resize import resize_maps
from sgnet_core.training.config import TrainConfig
from sgnet_core.training.initialization import build_model
from sgnet_core.training.objective import Objective, class_weights, on_grid

WEIGHTS = torch.tensor([0.4, 1.7, 3.0])


def config_with(tiny: dict[str, Any], **values: Any) -> TrainConfig:
    return TrainConfig(**{**tiny, "augment": {}, **values})


def random_batch(seed: int = 0, frames: int = 4) -> Batch:
    """Labels whose classes and ignored pixels are spread unevenly over the frames."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 2, 255], (frames, 32, 48), p=[0.6, 0.1, 0.1, 0.2])
    labels[0] = np.where(labels[0] == 0, 255, labels[0])
    return Batch(
        torch.from_numpy(rng.integers(0, 256, (frames, 3, 32, 48), np.uint8)),
        torch.from_numpy(rng.uniform(0.5, 4, (frames, 1, 32, 48)).astype(np.float32)),
        torch.from_numpy(labels),
        torch.tensor([[40.0, 40.0, 24.0, 16.0]]).repeat(frames, 1),
    )


def pieces(batch: Batch, sizes: tuple[int, ...]) -> list[Batch]:
    split = {key: value.split(sizes) for key, value in vars(batch).items()}
    return [Batch(**{key: parts[i] for key, parts in split.items()}) for i in range(len(sizes))]


def network(config: TrainConfig) -> SGNet:
    torch.manual_seed(0)
    return build_model(config, generic_label_set(3))[0].eval()


@pytest.mark.parametrize("spatial", ["depth", "hha"])
def test_loss_and_clipping_neither_wait_for_a_gpu_nor_copy_from_the_host(
    tiny: dict[str, Any], spatial: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sgnet_core.ops.triton_support.fused_runs_on", lambda *_, **__: False)
    config = config_with(tiny, architecture={"spatial": spatial}, label_stride=2)
    model = network(config).train()
    with FakeTensorMode(), torch.device("cuda"):
        move_to_fake_gpu(model)
        objective = Objective(model, torch.empty(3, device="cpu"), config)
        batch = Batch(
            torch.empty(4, 3, 32, 48, dtype=torch.uint8),
            torch.empty(4, 1, 32, 48),
            torch.empty(4, 32, 48, dtype=torch.long),
            torch.empty(4, 4),
        )
        for parameter in model.parameters():
            parameter.grad = torch.empty(parameter.shape)
        with HostTraffic() as traffic:
            loss = objective(batch, 100.0)
            size = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
            torch.nn.utils.clip_grads_with_norm_(model.parameters(), 5.0, size)
    assert loss.is_cuda and size.is_cuda
    assert traffic.operators == []


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_loss_is_pytorchs_weighted_mean(
    tiny: dict[str, Any], smoothing: float, stride: int
) -> None:
    config = config_with(tiny, label_smoothing=smoothing, label_stride=stride)
    model, batch = network(config), random_batch()
    objective = Objective(model, WEIGHTS, config)
    loss = objective(batch, objective.weight(batch))
    labels = on_grid(batch.labels, stride)
    scores = resize_maps(
        model(model.info.normalization(batch.rgb), batch.depth).logits, labels.shape[1:]
    )
    expected = F.cross_entropy(scores, labels, WEIGHTS, ignore_index=255, label_smoothing=smoothing)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("size", [(32, 48), (33, 47), (240, 320), (7, 1)])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_labels_of_a_coarser_grid_lie_where_the_scores_are_taken(
    size: tuple[int, int], stride: int
) -> None:
    """A score that says where it is, from corner to corner, meets labels that do the same."""
    height, width = size
    places = torch.arange(height)[:, None] * 1000 + torch.arange(width)
    found = on_grid(places[None], stride)[0]
    assert found.shape == (-(-height // stride), -(-width // stride))
    for axis, pixels in ((0, found[:, 0] // 1000), (1, found[0] % 1000)):
        ramp = torch.linspace(0, size[axis] - 1, min(4, size[axis]))[None, None, :, None]
        scores = resize_maps(ramp, (len(pixels), 1)).flatten()
        off = scores - pixels
        assert off.abs().max() <= 0.5 + 1e-4 and off.mean().abs() < 0.05


@pytest.mark.parametrize("sizes", [(2, 2), (1, 3), (1, 1, 1, 1)])
def test_pieces_add_up_to_the_whole_batch(tiny: dict[str, Any], sizes: tuple[int, ...]) -> None:
    config = config_with(tiny, model="sgnet_r18", label_stride=1, label_smoothing=0.1)
    model = network(config)
    model.aux_head.train()  # type: ignore[union-attr]
    model.training = True  # the auxiliary loss, with norms and dropout at rest
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout2d | torch.nn.BatchNorm2d):
            module.eval()
    objective, batch = Objective(model, WEIGHTS, config), random_batch()

    def gradients(parts: list[Batch]) -> tuple[float, list[torch.Tensor]]:
        model.zero_grad()
        weight = sum(objective.weight(part) for part in parts)
        total = 0.0
        for part in parts:
            loss = objective(part, weight)
            loss.backward()
            total += loss.item()
        return total, [p.grad.clone() for p in model.parameters() if p.grad is not None]

    whole, expected = gradients([batch])
    cut, found = gradients(pieces(batch, sizes))
    assert cut == pytest.approx(whole, rel=1e-5)
    assert len(found) == len(expected) > 50
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    naive = np.mean([objective(p, objective.weight(p)).item() for p in pieces(batch, sizes)])
    assert abs(naive - whole) > 1e-3, "the mean of the pieces' means is another number"


def test_a_batch_without_a_label_has_no_loss_and_no_gradient(tiny: dict[str, Any]) -> None:
    config = config_with(tiny)
    model, batch = network(config), random_batch()
    batch.labels.fill_(255)
    objective = Objective(model, WEIGHTS, config)
    assert objective.weight(batch) == 0
    loss = objective(batch, 0.0)
    loss.backward()
    assert loss.item() == 0
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)


def test_bf16_computes_nearly_the_same(tiny: dict[str, Any]) -> None:
    full, half = config_with(tiny), config_with(tiny, precision="bf16")
    batch, model = random_batch(), network(full)
    for norm in model.modules():  # offsets that matter
        if isinstance(norm, torch.nn.Conv2d) and norm.out_channels == 18:
            torch.nn.init.normal_(norm.weight, std=0.02)
    losses = [Objective(model, WEIGHTS, c)(batch, 1.0) for c in (full, half)]
    assert losses[1].dtype == torch.float32
    assert losses[1].item() != losses[0].item()
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.02)
    losses[1].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_class_weights_balance_rare_classes() -> None:
    class Two:
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int, /):  # type: ignore[no-untyped-def]
            labels = np.zeros((10, 10), np.uint8)
            labels[0] = 1  # 10 % of the labeled pixels, but for one row that is ignored
            labels[1] = 255
            return type("S", (), {"labels": labels})

    weights = class_weights(Two(), 3, 0.5)  # type: ignore[arg-type]
    frequency = torch.tensor([80 / 90, 10 / 90])
    assert weights[1] / weights[0] == pytest.approx(float((frequency[0] / frequency[1]) ** 0.5))
    assert float((weights[:2] * frequency).sum()) == pytest.approx(1.0)
    assert weights[2] == 1.0
    assert torch.equal(class_weights(Two(), 3, 0.0), torch.ones(3))  # type: ignore[arg-type]


@pytest.mark.parametrize("balance", [0.0, 0.5])
def test_a_training_set_without_labels_is_refused(balance: float) -> None:
    class Blank:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int, /):  # type: ignore[no-untyped-def]
            return type("S", (), {"labels": np.full((4, 4), 255, np.uint8)})

    with pytest.raises(ValueError, match="no pixel of the 3 sampled training frames is labeled"):
        class_weights(Blank(), 3, balance)  # type: ignore[arg-type]
