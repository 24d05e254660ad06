"""SGNet: the published architecture, its variants, and the spatial branch as its own step."""

from __future__ import annotations

import pytest
import torch

from sgnet_core import MODELS, SGNetConfig, create_model
from sgnet_core.models.dcn import DCNv2
from sgnet_core.models.labels import LABEL_SETS, LabelSet
from sgnet_core.models.resnet import apply_conv, load_imagenet
from sgnet_core.models.sconv import SConv2d
from sgnet_core.ops.deform import deform_conv2d


def million_parameters(name: str) -> float:
    with torch.device("meta"):
        return sum(p.numel() for p in create_model(name).parameters()) / 1e6


@pytest.mark.parametrize(
    ("name", "published"),
    [("plain_r101", 56.8), ("sgnet_r50", 39.3), ("sgnet_r101", 58.3), ("sgnet_r101_aspp", 64.7)],
)
def test_parameter_counts_are_the_published_ones(name: str, published: float) -> None:
    assert round(million_parameters(name), 1) == published


def test_sconv_sits_in_the_first_and_the_last_two_blocks() -> None:
    with torch.device("meta"):
        model = create_model("sgnet_r101")
    found: dict[int, list[int]] = {1: [], 2: [], 3: [], 4: []}
    position = {1: 0, 2: 0, 3: 0, 4: 0}
    for layer, block in model.trunk.blocks():
        if block.sconv is not None:
            found[layer + 1].append(position[layer + 1])
        position[layer + 1] += 1
    assert found == {1: [0, 1, 2], 2: [0, 2, 3], 3: [0, 21, 22], 4: [0, 1, 2]}
    strides = [placed.sconv.stride for placed in model.sconvs()]
    assert strides == [1, 1, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1]
    assert [placed.stride for placed in model.sconvs()] == [4] * 4 + [8] * 3 + [16] * 5


@pytest.mark.usefixtures("small_network")
@pytest.mark.parametrize("name", [n for n in MODELS if "r101" not in n and "r34" not in n])
@pytest.mark.parametrize("size", [(65, 97), (64, 96)])
def test_every_variant_trains_and_infers_at_any_size(name: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = create_model(name, num_classes=7)
    rgb, depth = torch.randn(2, 3, *size), torch.rand(2, 1, *size)
    out = model.train()(rgb, depth)
    assert (out.aux is not None) == model.config.aux
    loss = out.logits.square().mean() + (0 if out.aux is None else out.aux.square().mean())
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    out = model.eval()(rgb, depth)
    stride = 4 if model.config.head == "fpn" else model.config.output_stride
    assert out.aux is None
    assert out.logits.shape == (2, 7, -(-size[0] // stride), -(-size[1] // stride))


def test_the_spatial_branch_is_a_step_of_its_own() -> None:
    torch.manual_seed(0)
    model = create_model("sgnet_r18", num_classes=5).eval()
    for module in model.modules():
        if isinstance(module, SConv2d) and module.offset_generator is not None:
            torch.nn.init.normal_(module.offset_generator.weight, std=0.05)
    rgb, depth = torch.randn(1, 3, 64, 80), 4 * torch.rand(1, 1, 64, 80)
    guidance = list(model.spatial_branch(depth, (64, 80)))
    assert len(guidance) == 8
    logits = model.head(model.trunk(model.trunk.stem(rgb), guidance)[-1])
    torch.testing.assert_close(model(rgb, depth).logits, logits)
    other = model(rgb, depth.flip(-1)).logits
    assert (other - logits).abs().max() > 1e-3, "geometry must guide the network"


def test_shared_projectors_are_one_per_resolution() -> None:
    model = create_model("sgnet_r50", shared_projector=True)
    assert list(model.projectors) == ["4", "8", "16"] or set(model.projectors) == {"4", "8", "16"}
    assert all(placed.sconv.projector is None for placed in model.sconvs())


@pytest.mark.parametrize(("spatial", "channels"), [("depth", 1), ("points", 3), ("hha", 3)])
def test_spatial_input_by_name(spatial: str, channels: int) -> None:
    model = create_model("sgnet_lite", spatial=spatial).eval()
    rgb = torch.randn(1, 3, 32, 48)
    assert model(rgb, torch.rand(1, channels, 32, 48)).logits.shape == (1, 40, 8, 12)
    with pytest.raises(ValueError, match=f"guided by '{spatial}'"):
        model(rgb, torch.rand(1, 4 - channels, 32, 48))
    with pytest.raises(ValueError, match="got none"):
        model(rgb)


@pytest.mark.parametrize("operator", ["sconv", "dcnv2"])
def test_features_guide_their_own_convolutions(operator: str) -> None:
    model = create_model(
        "sgnet_lite", spatial="features", shared_projector=False, operator=operator, layers=[1]
    )
    block = next(block for _, block in model.trunk.blocks())
    x = torch.randn(2, 64, 12, 16, requires_grad=True)
    neutral = torch.zeros(2, 18, 12, 16)
    if isinstance(block.conv1, SConv2d):
        mask = block.conv1.guide(x).mask
        assert mask is not None and mask.std() > 1e-3
    else:
        assert isinstance(block.conv1, DCNv2)
        mask = torch.full((2, 9, 12, 16), 0.5)
    expected = deform_conv2d(x, neutral, block.conv1.weight, mask)
    torch.testing.assert_close(apply_conv(block.conv1, x, None), expected)
    apply_conv(block.conv1, x, None).square().sum().backward()
    generator = [p for n, p in block.conv1.named_parameters() if "generator" in n]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in generator)
    assert model.eval()(torch.randn(1, 3, 32, 48)).logits.shape == (1, 40, 8, 12)


def test_output_stride_8_doubles_the_resolution() -> None:
    model = create_model("plain_r18", output_stride=8).eval()
    assert model(torch.randn(1, 3, 64, 96)).logits.shape == (1, 40, 8, 12)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"depth": 19}, "depth must be one of 18, 34, 50, 101"),
        ({"spatial": "lidar"}, "spatial must be one of"),
        ({"output_stride": 4}, "output_stride"),
        ({"num_classes": 256}, "num_classes must be 1..255"),
        ({"offsets": False, "masks": False}, "spatial='none'"),
        ({"layers": [0]}, "layers must be among 1..4"),
        ({"width": 3}, "unknown configuration entry 'width'"),
        ({"depth": "18"}, "depth cannot be '18'"),
        ({"aux": 1}, "aux cannot be 1"),
        ({"operator": "dcnv2"}, "guided by spatial='features'"),
        ({"spatial": "features", "shared_projector": True}, "other than 'features'"),
    ],
)
def test_a_configuration_without_meaning_is_refused(entries: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SGNetConfig.from_dict(entries)


def test_configuration_survives_json() -> None:
    config = SGNetConfig(depth=50, layers=(1, 3), head="aspp", spatial="hha")
    assert SGNetConfig.from_dict(config.to_dict()) == config


def test_unknown_variant_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="sgnet_r50"):
        create_model("sgnet_r51")


