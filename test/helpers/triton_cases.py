"""The Triton kernels, natively or in Triton's interpreter, and random inputs for them."""

from __future__ import annotations

import importlib.util
import os
from typing import Any
from unittest import mock

import pytest
import torch
import torchvision.ops
from torch import Tensor

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton comes with PyTorch's CUDA builds", allow_module_level=True)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
INTERPRETED = DEVICE.type == "cpu"
# Triton looks at the environment where a function is defined.
with mock.patch.dict(os.environ, {"TRITON_INTERPRET": "1"} if INTERPRETED else {}):
    from sgnet_core.ops import (  # noqa: F401
        triton_argmax,
        triton_deform,
        triton_nearest,
        triton_tiles,
    )

if INTERPRETED:
    from triton.runtime import interpreter

    # Triton's own functions were defined when torchvision imported it.
    for name in ("sum", "max"):
        known = getattr(interpreter.tl, name)
        if not isinstance(known, interpreter.InterpretedFunction):
            setattr(interpreter.tl, name, interpreter.InterpretedFunction(known.fn))

    # NumPy has no bfloat16: the interpreter keeps its bits in integers, and would multiply those.
    _dot = interpreter.InterpreterBuilder.create_dot

    def _dot_of_bfloat16(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        single = interpreter.tl.float32
        a, b = (self.cast_impl(t, single) if t.dtype.is_bf16() else t for t in (a, b))
        return _dot(self, a, b, *rest)

    interpreter.InterpreterBuilder.create_dot = _dot_of_bfloat16

Case = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def random_case(
    batch: int, channels: int, outputs: int, size: tuple[int, int], stride: int, spread: float = 2
) -> Case:
    """Make x, offset, weight, mask, bias in float64; offsets reach beyond the borders."""
    g = torch.Generator().manual_seed(hash((batch, channels, outputs, size, stride)) % 2**31)
    h, w = ((n - 1) // stride + 1 for n in size)
    kind: Any = {"generator": g, "dtype": torch.float64}
    return (
        torch.randn(batch, channels, *size, **kind),
        torch.randn(batch, 18, h, w, **kind) * spread,
        torch.randn(outputs, channels, 3, 3, **kind) / (9 * channels) ** 0.5,
        torch.rand(batch, 9, h, w, **kind),
        torch.randn(outputs, **kind),
    )


def reference(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    stride: int = 1,
    sigmoid: bool = False,
) -> Tensor:
    """Compute the convolution by torchvision's operator."""
    result: Tensor = torchvision.ops.deform_conv2d(
        x, offset, weight, bias, stride=stride, padding=1, mask=mask
    )
    return result.sigmoid() if sigmoid else result
