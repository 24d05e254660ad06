"""The fused GPU kernels against float64 references: natively, or in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
import torch
import torchvision.ops
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("triton", reason="Triton comes with PyTorch's CUDA builds")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
with mock.patch.dict(os.environ, {} if DEVICE.type == "cuda" else {"TRITON_INTERPRET": "1"}):
    from sgnet_core.ops.triton_argmax import best_labels_fused
    from sgnet_core.ops.triton_deform import deform_conv, self_test

from sgnet_core import create_model  # noqa: E402
from sgnet_core.models.fusion import fuse  # noqa: E402
from sgnet_core.models.sconv import SConv2d, WeightGenerator  # noqa: E402
from sgnet_core.ops.deform import force_implementation  # noqa: E402
from sgnet_core.ops.resize import resize_maps  # noqa: E402


def random_case(
    batch: int, channels: int, outputs: int, size: tuple[int, int], stride: int, spread: float = 2
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x, offset, weight, mask, bias in float64; offsets reach beyond the borders."""
    g = torch.Generator().manual_seed(hash((batch, channels, outputs, size, stride)) % 2**31)
    h, w = ((n - 1) // stride + 1 for n in size)
    kind = {"generator": g, "dtype": torch.float64}
    return (
        torch.randn(batch, channels, *size, **kind),
        torch.randn(batch, 18, h, w, **kind) * spread,
        torch.randn(outputs, channels, 3, 3, **kind) / (9 * channels) ** 0.5,
        torch.rand(batch, 9, h, w, **kind),
        torch.randn(outputs, **kind),
    )


def fused(x: Tensor, offset: Tensor, *rest: Tensor | None, **kw: object) -> Tensor:
    tensors = [None if t is None else t.to(DEVICE) for t in (x, offset, *rest)]
    arguments = {"stride": 1, "sigmoid": False, **kw}
    result: Tensor = deform_conv(*tensors, **arguments)
    return result.cpu()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("channels", "outputs", "size"),
    [(64, 64, (9, 11)), (3, 5, (1, 1)), (70, 130, (6, 5)), (16, 9, (13, 2)), (33, 260, (4, 7))],
)
def test_the_kernel_is_the_operator(
    channels: int, outputs: int, size: tuple[int, int], stride: int
) -> None:
    x, offset, weight, mask, bias = random_case(2, channels, outputs, size, stride)
    expected = torchvision.ops.deform_conv2d(
        x, offset, weight, bias, stride=stride, padding=1, mask=mask
    )
    single = [t.float() for t in (x, offset, weight, mask, bias)]
    actual = fused(*single, stride=stride)
    torch.testing.assert_close(actual.double(), expected, atol=1e-4, rtol=1e-4)
    assert actual.is_contiguous(memory_format=torch.channels_last)
    plain = torchvision.ops.deform_conv2d(x, offset, weight, stride=stride, padding=1)
    torch.testing.assert_close(
        fused(*single[:3], None, None, stride=stride).double(), plain, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(("dtype", "error"), [(torch.float16, 4e-3), (torch.bfloat16, 3e-2)])
def test_half_precision_sums_in_single(dtype: torch.dtype, error: float) -> None:
    if DEVICE.type == "cpu" and dtype == torch.bfloat16:
        pytest.skip("Triton's interpreter has no bfloat16 products")
    x, offset, weight, mask, _ = random_case(1, 256, 32, (7, 8), 1)
    x, weight = x.to(dtype), weight.to(dtype)
    expected = torchvision.ops.deform_conv2d(
        x.double(), offset, weight.double(), padding=1, mask=mask
    )
    actual = fused(x, offset.float(), weight, mask.to(dtype), None)
    assert actual.dtype == dtype
    torch.testing.assert_close(actual.double(), expected, atol=error, rtol=error)


@settings(max_examples=8, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.floats(0, 1e6), st.integers(1, 2)
)
def test_any_size_and_offset_reads_what_torchvision_reads(
    batch: int, height: int, width: int, spread: float, stride: int
) -> None:
    x, offset, weight, mask, _ = random_case(batch, 8, 4, (height, width), stride, spread)
    expected = torchvision.ops.deform_conv2d(x, offset, weight, stride=stride, padding=1, mask=mask)
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


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sigmoid", [False, True])
def test_gradients_are_those_of_the_reference(stride: int, sigmoid: bool) -> None:
    inputs = random_case(2, 6, 5, (7, 6), stride)
    exact = [t.clone().requires_grad_() for t in inputs]
    x, offset, weight, mask, bias = exact
    expected = torchvision.ops.deform_conv2d(
        x, offset, weight, bias, stride=stride, padding=1, mask=mask
    )
    expected = expected.sigmoid() if sigmoid else expected
    toward = torch.randn(expected.shape, dtype=torch.float64)
    (expected * toward).sum().backward()
    single = [t.float().to(DEVICE).requires_grad_() for t in inputs]
    x, offset, weight, mask, bias = single
    result = deform_conv(x, offset, weight, mask, bias, stride, sigmoid)
    (result * toward.float().to(DEVICE)).sum().backward()
    for ours, theirs in zip(single, exact, strict=True):
        assert ours.grad is not None and theirs.grad is not None
        torch.testing.assert_close(ours.grad.cpu().double(), theirs.grad, atol=1e-4, rtol=1e-4)


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
    with pytest.raises(ValueError, match="deformable convolution of"):
        fused(x, offset, weight, mask, None)


@pytest.mark.slow
def test_the_self_test_passes() -> None:
    assert self_test(DEVICE) < 2e-3


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


def test_the_weight_generator_trains_through_the_kernel() -> None:
    torch.manual_seed(1)
    generator = WeightGenerator(64, 2)
    projected, offset = torch.randn(1, 64, 6, 7), torch.randn(1, 18, 3, 4)
    results = []
    for device, name in (("cpu", "torchvision"), (DEVICE, "fused")):
        generator.zero_grad()
        generator.to(device)
        with force_implementation(name):
            mask = generator(projected.to(device), offset.to(device), None)
        (mask * torch.linspace(-1, 1, mask.numel()).view_as(mask).to(device)).sum().backward()
        results.append([mask.detach(), *(p.grad.clone() for p in generator.parameters())])
    for reference, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours.cpu(), reference, atol=1e-4, rtol=1e-3)


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


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from sgnet_core.ops import triton_argmax, triton_deform

