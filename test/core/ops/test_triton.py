"""The fused GPU kernels against float64 references: natively, or in Triton's interpreter."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sgnet_core import create_model
from sgnet_core.benchmark.measure import count_flops
from sgnet_core.models.fusion import fuse
from sgnet_core.models.sconv import SConv2d
from sgnet_core.ops.deform import force_implementation
from sgnet_core.ops.resize import resize_maps
from triton_cases import (
    DEVICE,
    random_case,
    reference,
    triton_argmax,
    triton_deform,
    triton_nearest,
    triton_tiles,
)

best_labels_fused = triton_argmax.best_labels_fused
deform_conv = triton_deform.deform_conv
Tile, pick_tile = triton_tiles.Tile, triton_tiles.pick_tile


def fused(x: Tensor, offset: Tensor, *rest: Tensor | None, **kw: object) -> Tensor:
    tensors = [None if t is None else t.to(DEVICE) for t in (x, offset, *rest)]
    arguments = {"stride": 1, "sigmoid": False, **kw}
    result: Tensor = deform_conv(*tensors, **arguments)
    return result.cpu()


@pytest.mark.parametrize(
    ("batch", "channels", "outputs", "size", "stride"),
    [
        (1, 3, 5, (1, 1), 1),
        (2, 32, 32, (5, 6), 1),
        (1, 32, 9, (9, 6), 2),
        (2, 64, 64, (9, 11), 2),
        (1, 70, 130, (6, 5), 1),
        (1, 128, 128, (7, 4), 2),
        (1, 33, 260, (4, 7), 2),
        (1, 64, 512, (3, 4), 1),
        (1, 160, 16, (3, 4), 1),
        pytest.param(2, 256, 256, (3, 5), 2, marks=pytest.mark.slow),
        pytest.param(1, 512, 16, (3, 4), 1, marks=pytest.mark.slow),
        pytest.param(1, 512, 512, (3, 4), 1, marks=pytest.mark.slow),
    ],
)
def test_the_kernel_is_the_operator(
    batch: int, channels: int, outputs: int, size: tuple[int, int], stride: int
) -> None:
    inputs = random_case(batch, channels, outputs, size, stride)
    actual = fused(*(t.float() for t in inputs), stride=stride)
    expected = reference(*inputs, stride)
    torch.testing.assert_close(actual.double(), expected, atol=1e-4, rtol=1e-4)
    assert actual.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("splits", "dtype"),
    [
        (1, torch.float16),
        (3, torch.float32),
        (9, torch.float16),
        pytest.param(3, torch.float16, marks=pytest.mark.slow),
        pytest.param(9, torch.float32, marks=pytest.mark.slow),
    ],
)
def test_programs_may_share_the_positions_of_a_tile(splits: int, dtype: torch.dtype) -> None:
    inputs = [t.to(dtype).to(DEVICE) for t in random_case(1, 20, 19, (4, 5), 2)]
    tile = Tile(16, 16, 16, splits)
    # Every pair of their values: with and without mask, with and without bias, linear or sigmoid.
    for has_mask, has_bias, sigmoid in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)):
        mask, bias = inputs[3] if has_mask else None, inputs[4] if has_bias else None
        expected = reference(
            *(None if t is None else t.double().cpu() for t in (*inputs[:3], mask, bias)),
            2,
            bool(sigmoid),
        )
        actual = triton_deform.run_kernel(*inputs[:3], mask, bias, 2, bool(sigmoid), tile)
        error = 1e-5 if dtype == torch.float32 else 4e-3
        torch.testing.assert_close(actual.cpu().double(), expected, atol=error, rtol=error)


def test_every_convolution_has_a_tile_that_tensor_cores_take() -> None:
    for dtype, outputs, channels, pixels in product(
        (torch.float32, torch.float16, torch.bfloat16),
        (1, 9, 32, 64, 128, 256, 512, 2048),
        (1, 3, 32, 64, 512),
        (1, 1200, 19200, 10**7),
    ):
        tile = pick_tile(outputs, channels, pixels, dtype)
        for size, count in ((tile.outputs, outputs), (tile.channels, channels)):
            assert size >= 16 and size & (size - 1) == 0
            assert size == 16 or size < 2 * count
        assert 9 % tile.splits == 0
    assert pick_tile(64, 32, 19200, torch.float16) == Tile(64, 64, 32, 1, 4, 2)
    assert pick_tile(256, 256, 300, torch.float32).splits == 9


@pytest.mark.parametrize("table", [triton_tiles.HALF, triton_tiles.SINGLE])
def test_no_row_of_the_table_hides_behind_an_earlier_one(table: tuple[object, ...]) -> None:
    bounds = [(row.outputs, row.pixels) for row in table]  # type: ignore[attr-defined]
    for index, (outputs, pixels) in enumerate(bounds):
        assert not any(o >= outputs and p >= pixels for o, p in bounds[:index])


@pytest.mark.parametrize(("dtype", "error"), [(torch.float16, 4e-3), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize(
    ("batch", "channels", "outputs", "size", "stride"),
    [
        (2, 64, 64, (5, 7), 2),
        (1, 256, 32, (7, 8), 1),
        pytest.param(2, 128, 128, (5, 3), 2, marks=pytest.mark.slow),
        pytest.param(1, 512, 16, (2, 3), 1, marks=pytest.mark.slow),
    ],
)
def test_half_precision_sums_in_single(
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
    expected = reference(x.double(), offset, weight.double(), mask.double(), stride=stride)
    actual = fused(x, offset.float(), weight, mask, None, stride=stride)
    assert actual.dtype == dtype
    torch.testing.assert_close(actual.double(), expected, atol=error, rtol=error)


@settings(max_examples=5)
@given(
    st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.floats(0, 1e6), st.integers(1, 2)
)
def test_any_size_and_offset_reads_what_torchvision_reads(
    batch: int, height: int, width: int, spread: float, stride: int
) -> None:
    x, offset, weight, mask, _ = random_case(batch, 8, 4, (height, width), stride, spread)
    expected = reference(x, offset, weight, mask, None, stride)
    actual = fused(x.float(), offset, weight.float(), mask.float(), None, stride=stride)
    torch.testing.assert_close(actual.double(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("value", [float("inf"), -1e30])
def test_offsets_far_outside_read_zeros(value: float) -> None:
    x, offset, weight, mask, _ = (t.float() for t in random_case(1, 4, 4, (5, 5), 1))
    result = fused(x, torch.full_like(offset, value), weight, mask, None)
    assert torch.equal(result, torch.zeros(1, 4, 5, 5))


def test_a_nan_offset_makes_its_output_pixel_nan_and_no_other() -> None:
    x, offset, weight, mask, _ = (t.float() for t in random_case(1, 20, 6, (6, 7), 1))
    expected = fused(x, offset, weight, mask, None)
    for channel, row, column in ((0, 0, 0), (5, 2, 3), (17, 5, 6)):
        broken = offset.clone()
        broken[0, channel, row, column] = float("nan")
        result = fused(x, broken, weight, mask, None)
        where = torch.zeros(6, 7, dtype=torch.bool)
        where[row, column] = True
        assert result[0, :, where].isnan().all()
        assert torch.equal(result[0, :, ~where], expected[0, :, ~where])


def test_memory_order_does_not_matter() -> None:
    x, offset, weight, mask, _ = (t.float() for t in random_case(2, 20, 12, (6, 7), 1))
    expected = fused(x, offset, weight, mask, None)
    last = torch.channels_last
    cases = (
        (x.to(memory_format=last), offset, weight.to(memory_format=last), mask),
        (x.flip(3).flip(3), offset.transpose(2, 3).contiguous().transpose(2, 3), weight, mask),
        (x, offset, weight.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0), mask),
    )
    for case in cases:
        torch.testing.assert_close(fused(*case, None), expected)


def test_the_operator_keeps_pytorchs_contract() -> None:
    x, offset, weight, mask, bias = (
        t.float().to(DEVICE).requires_grad_() for t in random_case(1, 4, 5, (5, 4), 2)
    )
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(deform_conv, (x, offset, weight, mask, bias, 2, True), test_utils=checks)


def test_it_compiles_into_one_graph() -> None:
    x, offset, weight, mask, _ = (t.float().to(DEVICE) for t in random_case(1, 4, 5, (5, 4), 1))

    def run(x: Tensor) -> Tensor:
        return deform_conv(x * 2, offset, weight, mask, None, 1, False) + 1

    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), run(x))


def test_the_benchmark_counts_its_operations_as_those_of_a_convolution() -> None:
    x, offset, weight, mask, _ = (t.float().to(DEVICE) for t in random_case(2, 4, 5, (6, 7), 2))
    plain = count_flops(lambda: torch.nn.functional.conv2d(x, weight, stride=2, padding=1))
    assert count_flops(lambda: deform_conv(x, offset, weight, mask, None, 2, False)) == plain > 0


@pytest.mark.parametrize("wrong", ["weight", "offset", "mask", "dtype"])
def test_shapes_that_would_be_read_out_of_bounds_are_refused(wrong: str) -> None:
    x, offset, weight, mask, _ = (t.float() for t in random_case(1, 4, 5, (5, 4), 1))
    if wrong == "weight":
        weight = weight[:, :3]
    if wrong == "offset":
        offset = offset[:, :16]
    if wrong == "mask":
        mask = mask[:, :, :2]
    if wrong == "dtype":
        weight = weight.half()
    with pytest.raises(ValueError, match="do not match"):
        fused(x, offset, weight, mask, None)


@pytest.mark.slow
@pytest.mark.parametrize("gradients", [False, True])
def test_the_self_test_passes(gradients: bool) -> None:
    assert triton_deform.self_test(DEVICE, gradients) < 5e-3


@pytest.mark.usefixtures("small_network")
@torch.no_grad()
def test_a_network_scores_alike_with_the_kernels() -> None:
    torch.manual_seed(0)
    model = create_model("sgnet_lite", num_classes=5).eval()
    for sconv in (m for m in model.modules() if isinstance(m, SConv2d)):
        assert sconv.offset_generator is not None
        torch.nn.init.normal_(sconv.offset_generator.weight, std=0.05)
    rgb, depth = torch.randn(1, 3, 32, 40), 4 * torch.rand(1, 1, 32, 40)
    expected = model(rgb, depth).logits
    for network in (model, fuse(model)):
        network.to(DEVICE)
        with force_implementation("fused"):
            actual = network(rgb.to(DEVICE), depth.to(DEVICE)).logits.cpu()
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("scores", "size"),
    [((5, 4, 6), (13, 19)), ((2, 1, 1), (3, 4)), ((40, 7, 9), (7, 9)), ((1, 3, 1), (8, 8))],
)
def test_the_argmax_kernel_finds_the_best_class(
    scores: tuple[int, int, int], size: tuple[int, int]
) -> None:
    values = torch.randn(scores, generator=torch.Generator().manual_seed(3)) * 3
    full = resize_maps(values[None].double(), size)[0]
    best, labels = full.max(dim=0)
    labels_got, sure = best_labels_fused(values.to(DEVICE), size, True)
    assert sure is not None
    lead = best - (full.topk(2, dim=0).values[1] if len(full) > 1 else -np.inf)
    clear = lead > 1e-4
    assert clear.float().mean() > 0.9
    np.testing.assert_array_equal(labels_got.cpu()[clear], labels[clear])
    probability = full.softmax(dim=0).amax(dim=0) * 255
    assert (sure.cpu() - probability).abs().max() <= 0.51
    without, none = best_labels_fused(values.to(DEVICE), size, False)
    assert none is None
    np.testing.assert_array_equal(without.cpu(), labels_got.cpu())


def test_among_equals_the_lowest_class_wins() -> None:
    labels, sure = best_labels_fused(torch.zeros(4, 2, 2, device=DEVICE), (3, 3), True)
    assert labels.unique().tolist() == [0]
    assert sure is not None and sure.unique().tolist() == [64]


def test_the_nearest_box_over_a_pixel_gives_its_depth() -> None:
    rng = np.random.default_rng(5)
    left, top = rng.integers(0, 20, 300), rng.integers(0, 15, 300)
    right, bottom = left + rng.integers(-2, 6, 300), top + rng.integers(0, 4, 300)
    boxes = np.stack([left, top, np.minimum(right, 20), np.minimum(bottom, 15)])
    depth = rng.uniform(0.3, 9, 300).astype(np.float32)
    boxes[:, 7], depth[7] = 0, np.nan  # a pixel without a measurement covers nothing
    expected = np.full((15, 20), np.inf, np.float32)
    for x0, y0, x1, y1, z in zip(*boxes, depth, strict=True):
        window = expected[y0:y1, x0 : max(x0, x1)]
        np.minimum(window, z, out=window)
    on_device = torch.from_numpy(boxes).int().to(DEVICE), torch.from_numpy(depth).to(DEVICE)
    got = triton_nearest.draw_nearest(*on_device, 15, 20)
    assert np.isinf(expected).any()
    np.testing.assert_array_equal(got.cpu(), np.where(np.isinf(expected), 0, expected))
