"""Open exported models in ONNX Runtime: on the CPU, or on a GPU by TensorRT or CUDA."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import torch

from sgnet_core.files import cache_folder
from sgnet_core.models.model_file import ModelFileError

INSTALL = "pip install 'sgnet_ros[onnx]'"
GPU_PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider")
"""GPU providers in order of preference; operators that one lacks run on the next, or on the CPU."""

_CPU = "CPUExecutionProvider"
_log = logging.getLogger(__name__)


def open_session(
    path: str | os.PathLike[str], device: torch.device, half: bool
) -> tuple[Any, Mapping[str, str]]:
    """Open a session that computes the logits of a model; return it and the metadata.

    Args:
        path: ``.onnx`` file written by `sgnet_core.export`.
        device: CPU, or a GPU for which ONNX Runtime is built. For each new input size, TensorRT
            compiles the network for minutes; it stores the result in
            ``$XDG_CACHE_HOME/sgnet/tensorrt``.
        half: TensorRT may compute in fp16.

    Raises:
        ModelFileError: the file is missing or damaged, or ONNX Runtime is missing, too old for the
            file, or cannot use the device.
    """
    try:
        import onnx
        import onnxruntime
        from onnx.utils import Extractor
    except ImportError as error:
        raise ModelFileError(f"{path}: needs {error.name}: {INSTALL}") from error
    if not os.path.isfile(path):
        raise ModelFileError(f"{path}: does not exist; give a model file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    # Threads of ONNX Runtime that wait by spinning would take the cores from PyTorch's threads.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    wanted = providers(path, device, half, onnxruntime.get_available_providers())
    try:
        model = onnx.load(path, load_external_data=False)
        if any(node.op_type == "EPContext" for node in model.graph.node):
            raise ValueError("it contains compiled code, which is not run")
        # `Segmenter` computes the labels at the size of the camera image. ONNX Runtime would also
        # compute those of the file: it runs every node, even if nobody reads its output.
        inputs = [each.name for each in model.graph.input]
        network = Extractor(model).extract_model(inputs, ["logits"])
        session = onnxruntime.InferenceSession(
            network.SerializeToString(), options, providers=wanted
        )
    except Exception as error:  # ONNX Runtime's exceptions have no common public base
        version = onnxruntime.__version__
        raise ModelFileError(
            f"{path}: damaged, not an ONNX model, or too new for ONNX Runtime {version} "
            f"({INSTALL}): {error}"
        ) from error
    found = session.get_providers()[0]
    if found == _CPU and device.type != "cpu":
        raise ModelFileError(
            f"{path}: ONNX Runtime {onnxruntime.__version__} could not start {wanted[0][0]}: "
            "install the versions of CUDA and TensorRT that it was built for, or use device cpu"
        )
    if device.type != "cpu":
        _log.info("%s on %s: ONNX Runtime, %s", path, device, found)
    return session, {entry.key: entry.value for entry in model.metadata_props}


def providers(
    path: str | os.PathLike[str], device: torch.device, half: bool, available: list[str]
) -> list[tuple[str, dict[str, object]]]:
    """Choose ONNX Runtime's execution providers for a device, with their settings.

    Raises:
        ModelFileError: none of the available providers runs on the device.
    """
    if device.type == "cpu":
        return [(_CPU, {})]
    index = device.index or 0
    settings: dict[str, dict[str, object]] = {
        "TensorrtExecutionProvider": {
            "device_id": index,
            "trt_fp16_enable": half,
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": str(cache_folder("tensorrt")),
        },
        "CUDAExecutionProvider": {"device_id": index},
    }
    chosen = [(name, settings[name]) for name in GPU_PROVIDERS if name in available]
    if not chosen:
        raise ModelFileError(
            f"{path}: this ONNX Runtime only runs on the CPU: use device auto or cpu, or install "
            "onnxruntime-gpu (on a Jetson: NVIDIA's build) in its place"
        )
    return [*chosen, (_CPU, {})]
