"""Label frames given as NumPy arrays; all computation runs on the device."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgnet_core.data.depth_units import NO_MEASUREMENT
from sgnet_core.data.images import overlay as draw_overlay
from sgnet_core.geometry.holes import HolePolicy
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.geometry.spatial import NEEDS_INTRINSICS
from sgnet_core.inference.cuda_graph import CudaGraphs
from sgnet_core.inference.device import pick_device
from sgnet_core.inference.frame_labels import frame_labels, labels_of, network_logits, scaled_inputs
from sgnet_core.inference.onnx_backend import OnnxNetwork
from sgnet_core.inference.stage_clock import StageClock
from sgnet_core.inference.transfer import to_device, to_host
from sgnet_core.inference.unlabeling import needed_confidence
from sgnet_core.models.fusion import fuse
from sgnet_core.models.info import ModelInfo
from sgnet_core.models.labels import LabelSet
from sgnet_core.models.model_file import default_model_path, load_model
from sgnet_core.models.precision import cast, pick_precision
from sgnet_core.models.preprocess import network_input, usable_depth
from sgnet_core.models.sgnet import SGNet
from sgnet_core.models.views import input_size, resize_images

BACKENDS = ("auto", "torch", "onnx")


@dataclass(frozen=True)
class Prediction:
    """Labels of one frame, at the size (H, W) of its image.

    Attributes:
        labels: (H, W) uint8 class ids, 0..C-1, or 255 (`IGNORE_ID`) for pixels left unlabeled by
            ``min_confidence`` or ``classes``.
        confidence: (H, W) uint8, the softmax probability of the label times 255, or None.
        scores: (C, H, W) float32 logits, averaged over the scales, or None.
        overlay: (H, W, 3) uint8 RGB, labels drawn over the image, or None.
        stages_ms: milliseconds of "preprocess", "network" and "postprocess". On a GPU, "network"
            includes the spatial input and the labels, "preprocess" only copies and resizes the
            frame, and "postprocess" copies the labels to the host.
    """

    labels: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.uint8] | None
    scores: npt.NDArray[np.float32] | None
    overlay: npt.NDArray[np.uint8] | None
    stages_ms: dict[str, float]


class Segmenter:
    """Labels one frame at a time with a network. Use it from one thread only.

    Args:
        model: a network (it is not changed; a fused copy runs), or the path of a model file,
            ``.safetensors`` or ``.onnx``; None takes the shipped weights.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", …
        precision: numeric type of the network: "fp32", "fp16" (GPU only), "bf16" (faster on CPUs
            for which `bf16_is_faster` is true; torch backend only), or "auto": fp16 on a GPU, else
            fp32.
        backend: "torch", or "onnx" (ONNX Runtime, for ``.onnx`` files, on the CPU, or with TensorRT
            or CUDA on the GPU given by ``device``); "auto" goes by the suffix of the model file.
        input_height: rows to which frames are resized before the network, in place of the number
            in the model file; 0 keeps the size of the frames.

    Attributes:
        model: the network that runs.
        device: device that it runs on.
        backend: "torch" or "onnx".

    Raises:
        ModelFileError: the model file cannot be used.
        ValueError: an unknown device, precision or backend, one that this machine lacks, or a
            backend that does not run this kind of model file.
    """

    model: SGNet | OnnxNetwork

    def __init__(
        self,
        model: SGNet | str | os.PathLike[str] | None = None,
        device: str | torch.device = "auto",
        precision: str = "auto",
        backend: str = "auto",
        input_height: int | None = None,
    ) -> None:
        path = None if isinstance(model, SGNet) else model or default_model_path()
        path = None if path is None else os.path.expanduser(path)
        self.backend = _pick_backend(backend, path)
        if self.backend == "onnx" and device == "auto":
            device = "cpu"
        self.device = pick_device(device)
        dtype = pick_precision(precision, self.device)
        self._graphs: CudaGraphs | None = None
        if path is not None and self.backend == "onnx":
            if dtype == torch.bfloat16:
                raise ValueError("precision bf16 needs a .safetensors model and the torch backend")
            self.model = OnnxNetwork(path, self.device, half=dtype == torch.float16)
            self._set_input_height(input_height)
            return
        if not isinstance(model, SGNet):
            assert path is not None
            model = load_model(path)
        fused = cast(fuse(model), dtype).to(self.device)
        # Channels last is a third faster on the CPU, where S-Convs gather whole pixels.
        self.model = fused.to(memory_format=torch.channels_last)
        self._set_input_height(input_height)
        if self.device.type == "cuda":  # not a bound method, which would keep the segmenter alive
            self._graphs = CudaGraphs(partial(frame_labels, self.model))

    def _set_input_height(self, rows: int | None) -> None:
        if rows is not None:
            if rows < 0:
                raise ValueError(f"input_height must not be negative, got {rows}")
            self.model.info = replace(self.model.info, input_height=rows or None)

    @property
    def info(self) -> ModelInfo:
        """Name, classes, normalization and training record of the model."""
        return self.model.info

    @property
    def labels(self) -> LabelSet:
        """The classes of the masks."""
        return self.model.info.labels

    def warm_up(self, height: int, width: int) -> None:
        """Label empty frames of a size, so that the first real frame is as fast as the others."""
        for _ in range(1 if self._graphs is None else 2):  # the second call records a CUDA graph
            self.segment(
                np.zeros((height, width, 3), np.uint8),
                np.ones((height, width), np.float32),
                Intrinsics.from_fov(width, height, 60),
            )

    def segment(
        self,
        rgb: npt.NDArray[np.uint8],
        depth: npt.NDArray[Any] | Tensor,
        intrinsics: Intrinsics | None = None,
        *,
        depth_scale: float = 0.001,
        up: Sequence[float] | None = None,
        holes: HolePolicy | None = None,
        confidence: bool = False,
        scores: bool = False,
        overlay: float | None = None,
        scales: Sequence[float] = (1.0,),
        min_confidence: float = 0.0,
        classes: Collection[int] | None = None,
    ) -> Prediction:
        """Label every pixel of one frame.

        Args:
            rgb: (H, W, 3) uint8 RGB, any size.
            depth: (H, W), registered to the color image: floating-point meters, or integers in
                units of ``depth_scale``; 0, negative, NaN and infinite mean "no measurement". A
                tensor must be float32 meters on the device, as returned by `meters`.
            intrinsics: camera of the images; needed by models guided by 3D coordinates or HHA.
            depth_scale: meters per unit of integer depth.
            up: (x, y, z) vector against gravity in the camera frame (x right, y down, z forward),
                for example from an IMU, for models guided by HHA; None estimates it.
            holes: policy that fills pixels without a measurement (`sgnet_core.geometry.holes`) at
                the network's input size; None takes the policy that the model was trained with.
            confidence, scores: also return these parts of the `Prediction`.
            overlay: opacity 0..1 of the labels drawn over the image; None draws nothing.
            scales: factors of the network's input size; the scores of several are averaged.
            min_confidence: probability 0..1 below which pixels are left unlabeled.
            classes: ids of the classes that are labeled; None labels all. Pixels of other classes
                stay unlabeled; they do not get the next best class.

        Raises:
            ValueError: an image of the wrong type, sizes that differ, missing intrinsics, an up
                that is not a direction, a scale that is not positive (or, with the onnx backend,
                not 1), an opacity or a min_confidence outside [0, 1], or an id without a class.
            RuntimeError: the network gave NaN or infinite scores.
        """
        size = _check_frame(rgb, depth)
        if not scales or not all(np.isfinite(s) and s > 0 for s in scales):
            raise ValueError(f"scales must be positive numbers, got {scales}")
        if isinstance(self.model, OnnxNetwork) and tuple(scales) != (1.0,):
            raise ValueError("scales other than 1 need a .safetensors model and the torch backend")
        clock = StageClock(self.device)
        with torch.inference_mode():
            frame = self.resized(rgb, depth, intrinsics, depth_scale)
            direction = self._direction(up)
            limits = needed_confidence(len(self.labels), min_confidence, classes)
            needed = None if limits is None else to_device(limits, self.device)
            if self._graphs is not None:
                image, depths, camera = frame
                if (holes or self.info.holes) != "none":  # cannot be recorded: waits for the device
                    depths = usable_depth(self.info, depths, image, holes)
                clock.mark("preprocess")
                # The confidence is always computed; its absence would need a second recording.
                options = {"size": size, "scores": scores, "scales": tuple(scales)}
                results = self._graphs(needed, image, depths, camera, direction, **options)
                clock.mark("network")
            else:
                inputs = self._inputs(*frame, direction, holes, scales)
                clock.mark("preprocess")
                logits = network_logits(self.model, *inputs)
                clock.mark("network")
                results = labels_of(logits, size, confidence or needed is not None, scores, needed)
            if not confidence:
                results = (*results[:2], None, results[3])
            finite, labels, sure, values = (
                None if tensor is None else tensor.numpy() for tensor in to_host(results)
            )
        assert finite is not None and labels is not None
        if not finite:
            raise RuntimeError(
                "the network gave NaN or infinite scores: use precision fp32, or another model"
            )
        drawn = None if overlay is None else draw_overlay(rgb, labels, self.labels, overlay)
        clock.mark("postprocess")
        return Prediction(labels, sure, values, drawn, clock.stages_ms())

    def preprocess(
        self,
        rgb: npt.NDArray[np.uint8],
        depth: npt.NDArray[Any] | Tensor,
        intrinsics: Intrinsics | None = None,
        depth_scale: float = 0.001,
        *,
        up: Sequence[float] | None = None,
        holes: HolePolicy | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the network's input for one frame, at the model's input height.

        Args:
            rgb, depth, intrinsics, depth_scale, up, holes: as in `segment`.

        Returns:
            (1, 3, h, w) normalized RGB (or BGR) and the (1, c', h, w) spatial input or None, both
            float32 on the device.
        """
        frame = self.resized(rgb, depth, intrinsics, depth_scale)
        kind, direction = self.model.config.spatial, self._direction(up)
        return network_input(kind, self.info, *frame, direction, holes)

    def _direction(self, up: Sequence[float] | None) -> Tensor | None:
        """Return ``up`` as (1, 3) on the device; raise ValueError if it is not a direction."""
        if up is None:
            return None
        vector = np.asarray(up, np.float32)
        if vector.shape != (3,) or not np.isfinite(vector).all() or not vector.any():
            raise ValueError(f"up must be three finite numbers that are not all 0, got {up}")
        return to_device(vector, self.device)[None]

    def meters(self, depth: npt.NDArray[Any] | Tensor, depth_scale: float = 0.001) -> Tensor:
        """Convert depth, as in `segment`, to (H, W) float32 meters on the device."""
        if isinstance(depth, Tensor):
            return depth
        numbers = to_device(depth, self.device).float()
        if depth.dtype.kind == "f":
            return numbers
        return torch.where(numbers == NO_MEASUREMENT, 0, numbers * depth_scale)

    def resized(
        self,
        rgb: npt.NDArray[np.uint8],
        depth: npt.NDArray[Any] | Tensor,
        intrinsics: Intrinsics | None = None,
        depth_scale: float = 0.001,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Resize a frame to the model's input height.

        Args:
            rgb, depth, intrinsics, depth_scale: as in `segment`.

        Returns:
            (1, 3, h, w) RGB 0..255, uint8 on the CPU; (1, 1, h, w) float32 meters as measured; and
            (1, 4) fx, fy, cx, cy for a model that needs them, else None.
        """
        height, width = rgb.shape[:2]
        size = input_size(height, width, self.info.input_height)
        image = to_device(rgb, self.device).permute(2, 0, 1)[None]
        meters = self.meters(depth, depth_scale)[None, None]
        image, meters = resize_images(image, meters, size)
        camera = None
        if intrinsics is not None and self.model.config.spatial in NEEDS_INTRINSICS:
            if (intrinsics.height, intrinsics.width) != (height, width):
                raise ValueError(
                    f"the intrinsics are for {intrinsics.width}x{intrinsics.height} images, but "
                    f"the frame is {width}x{height}: use `Intrinsics.resized` or `cropped`"
                )
            camera = intrinsics.resized(size[1], size[0]).parameters()
            camera = to_device(camera.numpy(), self.device)
        return image, meters, camera

    def _inputs(
        self,
        image: Tensor,
        meters: Tensor,
        camera: Tensor | None,
        up: Tensor | None,
        holes: HolePolicy | None,
        scales: Sequence[float],
    ) -> tuple[Tensor | None, ...]:
        """Return the tensors for `network_logits`."""
        if isinstance(self.model, OnnxNetwork):
            return image, usable_depth(self.info, meters, image, holes), camera, up
        return scaled_inputs(self.model, image, meters, camera, up, holes, scales)


def _pick_backend(backend: str, path: str | os.PathLike[str] | None) -> str:
    """Return "torch" or "onnx" for a model file, or for a network in memory (None)."""
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}; got {backend!r}")
    made_for = "onnx" if path is not None and os.fspath(path).endswith(".onnx") else "torch"
    if backend not in ("auto", made_for):
        name = "a network in memory" if path is None else os.fspath(path)
        remedy = "give the .safetensors file that it was exported from"
        if made_for == "torch":
            remedy = "export it with python -m sgnet_core.export and give the .onnx file"
        raise ValueError(f"backend {backend} cannot run {name}: {remedy}")
    return made_for


def _check_frame(rgb: Any, depth: Any) -> tuple[int, int]:
    """Return (H, W) of a frame; raise ValueError for wrong types or shapes."""
    for name, array in (("rgb", rgb), ("depth", depth)):
        if not isinstance(array, np.ndarray | Tensor):
            kind = type(array).__name__
            raise ValueError(f"{name} must be an array, got {kind}: convert it with np.asarray")
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or rgb.size == 0:
        raise ValueError(f"rgb must be (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}")
    if isinstance(depth, Tensor):
        numbers = depth.dtype == torch.float32
    else:
        numbers = depth.dtype.kind in "fiu"
    if depth.ndim != 2 or not numbers:
        raise ValueError(f"depth must be (H, W) numbers, got {depth.shape} {depth.dtype}")
    height, width = rgb.shape[:2]
    if tuple(depth.shape) != (height, width):
        raise ValueError(
            f"rgb is {width}x{height} but depth is {depth.shape[1]}x{depth.shape[0]}: "
            "depth must be registered to the color image"
        )
    return height, width
