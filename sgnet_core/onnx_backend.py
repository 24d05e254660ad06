"""Runs exported models with ONNX Runtime, on the CPU."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgnet_core.model_file import ModelFileError
from sgnet_core.model_metadata import from_metadata
from sgnet_core.spatial import NEEDS_INTRINSICS, SPATIAL_CHANNELS

INSTALL = "pip install 'sgnet_ros[onnx]'"


class OnnxNetwork:
    """An exported model (`sgnet_core.export`): uint8 image and depth in, logits out.

    Args:
        path: of an ``.onnx`` file.

    Attributes:
        config: the architecture it was exported from.
        info: label set, normalisation and training record.

    Raises:
        ModelFileError: the file is missing, damaged or no SGNet model, or ONNX Runtime is missing
            or too old for it; the message names the file and the remedy.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            import onnx
            import onnxruntime
        except ImportError as error:
            raise ModelFileError(f"{path}: needs {error.name}: {INSTALL}") from error
        if not os.path.isfile(path):
            raise ModelFileError(f"{path}: does not exist; name a model file")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        try:
            model = onnx.load(path, load_external_data=False)
            # The labels are made here, at the camera's size. Without that output ONNX Runtime drops
            # the graph's own upsampling and argmax, which it would compute unasked.
            for output in list(model.graph.output):
                if output.name != "logits":
                    model.graph.output.remove(output)
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's exceptions have no common public base
            version = onnxruntime.__version__
            raise ModelFileError(
                f"{path}: damaged, not an ONNX model, or too new for ONNX Runtime {version} "
                f"({INSTALL}): {error}"
            ) from error
        try:
            metadata = self._session.get_modelmeta().custom_metadata_map
            self.config, self.info = from_metadata(metadata)
        except ValueError as error:
            raise ModelFileError(
                f"{path}: {error}; export the model with python -m sgnet_core.export"
            ) from error

    def inputs(
        self,
        image: Tensor,
        metres: Tensor,
        intrinsics: Tensor | None = None,
        up: Tensor | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """The graph's inputs for a frame.

        Args:
            image: (B, 3, H, W) uint8 RGB.
            metres: (B, 1, H, W) float32 depth, its holes filled as the model wants it
                (`sgnet_core.network_input.usable_depth`).
            intrinsics: (B, 4) fx, fy, cx, cy; needed where the model is steered by 3D coordinates
                or HHA.
            up: (B, 3) against gravity in the camera frame, for HHA; None estimates it.

        Raises:
            ValueError: intrinsics are missing where they are needed.
        """
        kind = self.config.spatial
        inputs = {"rgb": image.permute(0, 2, 3, 1).contiguous().numpy()}
        if kind in NEEDS_INTRINSICS and intrinsics is None:
            raise ValueError(
                f"spatial input {kind!r} needs the camera's intrinsics (fx, fy, cx, cy)"
            )
        if SPATIAL_CHANNELS[kind]:
            inputs["depth"] = metres[:, 0].contiguous().numpy()
        if kind in NEEDS_INTRINSICS and intrinsics is not None:
            inputs["intrinsics"] = intrinsics.float().numpy().reshape(-1, 4)
        if kind == "hha":
            inputs["up"] = np.zeros((len(image), 3), np.float32) if up is None else up.numpy()
        return inputs

    def logits(
        self,
        image: Tensor,
        metres: Tensor,
        intrinsics: Tensor | None = None,
        up: Tensor | None = None,
    ) -> Tensor:
        """Class scores of a frame, as `inputs` takes it, at the head's stride.

        Returns:
            (B, C, h, w) float32.
        """
        inputs = self.inputs(image, metres, intrinsics, up)
        (result,) = self._session.run(["logits"], inputs)
        return torch.from_numpy(np.asarray(result))
