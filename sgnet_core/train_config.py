"""One dataclass configures a training run: a YAML file, then ``key=value`` on the command line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from sgnet_core.data.transforms import Augmentation

Optimizer = Literal["adamw", "sgd"]
Schedule = Literal["poly", "cosine"]


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a run computes.

    Attributes:
        model: variant name; ``architecture`` overrides entries of its `SGNetConfig`.
        weights: where the trunk starts: "imagenet" (torchvision's weights), "none", a local
            ``.pth`` of a torchvision ResNet, or a ``.safetensors`` model file of this project.
        train, validation: data sets, as `sgnet_core.data.catalog.open_dataset` names them.
        size: (H, W) of the crops, and of rooms where they are rendered.
        batch: frames per iteration. iterations: length of the run.
        optimizer, lr, weight_decay, momentum: momentum is SGD's.
        schedule: of the learning rate: "poly" (power 0.9) or "cosine"; ``warmup`` iterations
            rise to it linearly.
        clip: largest gradient norm; 0 switches clipping off.
        ema: decay of the averaged weights, which are the ones validated and saved; 0 is off.
        class_balance: β in the class weights frequency^−β; 0 weighs all classes alike.
        aux_weight: of the deep-supervision loss.
        label_stride: the loss looks at every n-th label of every n-th row, from logits upsampled
            to that grid: 2 saves a fifth of the step on a CPU.
        augment: arguments of `sgnet_core.data.transforms.Augmentation`.
        seed: of weights, order of the data and augmentation.
        validate_every, checkpoint_every: iterations.
        workers: processes that load data.
        input_height: written into the model file: the height at which the model wants its frames;
            0 runs frames at their own size.
    """

    model: str = "sgnet_lite"
    architecture: Mapping[str, Any] = field(default_factory=dict)
    weights: str = "imagenet"
    train: str = "rooms:1"
    validation: str = "rooms:1000:100"
    size: tuple[int, int] = (240, 320)
    batch: int = 8
    iterations: int = 3000
    optimizer: Optimizer = "adamw"
    lr: float = 5e-4
    weight_decay: float = 1e-2
    momentum: float = 0.9
    schedule: Schedule = "poly"
    warmup: int = 100
    clip: float = 5.0
    ema: float = 0.998
    class_balance: float = 0.5
    aux_weight: float = 0.4
    label_stride: int = 2
    augment: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    validate_every: int = 250
    checkpoint_every: int = 100
    workers: int = 1
    input_height: int = 0

    def __post_init__(self) -> None:
        for name, allowed in (("optimizer", Optimizer), ("schedule", Schedule)):
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{name} is one of {', '.join(get_args(allowed))}")
        for name in ("batch", "iterations", "label_stride", "validate_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("lr", "weight_decay", "warmup", "clip", "ema", "workers", "input_height"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        height, width = self.size
        object.__setattr__(self, "size", (int(height), int(width)))
        augmentation: dict[str, Any] = dict(self.augment)
        if "scale" in augmentation:
            augmentation["scale"] = tuple(augmentation["scale"])
        try:
            Augmentation(**augmentation)
        except TypeError as error:
            raise ValueError(f"augment: {error}") from error
        object.__setattr__(self, "augment", augmentation)

    def to_dict(self) -> dict[str, Any]:
        """Plain YAML types; `load_config` reads them back."""
        plain: dict[str, Any] = asdict(self)
        plain["size"] = list(self.size)
        if "scale" in plain["augment"]:
            plain["augment"]["scale"] = list(plain["augment"]["scale"])
        return plain


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> TrainConfig:
    """A YAML file (None: all defaults), then overrides ``key=value``; ``a.b=value`` goes into a
    mapping. Values are YAML: ``lr=1e-3``, ``size=[240,320]``, ``augment.flip=0.5``.

    Raises:
        ValueError: an unknown key, or a value of the wrong type or range; it names the file or
            the override.
        OSError: the file cannot be read.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            loaded = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is not YAML: {error}") from error
        if not isinstance(loaded, dict):
            raise ValueError(f"{path} must hold a mapping of configuration keys")
        values = _checked(loaded, str(path))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ValueError(f"{override!r} is no override: write key=value")
        outer, _, inner = key.partition(".")
        value = yaml.safe_load(text)
        if inner:
            value = {**values.get(outer, {}), inner: value}
        values.update(_checked({outer: value}, override))
    return TrainConfig(**values)


def _checked(values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    reference = TrainConfig()
    defaults = {f.name: getattr(reference, f.name) for f in fields(reference)}
    result: dict[str, Any] = {}
    for key, value in values.items():
        if key not in defaults:
            close = difflib.get_close_matches(str(key), defaults, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ValueError(f"{origin}: unknown configuration key {key!r}{hint}")
        result[key] = _cast(value, defaults[key], f"{origin}: {key}")
    return result


def _cast(value: Any, default: Any, where: str) -> Any:
    """YAML's value in the type of the default; 5e-4, which YAML reads as text, becomes a number."""
    kind = type(default)
    try:
        if kind is float and not isinstance(value, bool):
            return float(value)
        if kind is tuple and len(value) == len(default):
            return tuple(int(v) for v in value)
    except (TypeError, ValueError):
        pass
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise ValueError(f"{where} must be of type {kind.__name__}, got {value!r}")
