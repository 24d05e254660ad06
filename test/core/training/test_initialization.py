"""Training starts from the weights that fit; the others are drawn anew and named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision

from sgnet_core.models.info import RELEASED, ModelInfo
from sgnet_core.models.labels import NYU40, LabelSet, bit_palette
from sgnet_core.models.model_file import ModelFileError, default_model_path, load_model, save_model
from sgnet_core.models.sgnet import create_model
from sgnet_core.training import initialization as starting_weights
from sgnet_core.training.config import TrainConfig
from sgnet_core.training.initialization import build_model, class_layers

LAB = LabelSet("lab", ("floor", "table", "robot"), bit_palette(3))
RENAMED = LabelSet("renamed", tuple(f"{name}!" for name in NYU40.names), NYU40.colors)


def changed(config: TrainConfig, labels: LabelSet, source: Path) -> tuple[set[str], str]:
    """The weights that are not the source's, and the note."""
    model, note = build_model(config, labels)
    there = load_model(source).state_dict()
    different = {
        name
        for name, value in model.state_dict().items()
        if name not in there or not torch.equal(there[name], value)
    }
    return different, note


@pytest.mark.parametrize("labels", [LAB, RENAMED], ids=["3 classes", "40 others"])
def test_the_shipped_weights_with_other_classes_keep_all_but_the_class_layer(
    labels: LabelSet,
) -> None:
    different, note = changed(TrainConfig(weights="default"), labels, default_model_path())
    assert different == {"head.classify.weight", "head.classify.bias"}
    assert note == "start from default; random weights: head.classify"


def test_the_same_classes_keep_everything(tmp_path: Path) -> None:
    different, note = changed(TrainConfig(weights="default"), NYU40, default_model_path())
    assert different == set() and note.endswith("random weights: none")


def test_class_layers_are_drawn_anew_where_asked(tmp_path: Path) -> None:
    config = TrainConfig(weights="default", new_classes=True)
    different, _ = changed(config, NYU40, default_model_path())
    assert different == {"head.classify.weight", "head.classify.bias"}


def test_another_architecture_keeps_what_fits(tmp_path: Path) -> None:
    path = tmp_path / "points.safetensors"
    source = create_model("sgnet_lite", 40, labels="nyu40", spatial="points")
    source.info = replace(source.info, normalization=RELEASED)
    save_model(source, path)
    config = TrainConfig(weights=str(path))
    different, note = changed(config, NYU40, path)
    assert different == {f"projectors.{stride}.0.weight" for stride in (4, 8, 16)}
    assert note.endswith("random weights: S-Conv's guidance")
    assert build_model(config, NYU40)[0].info.normalization == RELEASED
    with pytest.raises(ValueError, match=r"points\.safetensors is .*ResNet-18.*ResNet-50"):
        build_model(replace(config, model="sgnet_r50"), NYU40)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("sgnet_lite", {"head.classify"}),
        ("sgnet_r18", {"head.4", "aux_head.4"}),
        ("sgnet_r101_aspp", {"head.classify", "aux_head.4"}),
    ],
)
def test_class_layers_are_found_in_every_head(name: str, layers: set[str]) -> None:
    with torch.device("meta"):
        found = class_layers(create_model(name, 255))
    assert found == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


def imagenet(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    state = torchvision.models.resnet50().state_dict()
    monkeypatch.setattr(starting_weights, "torchvision_weights", lambda depth: state)
    return state


def test_a_deep_stem_without_weights_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    state = imagenet(monkeypatch)
    model, note = build_model(TrainConfig(model="sgnet_r50"), LAB)
    assert "trunk.stem" in note and "architecture.stem=torchvision" in note
    assert torch.equal(model.trunk.layers[1][1].conv1.weight, state["layer2.1.conv1.weight"])  # type: ignore[index]
    _, note = build_model(TrainConfig(model="sgnet_r50", architecture={"stem": "torchvision"}), LAB)
    assert note.startswith("start from imagenet; random weights: S-Conv's guidance, head.0")
    assert "stem" not in note


def test_without_a_network_connection_the_error_names_the_ways_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def offline(depth: int) -> dict[str, torch.Tensor]:
        raise URLError("no route to host")

    monkeypatch.setattr(starting_weights, "torchvision_weights", offline)
    with pytest.raises(ValueError, match=r"no route to host.*weights=FILE\.pth.*default or none"):
        build_model(TrainConfig(), NYU40)


def test_the_model_keeps_what_its_depth_was_trained_as() -> None:
    config = TrainConfig(weights="none", holes="nearest", depth_range=(0.3, 8.0), input_height=96)
    info = build_model(config, LAB)[0].info
    assert (info.holes, info.depth_range, info.input_height) == ("nearest", (0.3, 8.0), 96)
    assert TrainConfig().depth_range == ModelInfo("any", LAB).depth_range
    with pytest.raises(ValueError, match="holes must be one of none, nearest, joint_bilateral"):
        TrainConfig(holes="inpaint")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="depth_range must be"):
        TrainConfig(depth_range=(8.0, 0.3))


def test_weights_of_another_depth_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r50.pth"
    torch.save(torchvision.models.resnet50().state_dict(), path)
    with pytest.raises(ValueError, match=r"r50\.pth is a ResNet-50, but the model has a ResNet-18"):
        build_model(TrainConfig(model="sgnet_lite", weights=str(path)), LAB)
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="is not a torchvision ResNet; its first entries are a"):
        build_model(TrainConfig(model="sgnet_lite", weights=str(path)), LAB)


def test_prefixes_wrappers_and_the_home_folder_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    state = torchvision.models.resnet18().state_dict()
    prefixed = {f"module.{key}": value for key, value in state.items()}
    for name, content in (("a", {"model": prefixed, "epoch": 3}), ("b", prefixed)):
        torch.save(content, tmp_path / f"{name}.pth")
        model, _ = build_model(TrainConfig(model="sgnet_lite", weights=f"~/{name}.pth"), LAB)
        assert torch.equal(model.trunk.layers[1][1].conv1.weight, state["layer2.1.conv1.weight"])  # type: ignore[index]


def test_a_numpy_scalar_in_a_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "best.pth"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "miou": np.float64(0.5)}, path)
    with pytest.raises(ModelFileError) as refused:
        build_model(TrainConfig(weights=str(path)), LAB)
    message = str(refused.value)
    assert "multiarray.scalar" in message and "model.state_dict()" in message
    assert "\x1b" not in message and "\n" not in message
