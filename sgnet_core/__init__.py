"""SGNet: real-time RGB-D semantic segmentation guided by geometry.

Names are imported on first use, so that programs that need no network start without PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sgnet_core.geometry.intrinsics import Intrinsics
    from sgnet_core.inference.segmenter import Prediction, Segmenter
    from sgnet_core.models.labels import LabelSet
    from sgnet_core.models.model_file import (
        ModelFileError,
        default_model_path,
        load_model,
        save_model,
    )
    from sgnet_core.models.sconv import SConv2d
    from sgnet_core.models.sgnet import MODELS, SGNet, SGNetConfig, create_model

__version__ = "0.1.0"

__all__ = [
    "MODELS",
    "Intrinsics",
    "LabelSet",
    "ModelFileError",
    "Prediction",
    "SConv2d",
    "SGNet",
    "SGNetConfig",
    "Segmenter",
    "create_model",
    "default_model_path",
    "load_model",
    "save_model",
]

_MODULES = {
    "geometry.intrinsics": ("Intrinsics",),
    "inference.segmenter": ("Prediction", "Segmenter"),
    "models.labels": ("LabelSet",),
    "models.model_file": ("ModelFileError", "default_model_path", "load_model", "save_model"),
    "models.sconv": ("SConv2d",),
    "models.sgnet": ("MODELS", "SGNet", "SGNetConfig", "create_model"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
