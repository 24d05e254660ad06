from __future__ import annotations

import functools
import importlib.util
import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sgnet_core import SGNet, SGNetConfig
from sgnet_core.convert import main
from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.models.checkpoints import read_checkpoint
from sgnet_core.models.labels import NYU40, SUN37
from sgnet_core.models.model_file import ModelFileError, load_model
from sgnet_core.models.released import convert_state_dict, recognize
from small_segmenter import randomize

ORACLE = Path(__file__).parents[3] / "shared" / "data" / "oracle"
needs_oracle = pytest.mark.skipif(
    not ORACLE.is_dir(), reason=f"outputs of the published code are not at {ORACLE}"
)

# --- without the oracle: our own network, written in the released layout --------------------------

TO_RELEASED = [
    (r"trunk\.stem\.0\.", "conv1."),
    (r"trunk\.stem\.1\.", "bn1."),
    (r"trunk\.stem\.3\.", "conv2."),
    (r"trunk\.stem\.4\.", "bn2."),
    (r"trunk\.stem\.6\.", "conv3."),
    (r"trunk\.stem\.7\.", "bn3."),
    (r"trunk\.layers\.0\.", "layer1."),
    (r"trunk\.layers\.1\.", "layer2."),
    (r"trunk\.layers\.2\.", "layer3."),
    (r"trunk\.layers\.3\.", "layer4."),
    (r"\.projector\.", ".spatial_projector."),
    (r"\.weight_generator\.gather$", ".weight_generator1.weight"),
    (r"\.weight_generator\.to_mask\.", ".weight_generator2."),
    (r"^aux_head\.4\.", "dsn3.3."),
    (r"^aux_head\.", "dsn3."),
    (r"^head\.4\.", "dsn4.3."),
    (r"^head\.(?=[01]\.)", "dsn4."),
    (r"^head\.pool\.0\.", "head.0.conv1.1."),
    (r"^head\.pool\.1\.", "head.0.conv1.2."),
    (r"^head\.branches\.([0-3])\.", lambda m: f"head.0.conv{int(m[1]) + 2}."),
    (r"^head\.project\.", "head.0.bottleneck."),
    (r"^head\.classify\.", "head.1."),
]


def ours(head: str = "fcn", num_classes: int = 7, aux: bool = True, **config: Any) -> SGNet:
    """SGNet-R50 with random weights, norms off their defaults."""
    torch.manual_seed(0)
    model = SGNet(SGNetConfig(50, num_classes, head=head, aux=aux, **config))
    randomize(model)
    return model.eval()


def released(model: SGNet) -> dict[str, Tensor]:
    """The layout of the released files: signed γ, a bias in every S-Conv, no counters."""
    state = {}
    generator = torch.Generator().manual_seed(5)
    own = model.state_dict()
    for key, value in own.items():
        if key.endswith("num_batches_tracked"):
            continue
        new = key
        for pattern, replacement in TO_RELEASED:
            new = re.sub(pattern, replacement, new)
        if key.removesuffix("weight") + "running_var" in own:
            sign = torch.where(torch.rand(value.shape, generator=generator) < 0.3, -1.0, 1.0)
            value = sign * (value - 1e-5)
        state[new] = value
    for key in [k for k in state if k.endswith("offset_generator.weight")]:
        block = key.removesuffix(".conv2.offset_generator.weight")
        bias = torch.randn(len(state[f"{block}.conv2.weight"]), generator=generator)
        state[f"{block}.conv2.bias"] = bias
        state[f"{block}.bn2.running_mean"] = state[f"{block}.bn2.running_mean"] + bias
    return state


@functools.cache
def example() -> tuple[SGNet, dict[str, Tensor]]:
    model = ours()
    return model, released(model)


def assert_same(converted: SGNet, model: SGNet) -> None:
    assert not converted.training
    expected = model.state_dict()
    found = converted.state_dict()
    assert list(found) == list(expected)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-6, msg=key)


