"""The Triton kernels, compiled for GPUs that need not be there, fit into them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton comes with PyTorch's CUDA builds")
TOOL = Path(__file__).parents[3] / "tools" / "kernel_resources.py"
SMALLEST_SHARED_KB = 99
"""Shared memory of a block on Ampere's and Ada's smaller chips."""


ATOMIC = """
import kernel_resources
for kernel in kernel_resources.kernels():
    if kernel.name == "nearest" or kernel.name.startswith("gradient") and "bf16" in kernel.name:
        code = kernel_resources.compiled(kernel, 90).asm["ptx"]
        print(kernel.name, code.count(".relaxed."), code.count(".acq_rel."))
"""


def compile_kernels(*arguments: str) -> list[list[str]]:
    """Run Python beside the tool and return the words of its lines."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=TOOL.parent,
        capture_output=True,
        text=True,
    )
    assert done.stdout, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_no_atomic_operation_orders_other_accesses_to_memory() -> None:
    """Otherwise each would wait for all earlier ones and empty the first-level cache."""
    rows = compile_kernels("-c", ATOMIC)
    assert len(rows) == 3
    for *_, relaxed, ordered in rows:
        assert int(relaxed) > 0 and int(ordered) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("capability", "spilled_bytes"), [(90, 0), (80, 40)])
def test_no_kernel_spills_registers_or_needs_more_memory_than_there_is(
    capability: int, spilled_bytes: int
) -> None:
    rows = compile_kernels(os.fspath(TOOL), "--capability", str(capability))[1:]
    assert len(rows) == 40
    for *_, registers, spilled, shared in rows:
        assert 16 <= int(registers) <= 255
        assert int(spilled) <= spilled_bytes
        assert float(shared) <= SMALLEST_SHARED_KB
