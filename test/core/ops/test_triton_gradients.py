"""Gradients of the fused kernel against float64: natively, or in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sgnet_core.models.sconv import WeightGenerator
from sgnet_core.ops.deform import force_implementation
from triton_cases import DEVICE, random_case, reference, triton_deform

deform_conv = triton_deform.deform_conv
NAMES = ("x", "offset", "weight", "mask", "bias")
ADDED_ATOMICALLY = {} if DEVICE.type == "cpu" else {"atol": 1e-4, "rtol": 1e-5}
"""Bounds for sums that a GPU adds in varying order."""


def leaves(tensors: tuple[Tensor, ...]) -> list[Tensor]:
    return [t.detach().clone().requires_grad_() for t in tensors]


@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize(
    ("batch", "channels", "outputs", "size", "stride"),
    [
        (2, 6, 5, (7, 6), 1),
        (1, 3, 70, (5, 3), 2),
        (2, 32, 32, (5, 4), 1),
        (1, 64, 9, (5, 6), 2),
        (1, 128, 128, (3, 4), 2),
        (1, 32, 260, (2, 3), 1),
        (1, 160, 16, (1, 1), 1),
        pytest.param(2, 256, 64, (3, 3), 2, marks=pytest.mark.slow),
        pytest.param(1, 32, 512, (2, 3), 1, marks=pytest.mark.slow),
        pytest.param(1, 512, 16, (1, 1), 1, marks=pytest.mark.slow),
    ],
)
def test_gradients_are_those_of_the_reference(
    batch: int, channels: int, outputs: int, size: tuple[int, int], stride: int, sigmoid: bool
) -> None:
    if sigmoid and max(channels, outputs) > 64:
        pytest.skip("the sigmoid does not depend on the number of channels")
    inputs = random_case(batch, channels, outputs, size, stride)
    exact = leaves(inputs)
    expected = reference(*exact, stride, sigmoid)
    toward = torch.randn_like(expected)
    single = leaves(tuple(t.float().to(DEVICE) for t in inputs))
    result = deform_conv(*single, stride, sigmoid)
    found = torch.autograd.grad(result, single, toward.float().to(DEVICE))
    for name, ours, theirs in zip(
        NAMES, found, torch.autograd.grad(expected, exact, toward), strict=True
    ):
        scale = float(theirs.abs().max())
        torch.testing.assert_close(
            ours.cpu().double(), theirs, atol=1e-5 * scale, rtol=1e-4, msg=lambda m, n=name: n + m
        )


@pytest.mark.parametrize(("dtype", "error"), [(torch.float16, 4e-3), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize(
    ("batch", "channels", "outputs", "size", "stride"),
    [
        (2, 32, 40, (5, 4), 1),
        (2, 64, 64, (5, 7), 2),
        pytest.param(2, 128, 16, (5, 3), 2, marks=pytest.mark.slow),
        pytest.param(1, 256, 16, (3, 2), 1, marks=pytest.mark.slow),
        pytest.param(1, 512, 16, (2, 3), 1, marks=pytest.mark.slow),
    ],
)
def test_half_precision_sums_gradients_in_single(
    batch: int,
    channels: int,
    outputs: int,
    size: tuple[int, int],
    stride: int,
    dtype: torch.dtype,
    error: float,
) -> None:
    x, offset, weight, mask, _ = random_case(batch, channels, outputs, size, stride)
    x, weight, mask = x.to(dtype), weight.to(dtype), mask.to(dtype)
    exact = leaves(tuple(t.double() for t in (x, offset.float(), weight, mask)))
    expected = reference(*exact, None, stride)
    toward = torch.randn_like(expected).to(dtype)
    half = leaves(tuple(t.to(DEVICE) for t in (x, offset.float(), weight, mask)))
    result = deform_conv(*half, None, stride, False)
    found = torch.autograd.grad(result, half, toward.to(DEVICE))
    for ours, theirs, given in zip(
        found, torch.autograd.grad(expected, exact, toward.double()), half, strict=True
    ):
        assert ours.dtype == given.dtype
        difference = (ours.cpu().double() - theirs).norm() / theirs.norm()
        assert difference < error


def test_gradients_are_the_slopes_of_the_result() -> None:
    g = torch.Generator().manual_seed(0)
    inputs = random_case(1, 3, 2, (2, 3), 1)
    # Away from whole pixels, where bilinear sampling has a kink.
    offset = torch.randint(-2, 3, inputs[1].shape, generator=g) + 0.3
    offset += 0.4 * torch.rand(offset.shape, generator=g, dtype=torch.float64)

    def run(*tensors: Tensor) -> Tensor:
        single = (t.float().to(DEVICE) for t in tensors)
        return deform_conv(*single, 1, True).cpu().double()

    points = leaves((inputs[0], offset.double(), *inputs[2:]))
    assert torch.autograd.gradcheck(run, points, eps=1e-2, atol=2e-3, fast_mode=True)


def test_only_the_gradients_that_are_needed_are_computed() -> None:
    inputs = [t.float().to(DEVICE) for t in random_case(1, 4, 5, (3, 4), 1)]
    everything = leaves(tuple(inputs))
    deform_conv(*everything, 1, False).square().sum().backward()
    for index in (0, 1, 2, 3, 4):
        some = [t.clone() for t in inputs]
        some[index].requires_grad_()
        deform_conv(*some, 1, False).square().sum().backward()
        torch.testing.assert_close(some[index].grad, everything[index].grad, **ADDED_ATOMICALLY)
        assert all(t.grad is None for i, t in enumerate(some) if i != index)


def test_a_nan_offset_reaches_the_gradient_of_its_own_pixel() -> None:
    x, offset, weight, mask, _ = (t.float() for t in random_case(1, 4, 5, (4, 5), 1))
    offset[0, 7, 1, 2] = float("nan")
    x, offset, weight, mask = leaves(tuple(t.to(DEVICE) for t in (x, offset, weight, mask)))
    deform_conv(x, offset, weight, mask, None, 1, False).nansum().backward()
    assert offset.grad is not None
    assert offset.grad[:, :, 0].isfinite().all() and offset.grad[:, :, 2:].isfinite().all()


def test_deterministic_mode_adds_in_one_order() -> None:
    inputs = random_case(1, 6, 5, (5, 4), 2)
    single = leaves(tuple(t.float().to(DEVICE) for t in inputs))
    result = deform_conv(*single, 2, True)
    usual = torch.autograd.grad(result, single, torch.ones_like(result), retain_graph=True)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        ordered = torch.autograd.grad(result, single, torch.ones_like(result))
    finally:
        torch.use_deterministic_algorithms(False)
    for ours, theirs in zip(usual, ordered, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_it_trains_in_one_compiled_graph() -> None:
    inputs = [t.float().to(DEVICE) for t in random_case(1, 4, 5, (3, 4), 1)]

    def loss(*tensors: Tensor) -> Tensor:
        return deform_conv(tensors[0] * 2, *tensors[1:], 1, False).square().sum()

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    eager, traced = leaves(tuple(inputs)), leaves(tuple(inputs))
    loss(*eager).backward()
    compiled(*traced).backward()
    for ours, theirs in zip(traced, eager, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, **ADDED_ATOMICALLY)


def test_the_weight_generator_trains_through_the_kernel() -> None:
    torch.manual_seed(1)
    generator = WeightGenerator(32, 2, 32)
    projected, offset = torch.randn(1, 32, 6, 7), torch.randn(1, 18, 3, 4)
    results = []
    for device, name in (("cpu", "torchvision"), (DEVICE, "fused")):
        generator.zero_grad()
        generator.to(device)
        with force_implementation(name):
            mask = generator(projected.to(device), offset.to(device), None)
        (mask * torch.linspace(-1, 1, mask.numel()).view_as(mask).to(device)).sum().backward()
        results.append([mask.detach(), *(p.grad.clone() for p in generator.parameters())])
    for expected, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours.cpu(), expected, atol=1e-4, rtol=1e-3)
