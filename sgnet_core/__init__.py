"""SGNet: real-time RGB-D semantic segmentation steered by geometry."""

from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.inference.segmenter import Prediction, Segmenter
from sgnet_core.models.labels import LabelSet
from sgnet_core.models.model_file import ModelFileError, default_model_path, load_model, save_model
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
