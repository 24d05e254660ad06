"""Export a model as ONNX, from camera images to labels, for any batch, height and width.

Inputs:

- ``rgb`` (B, H, W, 3) uint8;
- ``depth`` (B, H, W) float32 meters, unless the model is plain. 0, NaN and all values outside the
  metadata's ``depth_range`` mean "no measurement";
- ``intrinsics`` (B, 4) float32 fx, fy, cx, cy in pixels, for models guided by 3D coordinates or
  HHA;
- ``up`` (B, 3) float32 direction against gravity in the camera frame, for HHA; the graph estimates
  it where it is (0, 0, 0).

Outputs: ``labels`` (B, H, W) uint8 class ids, and ``logits`` (B, C, h, w) float32 at the stride of
the head. The metadata is that of a model file. The caller resizes frames to its ``input_height``
and fills holes by its ``holes`` policy.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torchvision.ops  # noqa: F401 - registers its operators for the exporter
from torch import Tensor, nn

from sgnet_core.files import atomic_write
from sgnet_core.geometry.hha import hha
from sgnet_core.geometry.normals import cell_size
from sgnet_core.geometry.points import depth_map
from sgnet_core.geometry.spatial import NEEDS_INTRINSICS, SPATIAL_CHANNELS, spatial_input
from sgnet_core.models.fusion import fuse
from sgnet_core.models.metadata import to_metadata
from sgnet_core.models.sgnet import SGNet
from sgnet_core.ops.resize import resize_maps

OPSET = 19
"""First operator set with DeformConv."""

TOLERANCE = 1e-3
"""Largest allowed difference of a logit, relative to the largest magnitude."""

USUAL_ROWS = 480
"""Rows assumed for models without an input height; the size of HHA's cells depends on them."""

SAME_LABELS = 0.999
"""Minimum share of pixels with the same label as in PyTorch."""

CHECKED_SIZES = ((1, 96, 128), (2, 75, 101))
"""(B, H, W) of the inputs on which the graph is compared; they differ from the traced size."""


class ExportError(RuntimeError):
    """A model that cannot be exported; the message names the file and the remedy."""


class ExportDifference(NamedTuple):
    """Difference between an exported graph and PyTorch.

    Attributes:
        logits: largest difference of a logit.
        scale: largest magnitude of a logit.
        same_labels: share of the pixels with the same label.
    """

    logits: float
    scale: float
    same_labels: float