def test_the_released_layout_becomes_our_network() -> None:
    model, state = example()
    converted = convert_state_dict(state)
    assert converted.config == model.config
    assert_same(converted, model)


def test_the_rules_of_the_test_do_not_hide_a_key() -> None:
    """Keys of the released layout, as they are written down in the paper's code."""
    state = example()[1]
    for key, shape in {
        "conv3.weight": (128, 64, 3, 3),
        "bn3.running_var": (128,),
        "layer1.0.conv2.bias": (64,),
        "layer1.0.conv2.spatial_projector.7.running_mean": (64,),
        "layer3.5.conv2.weight_generator1.weight": (64, 64, 3, 3),
        "layer4.2.conv2.weight_generator2.bias": (9,),
        "layer2.0.downsample.1.weight": (512,),
        "dsn3.3.weight": (7, 512, 1, 1),
        "dsn4.0.weight": (512, 2048, 3, 3),
    }.items():
        assert state[key].shape == shape


def test_a_norm_scales_by_the_size_of_gamma_plus_eps() -> None:
    state = example()[1]
    converted = convert_state_dict(state)
    norm = converted.trunk.stem[1]
    x = torch.randn(1, 64, 5, 5)
    mean, var, gamma, beta = (
        state[f"bn1.{k}"].view(-1, 1, 1) for k in ("running_mean", "running_var", "weight", "bias")
    )
    assert (gamma < 0).any()
    expected = (x - mean) / (var + 1e-5).sqrt() * (gamma.abs() + 1e-5) + beta
    torch.testing.assert_close(norm(x), expected, rtol=1e-5, atol=1e-5)


