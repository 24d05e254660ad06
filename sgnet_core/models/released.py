"""Convert the checkpoints that the authors of SGNet released.

The variant is recognized from the checkpoint's keys: plain ResNet-101 baseline, SGNet-R50, -R101
and the ASPP one, with or without the deep-supervision head. Differences in the arithmetic are
folded into the weights, exactly:

- The released norm scales by |γ| + 1e-5, which becomes the weight of the batch norm.
- A released S-Conv adds a bias before its norm, which is subtracted from the mean of the norm.

The number of channels that the S-Convs read tells the spatial input: one is depth; three are HHA or
3D coordinates, between which the caller has to choose.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from torch import Tensor

from sgnet_core.geometry.spatial import SPATIAL_CHANNELS
from sgnet_core.models.info import RELEASED, ModelInfo
from sgnet_core.models.labels import LABEL_SETS, generic_label_set
from sgnet_core.models.resnet import BLOCKS
from sgnet_core.models.sgnet import Head, SGNet, SGNetConfig, Spatial

GAMMA_EPS = 1e-5

_PREFIXES = {
    "conv1.": "trunk.stem.0.",
    "bn1.": "trunk.stem.1.",
    "conv2.": "trunk.stem.3.",
    "bn2.": "trunk.stem.4.",
    "conv3.": "trunk.stem.6.",
    "bn3.": "trunk.stem.7.",
    "layer1.": "trunk.layers.0.",
    "layer2.": "trunk.layers.1.",
    "layer3.": "trunk.layers.2.",
    "layer4.": "trunk.layers.3.",
    "dsn3.3.": "aux_head.4.",
    "dsn3.": "aux_head.",
    "dsn4.3.": "head.4.",
    "dsn4.": "head.",
    "head.0.conv1.1.": "head.pool.0.",
    "head.0.conv1.2.": "head.pool.1.",
    "head.0.conv2.": "head.branches.0.",
    "head.0.conv3.": "head.branches.1.",
    "head.0.conv4.": "head.branches.2.",
    "head.0.conv5.": "head.branches.3.",
    "head.0.bottleneck.": "head.project.",
    "head.1.": "head.classify.",
}
"""Prefixes of released keys → ours; the first that matches is replaced."""

_SCONV_BIAS = re.compile(r"layer\d\.\d+\.conv2\.bias")

_SCONV_PARTS = {
    ".spatial_projector.": ".projector.",
    ".weight_generator1.weight": ".weight_generator.gather",
    ".weight_generator2.": ".weight_generator.to_mask.",
}
"""Released names of an S-Conv's parts, which follow its prefix → ours."""

_LABELS = {len(labels): labels for labels in LABEL_SETS.values()}
"""Label sets by size: released checkpoints do not name their classes."""


def convert_state_dict(
    state: Mapping[str, Tensor],
    training: Mapping[str, Any] | None = None,
    spatial: Spatial | None = None,
) -> SGNet:
    """Convert a released state dict to a network in evaluation mode.

    Args:
        state: tensors by released key, as `sgnet_core.models.checkpoints.read_checkpoint` returns
            them.
        training: entries for `ModelInfo.training`.
        spatial: spatial input; required where several have the number of channels that is read.

    Raises:
        ValueError: keys or shapes fit none of the released variants, several spatial inputs fit,
            or ``spatial`` does not.
    """
    released = {key: value.float() for key, value in state.items()}
    config = recognize(released, spatial)
    kind = "plain" if config.spatial == "none" else "sgnet"
    name = f"{kind}_r{config.depth}" + ("_aspp" if config.head == "aspp" else "")
    labels = _LABELS.get(config.num_classes) or generic_label_set(config.num_classes)
    info = ModelInfo(name, labels, RELEASED, training=training or {})
    model = SGNet(config, info)
    converted = {_rename(key): value for key, value in _fold(released).items()}
    expected = model.state_dict()
    counters = {k: v for k, v in expected.items() if k.endswith("num_batches_tracked")}
    odd = sorted(set(counters | converted) ^ set(expected))
    if odd:
        more = f" and {len(odd) - 3} more" if odd[3:] else ""
        raise ValueError(
            f"not a released {name}: missing or unexpected: {', '.join(odd[:3])}{more}"
        )
    for key, value in converted.items():
        if value.shape != expected[key].shape:
            raise ValueError(
                f"not a released {name}: {key} has the shape {list(value.shape)} instead of "
                f"{list(expected[key].shape)}"
            )
    model.load_state_dict(counters | converted)
    return model.eval()


def recognize(released: Mapping[str, Tensor], spatial: Spatial | None = None) -> SGNetConfig:
    """Recognize the architecture from released keys and shapes.

    They do not tell the output stride, which is taken to be 16, as in the releases for NYUDv2 and
    SUN RGB-D. Arguments and errors are those of `convert_state_dict`.
    """
    head: Head = "aspp" if "head.1.weight" in released else "fcn"
    classifier = released.get("head.1.weight" if head == "aspp" else "dsn4.3.weight")
    blocks = {key.split(".")[1] for key in released if key.startswith("layer3.")}
    depth = {BLOCKS[50][2]: 50, BLOCKS[101][2]: 101}.get(len(blocks))
    if classifier is None or depth is None:
        raise ValueError(
            "not a released SGNet: dsn4.3.weight and head.1.weight are both missing, or layer3 has "
            f"{len(blocks)} blocks instead of 6 or 23; the first keys are "
            f"{', '.join(list(released)[:3])}"
        )
    projector = released.get("layer1.0.conv2.spatial_projector.0.weight")
    return SGNetConfig(
        depth=depth,
        num_classes=len(classifier),
        spatial="none" if projector is None else _guided_by(projector.shape[1], spatial),
        head=head,
        aux="dsn3.3.weight" in released,
    )


def _guided_by(channels: int, spatial: Spatial | None) -> Spatial:
    kinds: list[Spatial] = [k for k in get_args(Spatial) if SPATIAL_CHANNELS[k] == channels]
    if spatial in kinds:
        return spatial
    if not kinds:
        raise ValueError(f"its S-Convs read {channels} channels, as no known spatial input has")
    reads = f"its S-Convs read {channels} channel{'s' if channels > 1 else ''}"
    if spatial is not None:
        raise ValueError(f"{reads}, but {spatial} has {SPATIAL_CHANNELS[spatial]}")
    if len(kinds) > 1:
        raise ValueError(f"{reads}: choose the spatial input with --spatial: {', '.join(kinds)}")
    return kinds[0]


def _fold(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return equivalent weights for batch norms and for S-Convs without a bias."""
    folded = {}
    for key, value in released.items():
        module, _, name = key.rpartition(".")
        if name == "weight" and f"{module}.running_var" in released:
            value = value.abs() + GAMMA_EPS
        if name == "running_mean" and re.fullmatch(r"layer\d\.\d+\.bn2", module):
            bias = released.get(module.replace("bn2", "conv2.bias"))
            value = value if bias is None else value - bias
        folded[key] = value
    return {key: value for key, value in folded.items() if not _SCONV_BIAS.fullmatch(key)}


def _rename(key: str) -> str:
    for theirs, ours in _PREFIXES.items():
        if key.startswith(theirs):
            key = ours + key.removeprefix(theirs)
            break
    for theirs, ours in _SCONV_PARTS.items():
        key = key.replace(theirs, ours)
    return key