class Graph(nn.Module):
    """The traced function, from camera images to labels and logits."""

    def __init__(self, model: SGNet) -> None:
        super().__init__()
        self.model = fuse(model).float().cpu()
        self.info = model.info
        self.kind = model.config.spatial
        self.cell = cell_size(model.info.input_height or USUAL_ROWS)

    def forward(
        self,
        rgb: Tensor,
        depth: Tensor | None = None,
        intrinsics: Tensor | None = None,
        up: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Compute labels and logits; the docstring of this module describes the arguments."""
        image, spatial = self.network_input(rgb, depth, intrinsics, up)
        logits: Tensor = self.model(image, spatial).logits
        scores = resize_maps(logits, (rgb.shape[1], rgb.shape[2]))
        return scores.argmax(1).to(torch.uint8), logits

    def network_input(
        self, rgb: Tensor, depth: Tensor | None, intrinsics: Tensor | None, up: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Compute `sgnet_core.models.preprocess.network_input` with fixed HHA cells, unfilled."""
        image = self.info.normalization(rgb.permute(0, 3, 1, 2))
        if depth is None:
            return image, None
        meters = depth_map(depth[:, None], self.info.depth_range)
        if self.kind != "hha" or intrinsics is None or up is None:
            return image, spatial_input(self.kind, meters, intrinsics)
        return image, hha(meters, intrinsics, up, self.cell, up_may_be_zero=True)


def export(model: SGNet, path: str | os.PathLike[str]) -> ExportDifference:
    """Export the model, compare the graph with PyTorch, and write the file.

    Args:
        model: network on any device, in any mode; it is not changed.
        path: ``.onnx`` file to write; an existing file is replaced only by a complete new one.

    Raises:
        ExportError: a package is missing, the export fails, or the graph differs from PyTorch.
        OSError: the file cannot be written.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript
    except ImportError as error:
        raise ExportError(
            f"{path} not written: {error.name} is missing: pip install 'sgnet_ros[onnx]'"
        ) from error
    graph = Graph(model).eval()
    inputs = random_inputs(model, (2, 64, 96), seed=0)
    sizes = {"rgb": (0, 1, 2), "depth": (0, 1, 2), "intrinsics": (0,), "up": (0,)}
    dynamic = torch.export.Dim.DYNAMIC
    shapes = {name: dict.fromkeys(sizes[name], dynamic) for name in inputs}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph,
                kwargs=inputs,
                input_names=list(inputs),
                output_names=["labels", "logits"],
                dynamic_shapes=shapes,
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # several packages raise errors of many types
        raise ExportError(
            f"{path} not written: {model.info.name} cannot be exported with torch "
            f"{torch.__version__}, onnxscript {onnxscript.__version__}: {error}"
        ) from error
    assert program is not None
    proto = program.model_proto
    name_sizes(proto)
    onnx.helper.set_model_props(proto, to_metadata(model))
    content = proto.SerializeToString()
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        difference = compare(model, session)
    except Exception as error:
        raise ExportError(
            f"{path} not written: ONNX Runtime {onnxruntime.__version__} does not run it "
            f"(pip install 'onnxruntime>=1.25'): {error}"
        ) from error
    if difference.logits > TOLERANCE * difference.scale or difference.same_labels < SAME_LABELS:
        raise ExportError(
            f"{path} not written: it differs from PyTorch by {difference.logits:.2g} with logits "
            f"up to {difference.scale:.2g}, {difference.same_labels:.2%} of the labels agree; "
            "use other versions of torch and onnxscript"
        )
    with atomic_write(path) as file:
        file.write(content)
    return difference


def name_sizes(proto: Any) -> None:
    """Name the free dimensions of inputs and outputs."""
    image = ("batch", "height", "width")
    scores = ("batch", "classes", "rows", "columns")
    names = {"rgb": (*image, "channels"), "depth": image, "labels": image, "logits": scores}
    names |= {"intrinsics": ("batch", "values"), "up": ("batch", "xyz")}
    for value in (*proto.graph.input, *proto.graph.output):
        for dimension, name in zip(
            value.type.tensor_type.shape.dim, names[value.name], strict=True
        ):
            if dimension.WhichOneof("value") != "dim_value":
                dimension.dim_param = name


def random_inputs(model: SGNet, size: tuple[int, int, int], seed: int) -> dict[str, Tensor]:
    """Make random inputs of (B, H, W) for the graph: noisy images, depth with holes."""
    batch, height, width = size
    kind = model.config.spatial
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 4, 6, 8, generator=generator)
    smooth = resize_maps(coarse, (height, width))
    noise = torch.rand(batch, height, width, 3, generator=generator)
    inputs = {"rgb": (smooth[:, :3].permute(0, 2, 3, 1) * 200 + noise * 55).to(torch.uint8)}
    depth = 0.5 + 4 * smooth[:, 3]
    depth[torch.rand(depth.shape, generator=generator) < 0.1] = 0
    intrinsics = torch.tensor([[width, width, width / 2, height / 2]]).float().repeat(batch, 1)
    if SPATIAL_CHANNELS[kind]:
        inputs["depth"] = depth
    if kind in NEEDS_INTRINSICS:
        inputs["intrinsics"] = intrinsics
    if kind == "hha":  # unknown in the last image of a batch
        inputs["up"] = torch.tensor([[0.1, -0.9, -0.2]]).repeat(batch, 1)
        inputs["up"][-1] = 0
    return inputs


@torch.inference_mode()
def compare(model: SGNet, session: Any) -> ExportDifference:
    """Compare the graph in an ONNX Runtime session with the model on random inputs."""
    training, device = model.training, next(model.parameters()).device
    model.eval()
    graph = Graph(model)
    worst, scale, same, pixels = 0.0, 0.0, 0, 0
    try:
        for seed, size in enumerate(CHECKED_SIZES, start=1):
            inputs = random_inputs(model, size, seed)
            labels, logits = session.run(["labels", "logits"], as_numpy(inputs))
            optional = (inputs.get(name) for name in ("depth", "intrinsics", "up"))
            image, spatial = graph.network_input(inputs["rgb"], *optional)
            spatial = None if spatial is None else spatial.to(device)
            expected = model(image.to(device), spatial).logits.float()
            best = resize_maps(expected, size[1:]).argmax(1).cpu().numpy()
            expected = expected.cpu().numpy()
            worst = max(worst, float(np.abs(logits - expected).max()))
            scale = max(scale, float(np.abs(expected).max()))
            same, pixels = same + int((labels == best).sum()), pixels + best.size
    finally:
        model.train(training)
    return ExportDifference(worst, scale, same / pixels)


def as_numpy(inputs: Mapping[str, Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    """Convert inputs to NumPy for ONNX Runtime."""
    return {name: tensor.contiguous().numpy() for name, tensor in inputs.items()}