def test_an_sconvs_bias_is_kept_by_the_norm_behind_it() -> None:
    state = example()[1]
    block = convert_state_dict(state).trunk.layers[0][0]
    x = torch.randn(1, 64, 5, 5)
    mean, var, gamma, beta, bias = (
        state[f"layer1.0.{k}"].view(-1, 1, 1)
        for k in ("bn2.running_mean", "bn2.running_var", "bn2.weight", "bn2.bias", "conv2.bias")
    )
    expected = (x + bias - mean) / (var + 1e-5).sqrt() * (gamma.abs() + 1e-5) + beta
    torch.testing.assert_close(block.bn2(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("small_network")
def test_prefixes_wrappers_and_doubles_are_accepted(tmp_path: Path) -> None:
    model = ours()
    wrapped = {
        "epoch": 12,
        "iteration": 3400,
        "state_dict": {f"module.{k}": v.double() for k, v in released(model).items()},
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": []},
    }
    torch.save(wrapped, tmp_path / "released.pth.tar")
    assert main([str(tmp_path / "released.pth.tar"), str(tmp_path / "out.safetensors")]) == 0
    loaded = load_model(tmp_path / "out.safetensors")
    assert_same(loaded, model)
    assert loaded.info.training == {
        "epoch": 12,
        "iteration": 3400,
        "converted_from": "released.pth.tar",
    }
    assert loaded.info.name == "sgnet_r50"
    assert loaded.info.input_height is None
    norm = loaded.info.normalization
    assert norm.order == "bgr"
    assert norm.mean == (104.008, 116.669, 122.675)
    assert norm.std == (1, 1, 1)


@pytest.mark.usefixtures("small_network")
def test_variants_are_recognized_from_their_keys() -> None:
    for config in (
        {"head": "aspp", "num_classes": 40},
        {"aux": False, "num_classes": 37},
        {"spatial": "none", "num_classes": 19},
        {"head": "aspp", "aux": False, "spatial": "none", "num_classes": 5},
    ):
        model = ours(**config)
        assert recognize(released(model)) == model.config
    converted = convert_state_dict(released(ours(aux=False, num_classes=37)))
    assert converted.info.labels == SUN37
    aspp = ours(head="aspp", num_classes=40)
    converted = convert_state_dict(released(aspp))
    assert converted.info.name == "sgnet_r50_aspp"
    assert converted.info.labels == NYU40
    assert_same(converted, aspp)


def test_states_that_are_no_released_network_are_refused() -> None:
    state = example()[1]
    without = {k: v for k, v in state.items() if k != "layer2.1.bn1.bias"}
    with pytest.raises(ValueError, match=r"missing or unexpected.*trunk\.layers\.1\.1\.bn1\.bias"):
        convert_state_dict(without)
    with pytest.raises(ValueError, match=r"missing or unexpected.*layers\.0\.0\.extra"):
        convert_state_dict({**state, "layer1.0.extra": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"trunk\.stem\.0\.weight has the shape"):
        convert_state_dict({**state, "conv1.weight": torch.zeros(64, 3, 7, 7)})
    with pytest.raises(ValueError, match="not a released SGNet"):
        convert_state_dict({"fc.weight": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match=r"read 1 channel, but hha has 3"):
        convert_state_dict(state, spatial="hha")
    two = {**state, "layer1.0.conv2.spatial_projector.0.weight": torch.zeros(64, 2, 3, 3)}
    with pytest.raises(ValueError, match="2 channels, as no known spatial input"):
        convert_state_dict(two)


@pytest.mark.usefixtures("small_network")
def test_three_channels_are_what_the_user_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ours(spatial="hha")
    state = released(model)
    with pytest.raises(ValueError, match=r"channels: choose the spatial input .*: points, .*hha"):
        convert_state_dict(state)
    with pytest.raises(ValueError, match="read 3 channels, but depth has 1"):
        convert_state_dict(state, spatial="depth")
    assert recognize(state, "points").spatial == "points"
    torch.save(state, tmp_path / "hha.pth")
    out = tmp_path / "out.safetensors"
    assert main([str(tmp_path / "hha.pth"), str(out), "--spatial", "hha"]) == 0
    converted = load_model(out)
    assert converted.config == model.config and converted.config.spatial == "hha"
    assert_same(converted.eval(), model)
    with pytest.raises(SystemExit):
        main([str(tmp_path / "hha.pth"), str(tmp_path / "none.safetensors")])
    assert "choose the spatial input with --spatial" in capsys.readouterr().err


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("boom",)


def test_unusable_files_are_named_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.pth")
    (tmp_path / "plain_bomb.pth").write_bytes(pickle.dumps(Bomb(), protocol=2))
    torch.save({"a": torch.zeros(9999)}, tmp_path / "other.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "other.pth").read_bytes()[:999])
    (tmp_path / "text.pth").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"a": 1}, tmp_path / "number.pth")
    for name, words in {
        "no.pth": "No such file",
        "bomb.pth": "could run code",
        "plain_bomb.pth": "could run code",
        "cut.pth": "",
        "text.pth": "",
        "list.pth": "does not contain a state dict",
        "number.pth": "its entry 'a' is not a tensor",
        "other.pth": "not a released SGNet",
    }.items():
        with pytest.raises(SystemExit) as stopped:
            main([str(tmp_path / name), str(tmp_path / "out.safetensors")])
        assert stopped.value.code == 2
        printed = capsys.readouterr()
        assert "boom" not in printed.out
        assert printed.err.startswith(f"convert: {tmp_path / name}: ")
        assert words in printed.err
        assert printed.err.count("\n") == 1, printed.err
    assert not (tmp_path / "out.safetensors").exists()
    with pytest.raises(ModelFileError, match=r"no\.pth"):
        read_checkpoint(tmp_path / "no.pth")


# --- with the oracle ------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def oracle_model(variant: str) -> SGNet:
    spec = importlib.util.spec_from_file_location("weights_rule", ORACLE / "weights_rule.py")
    assert spec is not None
    assert spec.loader is not None
    rule = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rule)
    keys = json.loads((ORACLE / f"keys_{variant}.json").read_text())
    weights = rule.fill_all(keys, 0)
    assert rule.digest(weights) == str(oracle(variant)["weights_sha256"])
    return convert_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})


def oracle(variant: str, prefix: str = "", size: str = "96x128") -> Any:
    return np.load(ORACLE / f"{prefix}{variant}_seed0_{size}.npz")


