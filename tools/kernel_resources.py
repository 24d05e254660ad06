"""Compile the Triton kernels for a GPU, which need not be present, and print their resources.

Each kernel and tile has one line: registers per thread, spilled bytes per thread (variables that
did not fit into registers), and kilobytes of shared memory per block.

    python tools/kernel_resources.py                       # compute capability 9.0: H100, H200
    python tools/kernel_resources.py --capability 80
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from sgnet_core.ops import triton_argmax, triton_deform, triton_deform_backward, triton_nearest
from sgnet_core.ops.triton_tiles import Tile, table

TYPES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}


# As at run time, where all memory is channels-last, addresses are multiples of 16, and so are the
# channels of most layers.
CHANNEL_STRIDES = ("weight_channel", "out_channel")
"""Arguments that are 1, which Triton compiles as a constant."""

MULTIPLES = (
    *("channels", "outputs", "weight_output", "weight_position"),
    *("out_split", "out_batch", "out_row", "out_column"),
)
"""Arguments that are multiples of 16, which lets Triton load and store several values at once."""


class Kernel(NamedTuple):
    """A kernel to compile.

    Attributes:
        name: name to print.
        function: Triton function.
        types: Triton types of its arguments; other arguments are int32.
        constants: values of its constant arguments.
        options: number of warps and stages.
    """

    name: str
    function: Any
    types: Mapping[str, str]
    constants: Mapping[str, object]
    options: Mapping[str, int]


class Resources(NamedTuple):
    """Resources of a compiled kernel: registers, spilled bytes, and bytes of shared memory."""

    registers: int
    spilled: int
    shared: int


def kernels() -> Iterator[Kernel]:
    """Yield every kernel with every tile of the table, in all numeric types."""
    for dtype, kind in TYPES.items():
        precisions = ("tf32", "tf32x3") if dtype == torch.float32 else ("tf32",)
        for precision in precisions:
            label = f"{kind} {precision}" if dtype == torch.float32 else kind
            if dtype != torch.bfloat16:  # compiles as float16 does
                for tile in dict.fromkeys(row.tile for row in table(dtype)):
                    yield forward(f"forward {label}", tile, kind, precision)
            yield from backward(label, kind, precision)
    types = {"scores": "*fp32", "labels": "*u8", "confidence": "*u8"}
    types |= {"scale_y": "fp32", "scale_x": "fp32"}
    constants = {"CONFIDENCE": True, "PIXELS": triton_argmax.BLOCK}
    yield Kernel("argmax", triton_argmax._argmax_kernel, types, constants, {})
    types = dict.fromkeys(("boxes", "depth", "nearest"), "*i32")
    constants = {"BOXES": triton_nearest.BLOCK}
    yield Kernel("nearest", triton_nearest._nearest_kernel, types, constants, {})


def forward(name: str, tile: Tile, kind: str, precision: str) -> Kernel:
    """Return the convolution with a tile, with bias and sigmoid if it is not split."""
    whole = tile.splits == 1
    constants = {"STRIDE": 1, "HAS_MASK": True, "HAS_BIAS": whole, "SIGMOID": whole}
    constants |= {"PRECISION": precision, "PIXELS": tile.pixels, "OUTPUTS": tile.outputs}
    constants |= {"CHANNELS": tile.channels, "SPLITS": tile.splits}
    types = dict.fromkeys(("x", "weight", "bias"), f"*{kind}")
    types |= {"offset": "*fp32", "mask": f"*{kind}", "out": f"*{kind}" if whole else "*fp32"}
    options = {"num_warps": tile.warps, "num_stages": tile.stages}
    shown = f"{name} {tile.pixels}x{tile.outputs}x{tile.channels}/{tile.splits}"
    return Kernel(shown, triton_deform._deform_kernel, types, constants, options)


def backward(label: str, kind: str, precision: str) -> Iterator[Kernel]:
    """Yield both kernels of the gradients, with their largest blocks."""
    types = dict.fromkeys(("gradient", "x", "mask", "weight"), f"*{kind}")
    types |= dict.fromkeys(("offset", "to_x", "to_offset", "to_mask", "to_weight"), "*fp32")
    module = triton_deform_backward
    options = {"num_warps": module.WARPS, "num_stages": module.STAGES}
    flags: dict[str, object] = {"STRIDE": 1, "HAS_MASK": True, "PRECISION": precision}
    of_inputs, of_weight = module.INPUTS, module.WEIGHT
    if kind == "fp32":
        of_inputs, of_weight = module.INPUTS_SINGLE, module.WEIGHT_SINGLE
    for name, function, block, more in (
        ("inputs", module._inputs_kernel, of_inputs, {"NEEDS_X": True}),
        ("weight", module._weight_kernel, of_weight, {}),
    ):
        sizes = {"PIXELS": block.pixels, "CHANNELS": block.channels, "OUTPUTS": block.outputs}
        constants = {**flags, **sizes, **more}
        yield Kernel(f"gradient of {name} {label}", function, types, constants, options)


def compiled(kernel: Kernel, capability: int) -> Any:
    """Compile a kernel for a compute capability (90 is 9.0)."""
    names = kernel.function.arg_names
    constants = {**kernel.constants, **{name: 1 for name in names if name in CHANNEL_STRIDES}}
    signature = {n: "constexpr" if n in constants else kernel.types.get(n, "i32") for n in names}
    multiples = [n for n in names if signature[n][0] == "*" or n in MULTIPLES]
    aligned = {(names.index(n),): [["tt.divisibility", 16]] for n in multiples}
    source = ASTSource(kernel.function, signature, constants, aligned)
    target = GPUTarget("cuda", capability, 32)
    return triton.compile(source, target=target, options=dict(kernel.options))


def resources(kernel: Kernel, capability: int) -> Resources:
    """Compile a kernel for a compute capability and return its resources."""
    binary = compiled(kernel, capability)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.asm["cubin"])
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", text)}
    return Resources(found["REG"], found["STACK"] + found["LOCAL"], binary.metadata.shared)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a kernel spills registers."""
    parser = argparse.ArgumentParser(
        prog="python tools/kernel_resources.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--capability", type=int, default=90, help="80, 86, 89, 90 (default)")
    parser.add_argument("--only", default="", metavar="TEXT", help="names contain this")
    args = parser.parse_args(argv)
    worst = 0
    print(f"{'kernel':42} registers  spilled  shared KB")
    for kernel in kernels():
        if args.only in kernel.name:
            found = resources(kernel, args.capability)
            shared = found.shared / 1024
            row = f"{kernel.name:42} {found.registers:9}  {found.spilled:7}  {shared:9.1f}"
            print(row, flush=True)
            worst = max(worst, found.spilled)
    return 1 if worst else 0


if __name__ == "__main__":
    sys.exit(main())
