"""Loading of the model that the parameters name."""

from __future__ import annotations

import os
from collections.abc import Callable

from sgnet_core.inference.device import pick_device
from sgnet_core.inference.onnx_cache import cached_export
from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.models.model_file import ModelFileError, default_model_path
from sgnet_core.models.precision import bf16_is_faster
from sgnet_ros.node.parameters import Settings

_WARM_UP_SIZE = (480, 640)


def load_segmenter(settings: Settings, say: Callable[[str], None]) -> Segmenter:
    """Load and warm up the model.

    On the CPU, ``backend: auto`` runs it in ONNX Runtime if that is installed.

    Args:
        settings: model, device, precision and backend.
        say: called with lines for the log.

    Raises:
        ModelFileError: the model file cannot be used.
        ValueError: this machine cannot run it in this way.
    """
    model = os.path.expanduser(settings.model) or default_model_path()
    segmenter = None
    if _leaves_onnx(settings) and (copy := cached_export(model, say)):
        try:
            segmenter = Segmenter(copy, "cpu")
        except ModelFileError as error:
            say(
                "running the model with PyTorch, because its exported copy is damaged; remove the "
                f"copy: {error}"
            )
    if segmenter is None:
        segmenter = Segmenter(model, settings.device, settings.precision, settings.backend)
    segmenter.warm_up(*_WARM_UP_SIZE)
    return segmenter


def suggestion(segmenter: Segmenter, settings: Settings) -> str:
    """Suggest bf16 if it is faster on the CPU and precision is auto."""
    free = settings.precision == "auto" and settings.backend != "onnx"
    offered = free and not settings.model.endswith(".onnx") and bf16_is_faster(segmenter.device)
    return "; precision:=bf16 would be faster on this CPU" if offered else ""


def _leaves_onnx(settings: Settings) -> bool:
    """Return whether the parameters allow the node to run a PyTorch model in ONNX Runtime."""
    return (
        settings.backend == "auto"
        and settings.precision in ("auto", "fp32")
        and not settings.model.endswith(".onnx")
        and pick_device(settings.device).type == "cpu"
    )