def assert_logits(variant: str, size: str) -> None:
    """Both heads to 1e-4 of the published code's."""
    model, case = oracle_model(variant), oracle(variant, size=size)
    spatial = None
    if model.config.spatial == "depth":
        spatial = torch.from_numpy(case["depth"][:, 2:])  # X, Y, Z
    image = torch.from_numpy(case["image"])
    with torch.inference_mode():
        guidance = list(model.spatial_branch(spatial, (image.shape[2], image.shape[3])))
        features = model.trunk(model.trunk.stem(image), guidance)
        logits = model.head(features[-1])
        assert model.aux_head is not None
        aux = model.aux_head(features[2])
    np.testing.assert_allclose(logits, case["logits_f64"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(aux, case["aux"], rtol=0, atol=1e-4)


@needs_oracle
@pytest.mark.parametrize("variant", ["baseline_r101", "sgnet_r50", "sgnet_aspp_r101", "sgnet_r101"])
def test_logits_are_those_of_the_published_code(variant: str) -> None:
    assert_logits(variant, "96x128")


@needs_oracle
def test_logits_at_vga_are_those_of_the_published_code() -> None:
    assert_logits("sgnet_r101", "480x640")


@needs_oracle
def test_every_stage_is_that_of_the_published_code() -> None:
    model, stages = oracle_model("sgnet_r101"), oracle("sgnet_r101", "stages_")
    case = oracle("sgnet_r101")
    found: dict[str, Tensor] = {}
    hooks = [model.trunk.stem.register_forward_hook(lambda *a: found.update(maxpool=a[2]))]
    sconvs = []
    for layer, blocks in enumerate(model.trunk.layers, start=1):
        for index, block in enumerate(blocks):
            name = f"layer{layer}.{index}"
            hooks.append(
                block.register_forward_hook(
                    lambda *a, name=name: found.update({f"{name}/out": a[2].clone()})
                )
            )
            if block.sconv is not None:
                sconvs.append(f"{name}.conv2")
    with torch.inference_mode():
        guidance = list(model.spatial_branch(torch.from_numpy(case["depth"][:, 2:]), (96, 128)))
        features = model.trunk(model.trunk.stem(torch.from_numpy(case["image"])), guidance)
        found["dsn3"] = model.aux_head(features[2])
        found["dsn4"] = model.head(features[3])
    for hook in hooks:
        hook.remove()
    for name, guide in zip(sconvs, guidance, strict=True):
        assert guide.mask is not None
        found |= {f"{name}/offset": guide.offset, f"{name}/mask": guide.mask}
    found |= {f"layer{i}": x for i, x in enumerate(features, start=1)}
    common = set(found) & set(stages.files)
    assert len(sconvs) == 12
    assert len(common) == 24 + 1 + 4 + 5 + 2  # guidance, stem, layers, single blocks, heads
    for name in common:
        np.testing.assert_allclose(found[name], stages[name], rtol=0, atol=1e-4, err_msg=name)


@needs_oracle
@pytest.mark.parametrize(("prefix", "scales"), [("ss", (1.0,)), ("ms", (0.8, 1.0, 2.0))])
def test_the_whole_evaluation_is_that_of_the_published_code(
    prefix: str, scales: tuple[float, ...]
) -> None:
    case = oracle("sgnet_r101", "pipeline_")
    segmenter = Segmenter(oracle_model("sgnet_r101"), "cpu")
    prediction = segmenter.segment(
        case["rgb_uint8"], case["depth_mm_uint16"], scores=True, scales=scales
    )
    assert prediction.scores is not None
    expected = case[f"{prefix}_scores"].transpose(2, 0, 1)
    np.testing.assert_allclose(prediction.scores, expected, rtol=0, atol=1e-4)
    clear = case[f"{prefix}_margin"] > 1e-3
    assert clear.mean() > 0.99
    assert np.array_equal(prediction.labels[clear], case[f"{prefix}_argmax"][clear])
