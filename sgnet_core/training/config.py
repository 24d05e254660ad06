"""Configuration of a training run, from a YAML file and ``key=value`` on the command line."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from sgnet_core.data.transforms import Augmentation
from sgnet_core.geometry.depth_range import DEPTH_RANGE
from sgnet_core.geometry.holes import HolePolicy
from sgnet_core.models.info import check_depth

Optimizer = Literal["adamw", "sgd"]
Schedule = Literal["poly", "cosine"]
Precision = Literal["fp32", "bf16", "fp16"]
FreezeBn = Literal["none", "trunk", "all"]

MAX_SEED = 2**32 - 1


def _key(default: Any, meaning: str, **limits: Any) -> Any:
    """Return a dataclass field for a configuration key.

    Args:
        default: default value; {} makes a new dictionary for each configuration.
        meaning: text for ``--help`` and the table in docs/training.md.
        limits: ``least`` (included) and ``below`` (excluded) for numbers; ``choices``.
    """
    metadata = {"meaning": meaning, **limits}
    if default == {}:
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class TrainConfig:
    """Keys of a training run; `sgnet_core.training.config_help` lists them with their meanings.

    Raises:
        ValueError: a value is out of its range; the message names the key.
    """

    model: str = _key("sgnet_lite", "Name of the variant, one of `sgnet_core.models.sgnet.MODELS`.")
    architecture: Mapping[str, Any] = _key(
        {}, "Entries of `sgnet_core.models.sgnet.SGNetConfig` that differ from the variant's."
    )
    weights: str = _key(
        "imagenet",
        "Initial weights: imagenet (torchvision's weights for the trunk), none, default (the "
        "weights shipped with the package), a model file (.safetensors), of which all weights that "
        "fit are used, or a .pth file of a torchvision ResNet.",
    )
    new_classes: bool = _key(
        False,
        "Start the class layers from random weights even if the classes are the same. This helps "
        "if the initial weights were trained on only some of the classes.",
    )
    train: str = _key(
        "rooms:1", "Training set, as `sgnet_core.data.catalog.open_dataset` names it."
    )
    mix: Mapping[str, float] = _key(
        {},
        'More data sets with the same classes, and the share of frames from each, e.g. {"rooms:5": '
        "0.2}.",
    )
    validation: str = _key(
        "rooms:1000:100",
        "Data set that selects the best model, or holdout:SHARE, e.g. holdout:0.1, which takes "
        "that share out of the training set.",
    )
    size: tuple[int, int] = _key(
        (240, 320), "[height, width] in pixels of the crops and of rendered rooms."
    )
    batch: int = _key(
        8, "Frames per iteration, over all processes and accumulation steps.", least=1
    )
    accumulate: int = _key(
        1,
        "Number of parts in which a process computes its share of a batch, to save memory. It only "
        "affects batch norms, which see one part at a time.",
        least=1,
    )
    iterations: int = _key(3000, "Length of the run in iterations.", least=1)
    optimizer: Optimizer = _key("adamw", "Optimizer: adamw or sgd.", choices=Optimizer)
    lr: float = _key(5e-4, "Highest learning rate.", least=0)
    trunk_lr: float = _key(
        1.0,
        "Factor of the learning rate for the ResNet trunk without the projectors and generators of "
        "its S-Convs.",
        least=0,
    )
    guidance_lr: float = _key(
        1.0,
        "Factor of the learning rate for the projectors and generators of the S-Convs, whose "
        "offsets start at 0.",
        least=0,
    )
    weight_decay: float = _key(
        1e-2, "Weight decay of kernels. Norms and biases are not decayed.", least=0
    )
    momentum: float = _key(0.9, "Momentum of sgd.", least=0, below=1)
    schedule: Schedule = _key(
        "poly", "Decay of the learning rate to 0: poly (power 0.9) or cosine.", choices=Schedule
    )
    warmup: int = _key(100, "Iterations in which the learning rate rises to lr.", least=0)
    clip: float = _key(5.0, "Largest norm of the gradient; 0 turns clipping off.", least=0)
    ema: float = _key(
        0.998,
        "Decay of the averaged weights, which are validated and saved instead of the trained ones. "
        "It is smaller in the first iterations; 0 turns averaging off.",
        least=0,
        below=1,
    )
    precision: Precision = _key(
        "fp32",
        "Arithmetic of the network: fp32, bf16, or fp16 with scaled gradients (GPU). Layers that "
        "read the geometry stay in fp32.",
        choices=Precision,
    )
    class_balance: float = _key(
        0.5, "β in the class weights frequency^−β; 0 weights all classes equally.", least=0
    )
    label_smoothing: float = _key(
        0.0, "Share of the target that is spread over all classes, in [0, 1).", least=0, below=1
    )
    aux_weight: float = _key(0.4, "Weight of the deep-supervision loss.", least=0)
    label_stride: int = _key(
        2,
        "Compute the loss on about every n-th label of every n-th row, on a grid from corner to "
        "corner to which the logits are upsampled. 2 saves a fifth of the step on a CPU.",
        least=1,
    )
    freeze_bn: FreezeBn = _key(
        "none",
        "Batch norms that keep their initial statistics and factors: none, trunk, or all.",
        choices=FreezeBn,
    )
    sync_bn: bool = _key(False, "Compute batch norms over the whole batch of all processes (GPU).")
    augment: Mapping[str, Any] = _key(
        {},
        "Arguments of `sgnet_core.data.transforms.Augmentation`: scale, flip, color, blur, noise, "
        "depth_dropout, depth_step, depth_sensor.",
    )
    seed: int = _key(0, "Seed of weights, order of the data, augmentation and dropout.", least=0)
    deterministic: bool = _key(
        False,
        "Use only operations that give the same bits every time. On a GPU, PyTorch warns about "
        "operations that have no such form.",
    )
    loss_bound: float = _key(
        10.0,
        "Stop the run at a loss above this many times its running average (or 1, if that is more); "
        "0 turns it off. A loss or gradient that is not finite always stops the run.",
        least=0,
    )
    validate_every: int = _key(250, "Iterations between two validations.", least=1)
    patience: int = _key(
        0,
        "Validations without a better mIoU after which the run ends early; 0 turns it off.",
        least=0,
    )
    checkpoint_every: int = _key(100, "Iterations between two checkpoints.", least=1)
    workers: int = _key(
        1,
        "Processes that load data, per training process; 0 loads data between the steps.",
        least=0,
    )
    input_height: int = _key(
        0,
        "Height to which frames are resized before the network, written into the model file; 0 "
        "keeps their own size.",
        least=0,
    )
    holes: HolePolicy = _key(
        "none",
        "Filling of pixels without depth before the network: none, nearest, or joint_bilateral. It "
        "is written into the model file.",
    )
    depth_range: tuple[float, float] = _key(
        DEPTH_RANGE,
        "[nearest, farthest] meters that count as a measurement, written into the model file.",
    )

    def __post_init__(self) -> None:
        for entry in fields(self):
            _check_limits(entry.name, getattr(self, entry.name), entry.metadata)
        if self.seed > MAX_SEED:
            raise ValueError(f"seed must be at most {MAX_SEED}, got {self.seed}")
        if self.batch % self.accumulate:
            raise ValueError(
                f"batch {self.batch} cannot be divided into {self.accumulate} parts (accumulate)"
            )
        nearest, farthest = self.depth_range
        object.__setattr__(self, "depth_range", (float(nearest), float(farthest)))
        check_depth(self.holes, self.depth_range)
        height, width = (int(pixels) for pixels in self.size)
        if height < 1 or width < 1:
            raise ValueError(f"size must be [height, width] in pixels, got {self.size}")
        object.__setattr__(self, "size", (height, width))
        shares = {str(name): float(share) for name, share in self.mix.items()}
        if any(share <= 0 for share in shares.values()) or sum(shares.values()) >= 1:
            raise ValueError(f"the shares of mix must be above 0 and sum to less than 1: {shares}")
        object.__setattr__(self, "mix", shares)
        augmentation = _checked(self.augment, Augmentation(), "augment")
        Augmentation(**augmentation)
        object.__setattr__(self, "augment", augmentation)

    def to_dict(self) -> dict[str, Any]:
        """Return plain YAML types, which `load_config` reads back."""
        plain: dict[str, Any] = asdict(self)
        plain["size"] = list(self.size)
        plain["depth_range"] = list(self.depth_range)
        if "scale" in plain["augment"]:
            plain["augment"]["scale"] = list(plain["augment"]["scale"])
        return plain


def _check_limits(name: str, value: Any, limits: Mapping[str, Any]) -> None:
    """Raise ValueError unless the value is within the limits given to `_key`."""
    if "choices" in limits and value not in get_args(limits["choices"]):
        raise ValueError(f"{name} must be one of {', '.join(get_args(limits['choices']))}")
    least = limits.get("least")
    if least is not None and not least <= value < math.inf:
        raise ValueError(f"{name} must be finite and at least {least}, got {value}")
    if "below" in limits and not value < limits["below"]:
        raise ValueError(f"{name} must be below {limits['below']}, got {value}")


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a configuration from a YAML file and overrides.

    Args:
        path: the YAML file; None starts from the defaults.
        overrides: ``key=value`` with a YAML value, as in ``lr=1e-3`` or ``size=[240,320]``;
            ``key.entry=value`` sets an entry of a mapping, as in ``augment.flip=0.5``.

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
            raise ValueError(f"{path} must contain a mapping of configuration keys")
        values = _checked(loaded, TrainConfig(), str(path))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ValueError(f"{override!r} is not an override: write key=value")
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
    """Return the values in the types of the fields of the dataclass ``reference``."""
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
    """Convert a YAML value to the type of the default; YAML reads 5e-4 as text."""
    kind = type(default)
    try:
        if kind is float and not isinstance(value, bool):
            return float(value)
        if kind is tuple and len(value) == len(default):
            return tuple(_cast(new, old, where) for old, new in zip(default, value, strict=True))
    except (TypeError, ValueError):
        pass
    bool_for_int = kind is int and isinstance(value, bool)
    if kind is not tuple and isinstance(value, kind) and not bool_for_int:
        return value
    wanted = f"like {list(default)}" if kind is tuple else f"of type {kind.__name__}"
    raise ValueError(f"{where} must be {wanted}, got {value!r}")
