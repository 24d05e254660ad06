"""SGNet: real-time RGB-D semantic segmentation steered by geometry."""

from sgnet_core.camera import Intrinsics
from sgnet_core.labels import LabelSet
from sgnet_core.model_file import ModelFileError, default_model_path, load_model, save_model
from sgnet_core.network import MODELS, SGNet, SGNetConfig, create_model
from sgnet_core.sconv import SConv2d
from sgnet_core.segmenter import Prediction, Segmenter

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