@pytest.mark.parametrize("name", ["sgnet_lite", "sgnet_r50"])
def test_imagenet_weights_start_the_kernels_that_sconv_replaces(name: str) -> None:
    import torchvision

    model = create_model(name)
    depth = model.config.depth
    torch.manual_seed(5)
    state = getattr(torchvision.models, f"resnet{depth}")().state_dict()
    left = load_imagenet(model.trunk, state)
    sconv = next(b.sconv for _, b in model.trunk.blocks() if b.sconv is not None)
    key = "layer2.0.conv1.weight" if depth == 18 else "layer1.0.conv2.weight"
    assert torch.equal(sconv.weight, state[key])
    assert not any(k.endswith("bn1.weight") and k.startswith("layers") for k in left)
    stem_left = any(k.startswith("stem") for k in left)
    assert stem_left == (model.config.stem == "deep")
    with pytest.raises(ValueError, match="not a torchvision ResNet"):
        load_imagenet(model.trunk, {"fc.weight": torch.zeros(3)})


def test_classes_have_the_names_of_the_label_set_and_else_numbers() -> None:
    with torch.device("meta"):
        assert create_model("plain_lite", 13).info.labels.names == (
            *(f"class_{i}" for i in range(13)),
        )
        named = create_model("plain_lite", labels="nyu13")
        assert (named.info.labels, named.config.num_classes) == (LABEL_SETS["nyu13"], 13)
        own = LabelSet("two", ("robot", "rest"), ((9, 9, 9), (0, 0, 0)))
        assert create_model("plain_lite", 2, labels=own).info.labels == own
        with pytest.raises(ValueError, match="'nyu13' has 13 classes, but the network has 12"):
            create_model("plain_lite", 12, labels="nyu13")
        with pytest.raises(ValueError, match="unknown label set 'nyu14'; choose from nyu40"):
            create_model("plain_lite", labels="nyu14")
