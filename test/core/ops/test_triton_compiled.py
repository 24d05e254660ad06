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


@pytest.mark.slow
@pytest.mark.parametrize(("capability", "spilled_bytes"), [(90, 0), (80, 8)])
def test_no_kernel_spills_registers_or_needs_more_memory_than_there_is(
    capability: int, spilled_bytes: int
) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, os.fspath(TOOL), "--capability", str(capability)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert len(rows) == 40, done.stdout + done.stderr
    for *_, registers, spilled, shared in rows:
        assert 16 <= int(registers) <= 255
        assert int(spilled) <= spilled_bytes
        assert float(shared) <= SMALLEST_SHARED_KB
