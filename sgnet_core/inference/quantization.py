"""Quantize the convolutions of an exported model to INT8 for CPUs.

This is static quantization by ONNX Runtime: calibration frames give the ranges of the activations.
The generators of S-Conv, the first and the last convolution, and the sums of residual blocks stay
in float32, because they take little time and would cause most of the error.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torch.utils.data import Subset
from tqdm import tqdm

from sgnet_core.data.loading import ENDLESS, Samples
from sgnet_core.files import atomic_write
from sgnet_core.inference.onnx_backend import OnnxNetwork
from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.models.preprocess import usable_depth

FLOAT = ("stem.0.", "offset_generator", "weight_generator")
"""Parts of the names of weights that are not quantized."""


def quantize(
    source: str | os.PathLike[str], target: str | os.PathLike[str], frames: Samples
) -> None:
    """Write an INT8 version of an exported model.

    Args:
        source: ``.onnx`` file written by `sgnet_core.export`.
        target: file to write; an existing file is replaced only by a complete new one.
        frames: some tens of calibration frames from the domain in which the model will be used.

    Raises:
        ModelFileError: the source is not an exported model, or ONNX Runtime is missing.
        OSError: the file cannot be written.
    """
    segmenter = Segmenter(source, device="cpu")
    import onnx
    from onnxruntime import quantization

    with tempfile.TemporaryDirectory() as folder:
        prepared, result = Path(folder, "prepared.onnx"), Path(folder, "int8.onnx")
        quantization.quant_pre_process(os.fspath(source), prepared, skip_symbolic_shape=True)
        graph = onnx.load(prepared).graph
        convolutions = [node for node in graph.node if node.op_type == "Conv"]
        kept = [n.name for n in convolutions if any(part in n.input[1] for part in FLOAT)]
        level = logging.root.level
        logging.root.setLevel(logging.ERROR)  # hides a warning for every node without a range
        try:
            quantization.quantize_static(
                prepared,
                result,
                CalibrationReader(segmenter, frames),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                op_types_to_quantize=["Conv", "Relu", "MaxPool"],
                nodes_to_exclude=[*kept, convolutions[-1].name],
                extra_options={"ActivationSymmetric": False},
            )
        finally:
            logging.root.setLevel(level)
        model = onnx.load(result)
        original = onnx.load(source, load_external_data=False)
        entries = {entry.key: entry.value for entry in original.metadata_props}
        onnx.helper.set_model_props(model, entries)
        with atomic_write(target) as file:
            file.write(model.SerializeToString())


def split(frames: Samples) -> tuple[Samples, Samples]:
    """Choose up to 64 evenly spaced frames; return three quarters and one quarter of them.

    Raises:
        ValueError: there are fewer than 4 frames.
    """
    count = min(len(frames), 64)
    if count < 4:
        raise ValueError(f"calibration needs at least 4 frames, got {len(frames)}")
    border = count * 3 // 4
    length = len(frames) if len(frames) < ENDLESS else count
    chosen = [i * length // count for i in range(count)]  # neighbors often show the same scene
    dataset = cast(Any, frames)  # the annotation of Subset requires PyTorch's base class
    seen, unseen = Subset(dataset, chosen[:border]), Subset(dataset, chosen[border:])
    return cast(Samples, seen), cast(Samples, unseen)


class CalibrationReader:
    """Calibration frames with the interface of ONNX Runtime's CalibrationDataReader."""

    def __init__(self, segmenter: Segmenter, frames: Samples) -> None:
        self._segmenter, self._frames = segmenter, frames
        self._indices = iter(tqdm(range(len(frames)), "calibration", unit="frame", leave=False))

    def get_next(self) -> Mapping[str, Any] | None:
        """Return the inputs of the next frame, or None at the end."""
        index = next(self._indices, None)
        if index is None:
            return None
        sample, segmenter = self._frames[index], self._segmenter
        assert isinstance(segmenter.model, OnnxNetwork)
        image, meters, camera = segmenter.resized(sample.rgb, sample.depth, sample.intrinsics)
        return segmenter.model.inputs(image, usable_depth(segmenter.info, meters, image), camera)
