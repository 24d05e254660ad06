"""Fusion: the same scores, from a copy."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sgnet_core import SGNet, create_model
from sgnet_core.models.fusion import LinearWeightGenerator, fuse
from sgnet_core.models.sconv import WeightGenerator
from sgnet_core.ops.gather import find_taps
from small_segmenter import randomize


def trained(name: str, **overrides: object) -> SGNet:
    """A network whose norms, offsets and biases are off their initial values."""
    torch.manual_seed(3)
    model = create_model(name, num_classes=7, **overrides)
    randomize(model)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.out_channels in (18, 27):
            nn.init.normal_(module.weight, std=0.05)
    return model.eval()


@torch.inference_mode()
def scores(model: SGNet, image: Tensor, depth: Tensor) -> Tensor:
    return model(image, None if model.config.spatial in ("none", "features") else depth).logits


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("sgnet_lite", {}),
        ("plain_lite", {}),
        ("sgnet_r50", {"head": "aspp"}),
        ("sgnet_r18", {"masks": False}),
        ("sgnet_r18", {"offsets": False, "projector": False}),
        ("sgnet_r18", {"spatial": "features"}),
        ("sgnet_r18", {"spatial": "features", "operator": "dcnv2"}),
    ],
)
def test_fused_scores_are_the_networks_own(name: str, overrides: dict[str, object]) -> None:
    model = trained(name, **overrides)
    image, depth = torch.randn(2, 3, 50, 67), 4 * torch.rand(2, 1, 50, 67)
    expected = scores(model, image, depth)
    fused = fuse(model)
    assert expected.std() > 0.01
    torch.testing.assert_close(scores(fused, image, depth), expected, atol=1e-4, rtol=1e-4)
    assert not any(isinstance(m, nn.BatchNorm2d | WeightGenerator) for m in fused.modules())


def test_the_model_itself_stays_as_it_is() -> None:
    model = trained("sgnet_lite").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fused = fuse(model)
    for parameter in fused.parameters():
        parameter.add_(1)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert not fused.training


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(7, 9), (8, 6), (1, 5)])
def test_the_weight_generator_is_linear(stride: int, size: tuple[int, int]) -> None:
    """Both ways of sampling equal the two layers, with positions far outside the map too."""
    torch.manual_seed(0)
    generator = WeightGenerator(64, stride)
    nn.init.normal_(generator.to_mask.weight, std=0.3)
    h, w = ((n - 1) // stride + 1 for n in size)
    projected, offset = torch.randn(2, 64, *size), 3 * torch.randn(2, 18, h, w)
    with torch.inference_mode():
        expected = generator(projected, offset, None)
        linear = LinearWeightGenerator(generator)
        assert expected.std() > 0.02
        for taps in (None, find_taps(offset, size, stride)):
            found = linear(projected, offset, taps)
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
