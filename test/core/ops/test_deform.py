"""The CPU's deformable convolution is torchvision's, to the last digit that float64 holds."""

from __future__ import annotations

import pytest
import torch
import torchvision.ops
from hypothesis import given, settings
from hypothesis import strategies as st

from sgnet_core.ops.deform import deform_conv2d, force_implementation
from sgnet_core.ops.gather import find_taps, gather_conv


def random_case(
    seed: int, batch: int, channels: int, out: int, height: int, width: int, stride: int
) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    h, w = (height - 1) // stride + 1, (width - 1) // stride + 1

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    x, weight, bias = draw(batch, channels, height, width), draw(out, channels, 3, 3), draw(out)
    offset, mask = 3 * draw(batch, 18, h, w), torch.sigmoid(draw(batch, 9, h, w))
    return x, offset, weight, mask, bias


@settings(max_examples=40)
@given(
    st.integers(0, 2**31),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([1, 2]),
)
def test_equals_torchvision_in_float64(
    seed: int, batch: int, channels: int, out: int, height: int, width: int, stride: int
) -> None:
    x, offset, weight, mask, bias = random_case(seed, batch, channels, out, height, width, stride)
    expected = torchvision.ops.deform_conv2d(
        x, offset, weight, bias, stride=stride, padding=1, mask=mask
    )
    actual = deform_conv2d(x, offset, weight, mask, bias, stride=stride)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_gradients_equal_torchvisions() -> None:
    inputs = [t.requires_grad_() for t in random_case(0, 2, 3, 4, 7, 5, 2)]
    x, offset, weight, mask, bias = inputs
    ours = deform_conv2d(x, offset, weight, mask, bias, stride=2)
    theirs = torchvision.ops.deform_conv2d(x, offset, weight, bias, stride=2, padding=1, mask=mask)
    upstream = torch.randn_like(theirs)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, upstream),
        torch.autograd.grad(theirs, inputs, upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_gradcheck() -> None:
    inputs = [t.requires_grad_() for t in random_case(3, 1, 2, 2, 4, 5, 1)]
    assert torch.autograd.gradcheck(
        lambda x, o, w, m, b: deform_conv2d(x, o, w, m, b), inputs, atol=1e-6
    )


def test_without_offsets_and_masks_it_is_a_convolution() -> None:
    x, _, weight, _, bias = random_case(1, 2, 3, 4, 6, 8, 1)
    zero = torch.zeros(2, 18, 6, 8, dtype=torch.float64)
    actual = deform_conv2d(x, zero, weight, None, bias)
    expected = torch.nn.functional.conv2d(x, weight, bias, padding=1)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("far", [1e9, -1e9, float("inf")])
def test_samples_far_outside_read_zero(far: float) -> None:
    x = torch.ones(1, 1, 4, 4)
    offset = torch.full((1, 18, 4, 4), far)
    y = gather_conv(x, find_taps(offset, (4, 4)), torch.ones(1, 1, 3, 3))
    assert torch.equal(y, torch.zeros(1, 1, 4, 4))


def test_an_integer_offset_moves_the_image() -> None:
    x = torch.arange(20.0).view(1, 1, 4, 5)
    offset = torch.zeros(1, 18, 4, 5)
    offset[:, 0::2] = 1  # Δy: one pixel down
    offset[:, 1::2] = -1  # Δx: one pixel left
    center = torch.zeros(1, 1, 3, 3)
    center[..., 1, 1] = 1
    y = deform_conv2d(x, offset, center)
    assert torch.equal(y[0, 0, :3, 1:], x[0, 0, 1:, :4])
    assert torch.equal(y[0, 0, 3], torch.zeros(5))
    assert torch.equal(y[0, 0, :, 0], torch.zeros(4))


def test_offsets_that_are_not_numbers_give_no_numbers_instead_of_an_error() -> None:
    x, offset, weight, mask, bias = random_case(5, 1, 2, 3, 6, 7, 1)
    offset[0, 4, 2, 3] = float("nan")
    result = deform_conv2d(x, offset, weight, mask, bias)
    broken = torch.zeros_like(result, dtype=torch.bool)
    broken[0, :, 2, 3] = True
    assert torch.equal(result.isnan(), broken)


def test_half_precision_offsets_keep_their_pixels_apart() -> None:
    # At column 300 neighboring bfloat16 numbers lie 2 apart.
    x = torch.arange(400.0).expand(1, 1, 3, 400)
    offset = torch.zeros(1, 18, 3, 400, dtype=torch.bfloat16)
    pick_center = torch.zeros(1, 1, 3, 3)
    pick_center[0, 0, 1, 1] = 1
    result = gather_conv(x, find_taps(offset, (3, 400)), pick_center)
    assert torch.equal(result, x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_torchvision_in_half_precision_samples_where_it_is_told(dtype: torch.dtype) -> None:
    # At column 150 neighboring float16 numbers lie 1/8 apart, bfloat16 ones 1.
    x = torch.arange(200.0).expand(1, 1, 3, 200).to(dtype)
    offset = torch.zeros(1, 18, 3, 200, dtype=dtype)
    offset[:, 1::2] = 0.3
    pick_center = torch.zeros(1, 1, 3, 3, dtype=dtype)
    pick_center[0, 0, 1, 1] = 1
    with force_implementation("torchvision"):
        result = deform_conv2d(x, offset, pick_center)
    assert result.dtype == dtype
    shift = float(offset[0, 1, 0, 0])
    torch.testing.assert_close(result[..., :199], (x.float() + shift)[..., :199].to(dtype))
