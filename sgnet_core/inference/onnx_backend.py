"""Run exported models with ONNX Runtime."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgnet_core.geometry.spatial import NEEDS_INTRINSICS, SPATIAL_CHANNELS
from sgnet_core.inference.onnx_session import open_session
from sgnet_core.models.metadata import from_metadata
from sgnet_core.models.model_file import ModelFileError


class OnnxNetwork:
    """An exported model (`sgnet_core.export`): uint8 image and depth in, logits out.

    Args:
        path: ``.onnx`` file.
        device: device that it runs on.
        half: let TensorRT compute in fp16.

    Attributes:
        config: architecture of the network.
        info: label set, normalization and training record.

    Raises:
        ModelFileError: the file is missing, damaged or not an SGNet model, or ONNX Runtime is
            missing, too old for the file or not built for the device.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        device: str | torch.device = "cpu",
        half: bool = False,
    ) -> None:
        self._device = torch.device(device)
        self._session, metadata = open_session(path, self._device, half)
        try:
            self.config, self.info = from_metadata(metadata)
        except ValueError as error:
            raise ModelFileError(
                f"{path}: {error}; export the model with python -m sgnet_core.export"
            ) from error

    def inputs(
        self,
        image: Tensor,
        meters: Tensor,
        intrinsics: Tensor | None = None,
        up: Tensor | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """Make the inputs of the graph for frames.

        Args:
            image: (B, 3, H, W) RGB 0..255, uint8 or float32.
            meters: (B, 1, H, W) float32 depth from `sgnet_core.models.preprocess.usable_depth`.
            intrinsics: (B, 4) fx, fy, cx, cy; needed by models guided by 3D coordinates or HHA.
            up: (B, 3) direction against gravity in the camera frame, for HHA; None estimates it.

        Raises:
            ValueError: intrinsics are missing where they are needed.
        """
        kind = self.config.spatial
        if image.is_floating_point():
            image = image.round().to(torch.uint8)
        inputs = {"rgb": _numpy(image.permute(0, 2, 3, 1))}
        if kind in NEEDS_INTRINSICS and intrinsics is None:
            raise ValueError(
                f"spatial input {kind!r} needs the camera's intrinsics (fx, fy, cx, cy)"
            )
        if SPATIAL_CHANNELS[kind]:
            inputs["depth"] = _numpy(meters[:, 0])
        if kind in NEEDS_INTRINSICS and intrinsics is not None:
            inputs["intrinsics"] = _numpy(intrinsics.float()).reshape(-1, 4)
        if kind == "hha":
            inputs["up"] = np.zeros((len(image), 3), np.float32) if up is None else _numpy(up)
        return inputs

    def logits(
        self,
        image: Tensor,
        meters: Tensor,
        intrinsics: Tensor | None = None,
        up: Tensor | None = None,
    ) -> Tensor:
        """Compute class scores at the stride of the head; arguments are those of `inputs`.

        Returns:
            (B, C, h, w) float32, on the device of the network.
        """
        inputs = self.inputs(image, meters, intrinsics, up)
        (result,) = self._session.run(["logits"], inputs)
        return torch.from_numpy(np.asarray(result)).to(self._device)


def _numpy(tensor: Tensor) -> npt.NDArray[Any]:
    """Return a contiguous NumPy array on the host."""
    return tensor.contiguous().cpu().numpy()
