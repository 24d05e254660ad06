"""The type a network computes in: same labels, exact geometry."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sgnet_core.data.catalog import open_dataset
from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.models.fusion import fuse
from sgnet_core.models.precision import bf16_is_faster, cast, multiplies_bf16, pick_precision
from sgnet_core.models.sconv import Projector
from sgnet_core.models.sgnet import SGNet, create_model

KINDS = ("weight", "bias")
CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("name", "device", "expected"),
    [
        ("auto", CPU, torch.float32),
        ("auto", GPU, torch.float16),
        ("fp32", GPU, torch.float32),
        ("fp16", GPU, torch.float16),
        ("bf16", CPU, torch.bfloat16),
        ("bf16", GPU, torch.bfloat16),
    ],
)
def test_names_and_types(name: str, device: torch.device, expected: torch.dtype) -> None:
    assert pick_precision(name, device) == expected


def test_float16_needs_a_gpu() -> None:
    with pytest.raises(ValueError, match="needs a GPU"):
        pick_precision("fp16", CPU)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_changes_next_to_no_label(dtype: torch.dtype) -> None:
    """float16 on the CPU too, where it is slow and not offered: the arithmetic is that of a GPU."""
    exact, half = Segmenter(device="cpu", precision="fp32"), Segmenter(device="cpu")
    assert isinstance(half.model, SGNet)
    half.model = cast(half.model, dtype)
    same = []
    rooms, _ = open_dataset("rooms:5:2", (240, 320))
    for sample in (rooms[0], rooms[1]):
        expected = exact.segment(sample.rgb, sample.depth).labels
        same.append(half.segment(sample.rgb, sample.depth).labels == expected)
    assert np.mean(same) >= 0.995


def rounded(values: Tensor, bits: int) -> Tensor:
    """Round float32 to the nearest with a mantissa of that many bits; TF32 has 10, bfloat16 7."""
    cut = 23 - bits
    whole = values.contiguous().view(torch.int32)
    whole = whole + (1 << (cut - 1)) - 1 + ((whole >> cut) & 1)
    return (whole >> cut << cut).view(torch.float32)


def test_tf32_in_the_layers_that_read_the_geometry_changes_next_to_no_label() -> None:
    """A GPU's default for float32 convolutions, emulated: it suffices, bfloat16 would not."""
    values = torch.linspace(-9, 9, 1001)
    assert torch.equal(rounded(values, 7), values.bfloat16().float())
    segmenter = Segmenter(device="cpu", precision="fp32")
    assert isinstance(segmenter.model, SGNet)
    first = [m[0] for m in segmenter.model.modules() if isinstance(m, Projector)]
    weights = [layer.weight.data for layer in first]
    rooms, _ = open_dataset("rooms:5:2", (240, 320))
    frames = [rooms[0], rooms[1]]
    expected = [segmenter.segment(f.rgb, f.depth, scores=True).scores for f in frames]
    changed, moved = {}, {}
    for bits in (10, 7):
        hooks = [
            layer.register_forward_pre_hook(lambda _, x, bits=bits: (rounded(x[0], bits),))
            for layer in first
        ]
        for layer, weight in zip(first, weights, strict=True):
            layer.weight.data = rounded(weight, bits)
        found = [segmenter.segment(f.rgb, f.depth, scores=True).scores for f in frames]
        for hook in hooks:
            hook.remove()
        before, after = np.stack(expected), np.stack(found)
        changed[bits] = np.mean(before.argmax(1) != after.argmax(1))
        moved[bits] = np.abs(before - after).mean()
    assert changed[10] < 5e-4
    assert moved[7] > 4 * moved[10]


@pytest.mark.parametrize("name", ["sgnet_lite", "sgnet_r18"])
def test_projectors_read_depths_that_bfloat16_cannot_tell_apart(name: str) -> None:
    torch.manual_seed(0)
    half = cast(fuse(create_model(name, num_classes=3)), torch.bfloat16)
    lowered = [m for m in half.modules() if isinstance(m, Projector)]
    assert lowered
    near = torch.full((1, 1, 8, 8), 6.0)
    far = near + 0.01  # the next bfloat16 after 6 is 6.03
    assert (far.bfloat16() == near.bfloat16()).all()
    for projector in lowered:
        read = projector(near), projector(far)
        assert read[0].dtype == torch.bfloat16
        assert not torch.equal(*read)
        assert projector[0].weight.dtype == torch.float32
        assert projector[3].weight.dtype == torch.bfloat16


def test_weights_that_read_the_geometry_are_not_rounded() -> None:
    model = fuse(create_model("sgnet_lite", num_classes=3))
    exact = {name: p.clone() for name, p in model.named_parameters()}
    reads_geometry = {f"projectors.{stride}.0.{kind}" for stride in (4, 8, 16) for kind in KINDS}
    for name, parameter in cast(model, torch.bfloat16).named_parameters():
        if name in reads_geometry:
            assert torch.equal(parameter, exact.pop(name))
        else:
            assert parameter.dtype == torch.bfloat16
    assert not reads_geometry & set(exact)


@pytest.mark.parametrize("overrides", [{"projector": False}, {"spatial": "features"}])
def test_networks_that_read_no_geometry_by_projectors_run_too(overrides: dict[str, object]) -> None:
    torch.manual_seed(0)
    model = create_model("sgnet_r18", num_classes=3, **overrides)
    rgb = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    depth = np.linspace(0.5, 6, 64 * 96, dtype=np.float32).reshape(64, 96)
    expected = Segmenter(model, "cpu", "fp32").segment(rgb, depth, scores=True).scores
    found = Segmenter(model, "cpu", "bf16").segment(rgb, depth, scores=True).scores
    assert expected is not None and found is not None
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_processors_are_asked_as_torch_knows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert not multiplies_bf16(CPU)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert multiplies_bf16(CPU)
    assert not multiplies_bf16(GPU)
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")  # a torch without it
    assert not multiplies_bf16(CPU)


@pytest.mark.parametrize(
    ("amx", "avx512", "vendor", "faster"),
    [
        (True, True, "GenuineIntel", True),
        (False, True, "AuthenticAMD", True),
        (False, True, "GenuineIntel", False),  # 1.5 times slower in a network
        (False, False, "AuthenticAMD", False),
    ],
)
def test_bf16_is_suggested_where_the_processor_gains_by_it(
    amx: bool, avx512: bool, vendor: str, faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    monkeypatch.setattr("sgnet_core.models.precision.cpu_entry", {"vendor_id": vendor}.get)
    assert bf16_is_faster(CPU) is faster
    assert not bf16_is_faster(GPU)
