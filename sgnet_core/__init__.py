"""SGNet: real-time RGB-D semantic segmentation steered by geometry."""

from sgnet_core.camera import Intrinsics
from sgnet_core.labels import LabelSet
from sgnet_core.network import MODELS, SGNet, SGNetConfig, create_model
from sgnet_core.sconv import SConv2d

__all__ = ["MODELS", "Intrinsics", "LabelSet", "SConv2d", "SGNet", "SGNetConfig", "create_model"]
