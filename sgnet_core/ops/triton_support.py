"""Test whether a GPU runs the Triton kernels.

Triton is optional; PyTorch's CUDA builds install it. Without it, or on a GPU where the kernel fails
its self-test, torchvision's operator is used.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os

import torch

_log = logging.getLogger(__name__)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def fused_runs_on(device: torch.device, gradients: bool = False) -> bool:
    """Return True if the Triton kernels run on this GPU. The first call tests and logs it.

    The environment variable ``SGNET_TRITON=0`` switches them off.

    Args:
        device: the GPU.
        gradients: test the kernels for gradients too, which only training needs.

    Raises:
        RuntimeError: the self-test made the GPU unusable for this process.
    """
    return _test(device, gradients)


@functools.cache
def _test(device: torch.device, gradients: bool) -> bool:
    if os.environ.get("SGNET_TRITON") == "0":
        _log.warning("deformable convolution on %s: torchvision (SGNET_TRITON=0)", device)
        return False
    if torch.cuda.get_device_capability(device) < (8, 0):
        _log.info("deformable convolution on %s: torchvision; Triton needs Ampere", device)
        return False
    if importlib.util.find_spec("triton") is None:
        _log.warning(
            "deformable convolution on %s: torchvision, several times slower than the fused "
            "kernel: pip install triton",
            device,
        )
        return False
    try:
        from sgnet_core.ops.triton_deform import self_test

        error = self_test(device, gradients)
    except Exception as failure:  # the compiler can raise any type
        _check_usable(device)
        _log.warning(
            "deformable convolution on %s: torchvision; Triton failed: %s", device, failure
        )
        return False
    if error > 2e-2:
        _log.warning(
            "deformable convolution on %s: torchvision; the fused kernel is off by %g",
            device,
            error,
        )
        return False
    what = "fused Triton kernels with gradients" if gradients else "fused Triton kernel"
    _log.info("deformable convolution on %s: %s", device, what)
    return True


def _check_usable(device: torch.device) -> None:
    """Raise RuntimeError if a failed kernel made the GPU unusable for this process."""
    try:
        torch.zeros(1, device=device).item()
    except RuntimeError as error:
        raise RuntimeError(
            f"the self-test of the Triton kernel made {device} unusable for this process: restart "
            "it with SGNET_TRITON=0 in the environment"
        ) from error
