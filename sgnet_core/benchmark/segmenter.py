"""Suite ``segmenter``: from NumPy frame to NumPy labels with every available backend.

Each backend runs in a separate process, so that its memory can be measured.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import nn

from sgnet_core.benchmark.measure import Case, Group
from sgnet_core.benchmark.network import SIZES
from sgnet_core.benchmark.process import Subprocess
from sgnet_core.benchmark.runners import FrameArrays, segment, segment_eagerly
from sgnet_core.data.catalog import open_dataset
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.inference.onnx_export import ExportError, export
from sgnet_core.inference.quantization import quantize
from sgnet_core.models.model_file import default_model_path, load_model
from sgnet_core.models.precision import multiplies_bf16

CALIBRATION = "rooms:1:8"
"""Calibration frames; a few are enough, because the ranges do not change the time."""


def segmenter_groups(device: torch.device, quick: bool) -> Iterator[Group]:
    """Make groups of the shipped weights; on a GPU also of SGNet-R101 and its baseline."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        files = {} if quick or device.type != "cpu" else exported(folder)
        default = str(default_model_path())
        models = {f"default, {name}": str(path) for name, path in files.items()}
        if device.type == "cuda" and not quick:
            models |= {"plain_r101": "plain_r101", "sgnet_r101": "sgnet_r101"}
        running = {"default, eager": Subprocess(device, segment_eagerly, default, device)}
        for name, model in {"default, torch": default, **models}.items():
            running[name] = Subprocess(device, segment, model, device)
        if not quick and multiplies_bf16(device):
            running["default, bf16"] = Subprocess(device, segment, default, device, "bf16")
        for each in running.values():
            stack.callback(each.close)
        for height, width in [(64, 96)] if quick else SIZES:
            yield _group(running, device, height, width)


def _group(
    running: Mapping[str, Callable[[FrameArrays], object]],
    device: torch.device,
    height: int,
    width: int,
) -> Group:
    def case(name: str, run: Callable[[FrameArrays], object]) -> Case:
        reference = "plain_r101" if name.endswith("r101") else "default, eager"
        dtype = "float16" if device.type == "cuda" else "float32"
        dtype = {"int8": "int8", "bf16": "bfloat16"}.get(name[-4:], dtype)
        return Case(name, run, reference, dtype=dtype)

    cases = [case(name, run) for name, run in running.items()]
    return Group("segmenter", f"{height}x{width}", partial(random_frame, height, width), cases)


def random_frame(height: int, width: int) -> FrameArrays:
    """Make a smooth random image and depth in meters, as from a camera."""
    coarse = torch.rand(1, 4, max(1, height // 16), max(1, width // 16))
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)[0]
    rgb = (smooth[:3].permute(1, 2, 0) * 255).to(torch.uint8).contiguous().numpy()
    return rgb, (5 * smooth[3]).contiguous().numpy(), Intrinsics.from_fov(width, height, 60)


def export_default(folder: Path) -> Path | None:
    """Export the default model; return None and print the reason if that fails."""
    path = folder / "default.onnx"
    try:
        export(load_model(default_model_path()), path)
    except ExportError as error:
        print(f"without ONNX: {error}", file=sys.stderr)
        return None
    return path


def exported(folder: Path) -> dict[str, Path]:
    """Export the default model as "onnx" and "int8"; return {} and print the reason on failure."""
    single, int8 = export_default(folder), folder / "int8.onnx"
    if single is None:
        return {}
    frames, _ = open_dataset(CALIBRATION, SIZES[0])
    quantize(single, int8, frames)
    return {"onnx": single, "int8": int8}
