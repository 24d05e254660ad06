"""Initial weights: an ImageNet trunk, a model file, or random weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor

from sgnet_core.models.checkpoints import read_checkpoint
from sgnet_core.models.labels import LabelSet
from sgnet_core.models.model_file import default_model_path, load_model
from sgnet_core.models.resnet import load_imagenet, torchvision_weights
from sgnet_core.models.sgnet import SGNet, create_model
from sgnet_core.training.config import TrainConfig
from sgnet_core.training.optimization import guidance_modules


def build_model(config: TrainConfig, labels: LabelSet) -> tuple[SGNet, str]:
    """Return the configured network with its initial weights, and a note about random weights.

    Raises:
        ValueError: the weights cannot be loaded or belong to another network; the message names the
            remedy.
        OSError: a file cannot be read.
    """
    model = create_model(config.model, len(labels), **config.architecture)
    model.info = replace(
        model.info,
        labels=labels,
        input_height=config.input_height or None,
        holes=config.holes,
        depth_range=config.depth_range,
    )
    if config.weights == "none":
        return model, "all weights are random"
    if config.weights == "default" or config.weights.endswith(".safetensors"):
        random = _load_model_file(model, config)
    else:
        state = _resnet_weights(config.weights, model.config.depth)
        random = [f"trunk.{name}" for name in load_imagenet(model.trunk, state)]
        random += [name for name, _ in model.named_parameters() if not name.startswith("trunk.")]
    note = f"start from {config.weights}; random weights: {summarize(model, random) or 'none'}"
    if any(name.startswith("trunk.stem.") for name in random):
        note += (
            "\ntorchvision has no weights for the deep stem, which is trained from scratch; this "
            "lowers the accuracy on small data sets. architecture.stem=torchvision has pretrained "
            "weights"
        )
    return model, note


def _resnet_weights(weights: str, depth: int) -> dict[str, Tensor]:
    """Return the weights of a torchvision ResNet: ImageNet's, or those of a ``.pth`` file."""
    if weights != "imagenet":
        path = Path(weights).expanduser()
        state = read_checkpoint(path)[0]
        _check_depth(path, state, depth)
        return state
    try:
        return torchvision_weights(depth)
    except URLError as error:
        raise ValueError(
            f"torchvision's ImageNet weights cannot be downloaded ({error.reason}): connect to the "
            "internet once, give a downloaded file with weights=FILE.pth, or start from "
            "weights=default or none"
        ) from error


def _check_depth(path: Path, state: Mapping[str, Tensor], depth: int) -> None:
    """Raise ValueError unless a state dict is that of torchvision's ResNet of that depth."""
    bottleneck = "layer1.0.conv3.weight" in state
    blocks = len({key.split(".")[1] for key in state if key.startswith("layer3.")})
    depths = {(2, False): 18, (6, False): 34, (6, True): 50, (23, True): 101, (36, True): 152}
    found = depths.get((blocks, bottleneck))
    if found is None:
        raise ValueError(
            f"{path} is not a torchvision ResNet; its first entries are {', '.join([*state][:3])}"
        )
    if found != depth:
        raise ValueError(
            f"{path} is a ResNet-{found}, but the model has a ResNet-{depth}: choose weights of "
            "that depth, or another model"
        )


def _load_model_file(model: SGNet, config: TrainConfig) -> list[str]:
    """Copy all weights that fit, those of the class layers only if the classes are the same.

    Returns the names of the other parameters.
    """
    path = default_model_path()
    if config.weights != "default":
        path = Path(config.weights).expanduser()
    source = load_model(path)
    if source.config.depth != model.config.depth:
        raise ValueError(
            f"{path} is a {source.info.name} with a ResNet-{source.config.depth}, but "
            f"{config.model} has a ResNet-{model.config.depth}: choose a model with that trunk"
        )
    same_classes = not config.new_classes and source.info.labels.names == model.info.labels.names
    classifiers = set() if same_classes else class_layers(model)
    own = model.state_dict()
    fitting = {
        name: tensor
        for name, tensor in source.state_dict().items()
        if name in own and own[name].shape == tensor.shape and name not in classifiers
    }
    model.load_state_dict(fitting, strict=False)
    model.info = replace(model.info, normalization=source.info.normalization)
    return [name for name, _ in model.named_parameters() if name not in fitting]


def class_layers(model: SGNet) -> set[str]:
    """Return the names of the weights whose shape depends on the number of classes."""
    count = model.config.num_classes
    one_more = count + 1 if count < 255 else count - 1
    with torch.device("meta"):
        other = SGNet(replace(model.config, num_classes=one_more)).state_dict()
    return {name for name, value in model.state_dict().items() if value.shape != other[name].shape}


def summarize(model: SGNet, names: Iterable[str]) -> str:
    """Return the modules of the named weights as text; the guidance of all S-Convs is one item."""
    guidance = set(guidance_modules(model))
    prefixes = tuple(f"{name}." for name, module in model.named_modules() if module in guidance)
    parts: dict[str, None] = {}  # a set that keeps its order
    for name in names:
        if name.startswith(prefixes):
            parts["S-Conv's guidance"] = None
        elif name.startswith("trunk.stem."):
            parts["trunk.stem"] = None
        else:
            parts[name.rpartition(".")[0]] = None
    return ", ".join(parts)
