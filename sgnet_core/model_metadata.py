"""What a model file says about its model beside the weights: strings, in every file format.

``format`` ("sgnet"), ``format_version``, and as JSON ``config`` (architecture and spatial input),
``name``, ``labels``, ``normalization``, ``input_height`` and ``training``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sgnet_core.model_file import FORMAT, FORMAT_VERSION
from sgnet_core.model_info import ModelInfo
from sgnet_core.network import SGNet, SGNetConfig


def to_metadata(model: SGNet) -> dict[str, str]:
    """The metadata of a model; `from_metadata` reads it back."""
    entries: dict[str, Any] = {"config": model.config.to_dict(), **model.info.to_dict()}
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **{key: json.dumps(value, allow_nan=False) for key, value in entries.items()},
    }


def from_metadata(metadata: Mapping[str, str]) -> tuple[SGNetConfig, ModelInfo]:
    """Architecture and description.

    Raises:
        ValueError: not the metadata of an SGNet model, of another version, or incomplete.
    """
    if metadata.get("format") != FORMAT:
        raise ValueError("not an SGNet model")
    version = metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(
            f"written in format version {version}; this program reads {FORMAT_VERSION}"
        )
    try:
        entries = {
            key: json.loads(value)
            for key, value in metadata.items()
            if key not in ("format", "format_version")
        }
        return SGNetConfig.from_dict(entries["config"]), ModelInfo.from_dict(entries)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"wrong metadata: {error!r}") from error
