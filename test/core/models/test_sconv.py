"""S-Conv: the published operator, guided by geometry and trained through it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.ops

from sgnet_core import SConv2d
from sgnet_core.models.sconv import Projector
from sgnet_core.ops.resize import resize_maps


def perturbed(conv: SConv2d) -> SConv2d:
    """Generators start at zero: give them something to say."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in conv.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return conv


def test_parameters_added_are_the_published_count() -> None:
    plain = 64 * 64 * 9
    count = sum(p.numel() for p in SConv2d(64, 64, 1).parameters())
    assert count - plain == 122_715
    assert sum(p.numel() for p in Projector(1).parameters()) == 74_880


def test_at_initialization_it_is_a_modulated_convolution_on_the_regular_grid() -> None:
    torch.manual_seed(0)
    conv = SConv2d(4, 5, 1).eval()
    x, s = torch.randn(2, 4, 6, 7), torch.rand(2, 1, 24, 28)
    guidance = conv.guide(resize_maps(s, (6, 7)))
    assert torch.equal(guidance.offset, torch.zeros_like(guidance.offset))
    assert guidance.mask is not None
    columns = F.unfold(x, 3, padding=1).view(2, 4, 9, 6, 7) * guidance.mask[:, None]
    expected = torch.einsum("bckhw,ock->bohw", columns, conv.weight.flatten(2))
    torch.testing.assert_close(conv(x, s), expected, rtol=1e-4, atol=1e-5)


def test_autocast_leaves_the_depth_as_it_is() -> None:
    torch.manual_seed(0)
    projector = Projector(1).eval()
    depth = torch.full((1, 1, 6, 6), 6.01)  # as bfloat16 it would be 6
    seen: list[torch.Tensor] = []
    projector[0].register_forward_hook(lambda module, inputs, result: seen.append(result))
    exact = projector(depth).detach()
    with torch.autocast("cpu", torch.bfloat16):
        projected = projector(depth)
        assert torch.is_autocast_enabled("cpu")
    assert torch.equal(seen[0], seen[1])
    assert projected.dtype == torch.bfloat16
    torch.testing.assert_close(projected.float(), exact, atol=0.02 * exact.max().item(), rtol=0)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_equals_the_definition_step_by_step(stride: int, channels: int) -> None:
    torch.manual_seed(1)
    conv = perturbed(SConv2d(4, 6, channels, stride, bias=True).double()).eval()
    x = torch.randn(2, 4, 9, 11, dtype=torch.float64)
    s = torch.rand(2, channels, 33, 41, dtype=torch.float64)
    assert conv.projector is not None and conv.offset_generator is not None
    assert conv.weight_generator is not None
    projected = conv.projector(F.interpolate(s, size=(9, 11), mode="bilinear", align_corners=True))
    offset = conv.offset_generator(projected)
    gathered = torchvision.ops.deform_conv2d(
        projected, offset, conv.weight_generator.gather, stride=stride, padding=1
    )
    mask = torch.sigmoid(conv.weight_generator.to_mask(gathered))
    expected = torchvision.ops.deform_conv2d(
        x, offset, conv.weight, conv.bias, stride=stride, padding=1, mask=mask
    )
    assert offset.abs().max() > 0.1 and mask.std() > 0.01
    torch.testing.assert_close(conv(x, s), expected, rtol=1e-10, atol=1e-10)


def test_gradients_reach_every_parameter_and_the_geometry() -> None:
    torch.manual_seed(2)
    conv = perturbed(SConv2d(3, 4, 1).double())
    s = torch.rand(2, 1, 10, 12, dtype=torch.float64, requires_grad=True)
    conv(torch.randn(2, 3, 5, 6, dtype=torch.float64), s).square().sum().backward()
    assert s.grad is not None and s.grad.abs().max() > 0
    for name, p in conv.named_parameters():
        assert p.grad is not None and p.grad.abs().max() > 0, name


def test_gradcheck_through_the_generators() -> None:
    torch.manual_seed(3)
    conv = perturbed(SConv2d(2, 2, 1).double()).eval()
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    s = torch.rand(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(conv, (x, s), atol=1e-5)


def test_offsets_alone_and_masks_alone() -> None:
    torch.manual_seed(4)
    x, s = torch.randn(1, 3, 8, 8), torch.rand(1, 1, 8, 8)
    offsets = perturbed(SConv2d(3, 3, 1, masks=False)).eval()
    guidance = offsets.guide(s)
    assert guidance.mask is None and guidance.offset.abs().max() > 0
    masks = perturbed(SConv2d(3, 3, 1, offsets=False, stride=2)).eval()
    guidance = masks.guide(s)
    assert guidance.mask is not None and guidance.mask.std() > 0
    assert torch.equal(guidance.offset, torch.zeros(1, 18, 4, 4))
    assert masks(x, s).shape == (1, 3, 4, 4)
    with pytest.raises(ValueError, match="plain convolution"):
        SConv2d(3, 3, 1, offsets=False, masks=False)


@pytest.mark.parametrize("case", [0, 1])
def test_reproduces_the_published_operator(case: int) -> None:
    path = Path(__file__).parents[4] / "shared/data/oracle" / f"sconv_case_{case}.npz"
    if not path.exists():
        pytest.skip(f"the published operator's outputs are not there: {path.name}")
    published = {k: torch.from_numpy(v) for k, v in np.load(path).items()}
    x, depth = published["x"].double(), published["S"][:, 2:].double()
    stride = int(published["stride"])
    conv = SConv2d(x.shape[1], published["output"].shape[1], 1, stride, bias=True)
    conv.load_state_dict(
        {
            own_name(k.removeprefix("param.")): own_value(k, v)
            for k, v in published.items()
            if k.startswith("param.")
        },
        strict=False,
    )
    conv.double().eval()
    guidance = conv.guide(resize_maps(depth, (x.shape[2], x.shape[3])))
    assert guidance.mask is not None
    torch.testing.assert_close(guidance.offset, published["offset"], rtol=0, atol=1e-6)
    torch.testing.assert_close(guidance.mask, published["mask"], rtol=0, atol=1e-6)
    output = conv.convolve(x, guidance)
    torch.testing.assert_close(output, published["output"].double(), rtol=0, atol=1e-4)


def own_name(key: str) -> str:
    """The name here of a parameter of the released S-Conv."""
    for theirs, ours in (
        ("spatial_projector.", "projector."),
        ("weight_generator1.weight", "weight_generator.gather"),
        ("weight_generator2.", "weight_generator.to_mask."),
    ):
        key = key.replace(theirs, ours)
    return key


def own_value(key: str, value: torch.Tensor) -> torch.Tensor:
    """The released norms scale by |γ| + 1e-5."""
    is_norm = "spatial_projector" in key and key.endswith(".weight") and value.ndim == 1
    return value.abs() + 1e-5 if is_norm else value
