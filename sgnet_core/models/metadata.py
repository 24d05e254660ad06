"""Metadata of a model file: strings by key, the same in safetensors and ONNX files.

``format`` is "sgnet" and ``format_version`` "1". The other values are JSON: ``config``
(`SGNetConfig`) and the fields of `ModelInfo`; ``holes`` and ``depth_range`` may be missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from sgnet_core.models.info import ModelInfo
from sgnet_core.models.sgnet import SGNet, SGNetConfig

FORMAT = "sgnet"
FORMAT_VERSION = "1"
_INFO = ("name", "labels", "normalization", "input_height", "training")
_OPTIONAL = ("holes", "depth_range")  # missing in files of earlier versions


def to_metadata(model: SGNet) -> dict[str, str]:
    """Return the metadata of a model, which `from_metadata` reads back."""
    entries: dict[str, Any] = {"config": model.config.to_dict(), **model.info.to_dict()}
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **{key: json.dumps(value, allow_nan=False) for key, value in entries.items()},
    }


def check_format(metadata: Mapping[str, str]) -> None:
    """Raise ValueError unless the metadata is that of an SGNet model in the current version."""
    if metadata.get("format") != FORMAT:
        raise ValueError("not an SGNet model")
    version = metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(
            f"written in format version {version}; this program reads {FORMAT_VERSION}: "
            "update it, or save the model again"
        )


def from_metadata(metadata: Mapping[str, str]) -> tuple[SGNetConfig, ModelInfo]:
    """Read architecture and description.

    Raises:
        ValueError: the metadata is not that of an SGNet model, of another version, or incomplete,
            or a value is wrong.
    """
    check_format(metadata)
    try:
        config = SGNetConfig.from_dict(_entry(metadata, "config"))
        keys = (*_INFO, *(key for key in _OPTIONAL if key in metadata))
        return config, ModelInfo.from_dict({key: _entry(metadata, key) for key in keys})
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(str(error)) from error


def _entry(metadata: Mapping[str, str], key: str) -> Any:
    """Read one JSON value of the metadata; raise ValueError if it is missing or not JSON."""
    if key not in metadata:
        raise ValueError(f"{key} is missing")
    try:
        return json.loads(metadata[key], parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{key} is not JSON: {error}") from error


def _no_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")
