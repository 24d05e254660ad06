"""Measure the gain of torch.compile: the fused network with and without it.

The node does not use torch.compile. On a GPU, both networks are timed as CUDA graphs in float16.

    python tools/compile_gain.py --json out/compile.json

Without a GPU, the light network runs on a small frame, as a test of the command.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from sgnet_core.benchmark.__main__ import table
from sgnet_core.benchmark.measure import Case, Group, Machine, Record, measure
from sgnet_core.benchmark.runners import random_inputs, random_model
from sgnet_core.files import atomic_write
from sgnet_core.inference.device import pick_device
from sgnet_core.models.fusion import fuse
from sgnet_core.models.precision import cast

Network = Callable[[Tensor, Tensor], object]


def compare(name: str, size: tuple[int, int], device: torch.device) -> list[Record]:
    """Measure one network on one frame, without and with torch.compile.

    Raises:
        Exception: torch.compile cannot compile the network.
    """
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    fused = cast(fuse(random_model(name, device)), dtype)
    compiled = torch.compile(fused, mode="max-autotune-no-cudagraphs")

    def fresh() -> tuple[Tensor, Tensor]:
        return random_inputs((1, *size), device, dtype)

    start = time.perf_counter()
    with torch.inference_mode():
        expected, got = (run(*inputs).logits for inputs in [fresh()] for run in (fused, compiled))
    difference = (got - expected).abs().max() / expected.abs().max()
    print(f"{name}: compiled in {time.perf_counter() - start:.0f} s, ", end="")
    print(f"logits differ by {difference:.1e} of the largest", flush=True)

    def case(title: str, network: Network) -> Case:
        return Case(
            title,
            lambda inputs: network(*inputs),
            f"{name}, fused",
            dtype=str(dtype).removeprefix("torch."),
        )

    cases = [case(f"{name}, fused", fused), case(f"{name}, compiled", compiled)]
    shape = f"1x3x{size[0]}x{size[1]}"
    group = Group("compile", shape, fresh, cases, recorded_calls=1)
    return measure(group, Machine.measure(device), repeats=20, warm_up=3, limit_s=10)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python tools/compile_gain.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, metavar="F", help="also write the records")
    args = parser.parse_args(argv)
    device = pick_device("auto")
    cuda = device.type == "cuda"
    records: list[Record] = []
    for name in ("sgnet_lite", "sgnet_r101") if cuda else ("sgnet_lite",):
        records += compare(name, (480, 640) if cuda else (64, 96), device)
        print(table(records), flush=True)
        if args.json is not None:
            with atomic_write(args.json) as file:
                file.write(json.dumps([asdict(record) for record in records], indent=1).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