def compiled(kernel, types, constants, capability):
    options = {"num_warps": constants.pop("warps", 4), "num_stages": triton_deform.STAGES}
    signature = {n: types.get(n, "constexpr" if n.isupper() else "i32") for n in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)

import torch
cases = ((80, torch.float32, "fp32", 64), (86, torch.float16, "fp16", 9),
         (90, torch.bfloat16, "bf16", 512))
for capability, dtype, name, outputs in cases:
    columns, channels, warps = triton_deform.tile_sizes(outputs, 64, dtype)
    pointers = dict.fromkeys(("x", "weight", "bias", "out"), "*" + name)
    flags = dict(STRIDE=1, HAS_MASK=True, HAS_BIAS=True, SIGMOID=True, EXACT=name == "fp32")
    binary = compiled(
        triton_deform._deform_kernel,
        {**pointers, "offset": "*fp32", "mask": "*fp32"},
        dict(**flags, PIXELS=triton_deform.PIXELS, OUTPUTS=columns, CHANNELS=channels, warps=warps),
        capability,
    )
    tensor_cores = "mma" in binary.asm["ptx"]
    print(name, binary.metadata.shared, tensor_cores, len(binary.asm["cubin"]))
pointers = {"scores": "*fp32", "labels": "*u8", "confidence": "*u8", "scale_y": "fp32",
            "scale_x": "fp32"}
constants = dict(CONFIDENCE=True, PIXELS=triton_argmax.BLOCK)
binary = compiled(triton_argmax._argmax_kernel, pointers, constants, 80)
print("argmax", binary.metadata.shared, True, len(binary.asm["cubin"]))
"""


@pytest.mark.slow
def test_the_kernels_compile_for_real_gpus() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len(rows) == 4
    for dtype, shared, tensor_cores, binary in rows:
        assert int(shared) <= 99 * 1024
        assert int(binary) > 1000
        assert dtype == "fp32" or tensor_cores == "True"
