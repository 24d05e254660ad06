"""Loading of the model that the parameters name."""

from __future__ import annotations

from collections.abc import Callable

from sgnet_core.inference.device import pick_device
from sgnet_core.inference.onnx_cache import cached_export
from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.models.model_file import ModelFileError, default_model_path
from sgnet_core.models.precision import bf16_is_faster
from sgnet_ros.node.parameters import Settings

_WARM_UP_SIZE = (480, 640)


def load_segmenter(settings: Settings, log: Callable[[str], None]) -> Segmenter:
    """Load and warm up the model.

    On the CPU, ``backend: auto`` runs it in ONNX Runtime if ONNX Runtime is installed.

    Args:
        settings: model, device, precision and backend.
        log: called with lines for the log.

    Raises:
        ModelFileError: the model file cannot be used.
        ValueError: this machine cannot run the model with these settings.
    """
    model = settings.model or default_model_path()
    segmenter = None
    if _may_run_onnx(settings) and (copy := cached_export(model, log)):
        try:
            segmenter = Segmenter(copy, "cpu")
        except ModelFileError as error:
            log(
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


def _may_run_onnx(settings: Settings) -> bool:
    """Return whether the parameters allow the node to run a PyTorch model in ONNX Runtime."""
    return (
        settings.backend == "auto"
        and settings.precision in ("auto", "fp32")
        and not settings.model.endswith(".onnx")
        and pick_device(settings.device).type == "cpu"
    )
