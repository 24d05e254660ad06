"""One dataclass configures a training run: a YAML file, then ``key=value`` on the command line."""

from __future__ import annotations

import difflib
import inspect
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import yaml

from sgnet_core.data.transforms import Augmentation
from sgnet_core.geometry.holes import HolePolicy
from sgnet_core.geometry.points import DEPTH_RANGE
from sgnet_core.models.info import check_depth

Optimizer = Literal["adamw", "sgd"]
Schedule = Literal["poly", "cosine"]
Precision = Literal["fp32", "bf16", "fp16"]
FreezeBn = Literal["none", "trunk", "all"]

MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a run computes.

    Attributes:
        model: variant name, one of `sgnet_core.models.sgnet.MODELS`.
        architecture: entries of `sgnet_core.models.sgnet.SGNetConfig` that differ from the
            variant's.
        weights: what the network starts from: "imagenet" (torchvision's weights of the trunk),
            "none", "default" (the weights that come with the package), a model file
            (.safetensors), of which all that fits is kept, or a .pth of a torchvision ResNet.
        new_classes: draw the class layers anew though the classes are the same, for weights that
            have seen only some of them.
        train: data set, as `sgnet_core.data.catalog.open_dataset` names it.
        mix: more data sets of the same classes, with the share of the frames that each gives, e.g.
            {"rooms:5": 0.2}.
        validation: data set that picks the best model, or holdout:SHARE, e.g. holdout:0.1: that
            share of the training set, which then does not train.
        size: [H, W] of the crops, and of rooms where they are rendered.
        batch: frames per iteration, over all processes and accumulation steps together.
        accumulate: parts that a process computes its share of a batch in, to need less memory;
            the result is the same but for batch norms, which see a part at a time.
        iterations: length of the run.
        optimizer: adamw or sgd.
        lr: highest learning rate.
        trunk_lr: factor of the learning rate for the ResNet, which starts from ImageNet weights;
            S-Conv's projectors and generators are no part of it.
        guidance_lr: factor of the learning rate for the projectors and generators of S-Conv, whose
            offsets start at 0.
        weight_decay: of kernels; norms and biases are not decayed.
        momentum: of sgd.
        schedule: of the learning rate, down to 0: poly (power 0.9) or cosine.
        warmup: iterations in which the learning rate rises to lr.
        clip: largest norm of the gradient; 0 is off.
        ema: decay of the averaged weights, which are the ones validated and saved, less in the
            first iterations; 0 is off.
        precision: of the network's arithmetic: fp32, bf16, or fp16 with scaled gradients (GPU). The
            layers that read the geometry stay in fp32.
        class_balance: β in the class weights frequency^−β; 0 weighs all classes alike.
        label_smoothing: share of the target that is spread over all classes, in [0, 1).
        aux_weight: of the deep-supervision loss.
        label_stride: the loss looks at about every n-th label of every n-th row, on a grid from
            corner to corner, to which the logits are upsampled: 2 saves a fifth of the step on a
            CPU.
        freeze_bn: batch norms that keep the statistics and factors they start with: none, trunk,
            or all.
        sync_bn: batch norms see the whole batch of all processes (GPU).
        augment: arguments of `sgnet_core.data.transforms.Augmentation`: scale, flip, color, blur,
            noise, depth_dropout, depth_step, depth_sensor.
        seed: of weights, order of the data, augmentation and dropout.
        deterministic: only operations that give the same bits every time; on a GPU, where some
            have no such form, PyTorch warns of them.
        loss_bound: a loss above this many times its running average (or 1, if that is more) stops
            the run; 0 is off. A loss or gradient that is not finite always does.
        validate_every: iterations.
        patience: validations without a better mIoU after which the run ends early; 0 is off.
        checkpoint_every: iterations.
        workers: processes that load data, per training process; 0 loads in between.
        input_height: written into the model file: the height at which the model wants its frames;
            0 runs frames at their own size.
        holes: written into the model file: how pixels without depth are filled before the network
            sees them, in training as in use: none, nearest, or joint_bilateral.
        depth_range: written into the model file: [nearest, farthest] metres that count as a
            measurement.

    Raises:
        ValueError: a value is out of its range; the message names the key.
    """

    model: str = "sgnet_lite"
    architecture: Mapping[str, Any] = field(default_factory=dict)
    weights: str = "imagenet"
    new_classes: bool = False
    train: str = "rooms:1"
    mix: Mapping[str, float] = field(default_factory=dict)
    validation: str = "rooms:1000:100"
    size: tuple[int, int] = (240, 320)
    batch: int = 8
    accumulate: int = 1
    iterations: int = 3000
    optimizer: Optimizer = "adamw"
    lr: float = 5e-4
    trunk_lr: float = 1.0
    guidance_lr: float = 1.0
    weight_decay: float = 1e-2
    momentum: float = 0.9
    schedule: Schedule = "poly"
    warmup: int = 100
    clip: float = 5.0
    ema: float = 0.998
    precision: Precision = "fp32"
    class_balance: float = 0.5
    label_smoothing: float = 0.0
    aux_weight: float = 0.4
    label_stride: int = 2
    freeze_bn: FreezeBn = "none"
    sync_bn: bool = False
    augment: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    deterministic: bool = False
    loss_bound: float = 10.0
    validate_every: int = 250
    patience: int = 0
    checkpoint_every: int = 100
    workers: int = 1
    input_height: int = 0
    holes: HolePolicy = "none"
    depth_range: tuple[float, float] = DEPTH_RANGE

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{name} is one of {', '.join(get_args(allowed))}")
        for name in _POSITIVE:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in _NOT_NEGATIVE:
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name} must be finite and not negative, got {getattr(self, name)}"
                )
        if self.seed > MAX_SEED:
            raise ValueError(f"seed must be at most {MAX_SEED}, got {self.seed}")
        for name in ("ema", "momentum", "label_smoothing"):
            if not getattr(self, name) < 1:
                raise ValueError(f"{name} must be below 1, got {getattr(self, name)}")
        if self.batch % self.accumulate:
            raise ValueError(
                f"batch {self.batch} cannot be cut into {self.accumulate} (accumulate)"
            )
        nearest, farthest = self.depth_range
        object.__setattr__(self, "depth_range", (float(nearest), float(farthest)))
        check_depth(self.holes, self.depth_range)
        height, width = (int(pixels) for pixels in self.size)
        if height < 1 or width < 1:
            raise ValueError(f"size is [height, width] in pixels, got {self.size}")
        object.__setattr__(self, "size", (height, width))
        shares = {str(name): float(share) for name, share in self.mix.items()}
        if any(share <= 0 for share in shares.values()) or sum(shares.values()) >= 1:
            raise ValueError(f"mix names data sets with shares that leave some to train: {shares}")
        object.__setattr__(self, "mix", shares)
        augmentation = _checked(self.augment, Augmentation(), "augment")
        Augmentation(**augmentation)
        object.__setattr__(self, "augment", augmentation)

    def to_dict(self) -> dict[str, Any]:
        """Plain YAML types; `load_config` reads them back."""
        plain: dict[str, Any] = asdict(self)
        plain["size"] = list(self.size)
        plain["depth_range"] = list(self.depth_range)
        if "scale" in plain["augment"]:
            plain["augment"]["scale"] = list(plain["augment"]["scale"])
        return plain


_CHOICES: Mapping[str, Any] = {
    "optimizer": Optimizer,
    "schedule": Schedule,
    "precision": Precision,
    "freeze_bn": FreezeBn,
}
_POSITIVE = (
    *("batch", "accumulate", "iterations", "label_stride", "validate_every", "checkpoint_every"),
)
_NOT_NEGATIVE = (
    *("lr", "trunk_lr", "guidance_lr", "weight_decay", "momentum", "warmup", "clip", "ema", "seed"),
    *("class_balance", "label_smoothing", "aux_weight", "loss_bound", "patience"),
    *("workers", "input_height"),
)


class Key(NamedTuple):
    """A configuration key, its default in YAML, and what it means."""

    name: str
    default: str
    meaning: str


def describe_keys() -> list[Key]:
    """Every key of the configuration, as the documentation of `TrainConfig` has it."""
    text = inspect.cleandoc(TrainConfig.__doc__ or "")
    section = re.search(r"Attributes:\n(.*?)\n\n", text, flags=re.DOTALL)
    entries = re.split(r"\n(?=    \w+: )", section.group(1)) if section else []
    pairs = (" ".join(entry.split()).partition(": ") for entry in entries)
    meanings = {name: meaning for name, _, meaning in pairs}
    defaults = TrainConfig().to_dict()
    return [
        Key(
            name,
            yaml.safe_dump(value, default_flow_style=True).split("\n")[0],
            meanings.get(name, ""),
        )
        for name, value in defaults.items()
    ]


def keys_help() -> str:
    """The keys with their defaults and meanings, for a terminal."""
    return "\n".join(
        textwrap.fill(
            f"{key.name} ({key.default}): {key.meaning}",
            width=98,
            initial_indent="  ",
            subsequent_indent="      ",
        )
        for key in describe_keys()
    )


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
        values = _checked(loaded, TrainConfig(), str(path))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ValueError(f"{override!r} is no override: write key=value")
        outer, _, inner = key.partition(".")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"{override}: {text!r} is not YAML: {error}") from error
        if inner:
            mapping = values.get(outer, {})
            if not isinstance(mapping, Mapping):
                raise ValueError(f"{override}: {outer} has no entries")
            value = {**mapping, inner: value}
        values.update(_checked({outer: value}, TrainConfig(), override))
    return TrainConfig(**values)


def _checked(values: Mapping[str, Any], reference: Any, origin: str) -> dict[str, Any]:
    """The values in the types of the dataclass ``reference``, whose fields they are to be."""
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
            return tuple(_cast(new, old, where) for old, new in zip(default, value, strict=True))
    except (TypeError, ValueError):
        pass
    number_meant = kind is int and isinstance(value, bool)
    if kind is not tuple and isinstance(value, kind) and not number_meant:
        return value
    wanted = f"like {list(default)}" if kind is tuple else f"of type {kind.__name__}"
    raise ValueError(f"{where} must be {wanted}, got {value!r}")
