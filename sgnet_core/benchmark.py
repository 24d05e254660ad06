"""How fast everything is, each figure beside its reference: ``python -m sgnet_core.benchmark``.

Suites: ``operator`` (deformable convolution and weight generator), ``network`` (SGNets beside
their plain twins and the plain ways of running them), ``segmenter`` (numpy frame in, numpy labels
out) and ``spatial`` (depth, 3D coordinates and HHA beside a plain convolution). What is compared
runs in turns, on the same fresh random inputs, so that whatever else the machine does meets both; a
ratio below 1 is faster than the reference. Networks have random weights.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from sgnet_core.benchmark_suites import SUITES, Group
from sgnet_core.files import atomic_write


@dataclass(frozen=True)
class Record:
    """One line of the result.

    Attributes:
        suite, name, device, dtype, shape: what was measured.
        threads: that PyTorch and ONNX Runtime may use on the CPU.
        p50_ms, p95_ms: milliseconds, median and 95th percentile.
        reference: name of the case that it is compared with, measured in the same turns.
        ratio: p50_ms over the reference's.
        floor_ms: the device's own limit: the operations at the rate of a matrix product or the
            least traffic at the rate of a copy, whichever takes longer; None if not counted.
        memory_mb: peak of the device memory on a GPU; resident memory of the process on the CPU.
    """

    suite: str
    name: str
    device: str
    dtype: str
    shape: str
    threads: int
    p50_ms: float
    p95_ms: float
    reference: str
    ratio: float
    floor_ms: float | None
    memory_mb: float


@dataclass(frozen=True)
class Machine:
    """The device, with the rates that bound everything on it.

    Attributes:
        device: that everything runs on.
        copy_rate: bytes read and written per second by a copy of 64 MB.
        matmul_rate: float operations per second of a 1024³ float32 matrix product.
    """

    device: torch.device
    copy_rate: float
    matmul_rate: float

    @classmethod
    def measure(cls, device: torch.device) -> Machine:
        source = torch.rand(1 << 24, device=device)
        target, square = torch.empty_like(source), torch.rand(1024, 1024, device=device)
        copy = min(_time(lambda: target.copy_(source), device) for _ in range(10))
        product = min(_time(lambda: square @ square, device) for _ in range(10))
        return cls(device, 2 * source.nbytes / copy, 2 * 1024**3 / product)

    def floor_ms(self, flops: int, traffic: int) -> float:
        return 1000 * max(flops / self.matmul_rate, traffic / self.copy_rate)

    def memory_mb(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e6
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
        except OSError:  # not Linux
            return float("nan")
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _time(run: Callable[[], object], device: torch.device) -> float:
    """Seconds, with the device's work in them."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


@torch.inference_mode()
def measure(group: Group, machine: Machine, repeats: int, warm_up: int) -> list[Record]:
    """All cases of a group, in turns."""
    seconds: dict[str, list[float]] = {case.name: [] for case in group.cases}
    memory: dict[str, float] = {}
    for _ in range(warm_up + repeats):
        inputs = group.fresh()
        for case in group.cases:
            if machine.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(machine.device)
            seconds[case.name].append(_time(partial(case.run, inputs), machine.device))
            memory[case.name] = machine.memory_mb()
    p50 = {name: median(values[warm_up:]) * 1000 for name, values in seconds.items()}
    records = []
    for case in group.cases:
        ordered = sorted(seconds[case.name][warm_up:])
        floor = None
        if case.bytes:
            with FlopCounterMode(display=False) as counter:
                case.run(inputs)
            floor = round(machine.floor_ms(counter.get_total_flops(), case.bytes), 4)
        record = Record(
            suite=group.suite,
            name=case.name,
            device=machine.device.type,
            dtype="float32",
            shape=group.shape,
            threads=torch.get_num_threads(),
            p50_ms=round(p50[case.name], 3),
            p95_ms=round(1000 * ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 3),
            reference=case.reference,
            ratio=round(p50[case.name] / p50[case.reference], 3),
            floor_ms=floor,
            memory_mb=round(memory[case.name], 1),
        )
        records.append(record)
    return records


def table(records: Sequence[Record]) -> str:
    """The records as aligned text, a line each."""
    rows = [("suite", "shape", "name", "p50 ms", "p95 ms", "floor ms", "ratio", "to")]
    for r in records:
        floor = "" if r.floor_ms is None else f"{r.floor_ms:.2f}"
        to = "" if r.reference == r.name else r.reference
        times = (f"{r.p50_ms:.2f}", f"{r.p95_ms:.2f}", floor, f"{r.ratio:.2f}")
        rows.append((r.suite, r.shape, r.name, *times, to))
    widths = [max(len(row[i]) for row in rows) for i in range(8)]
    lines = []
    for row in rows:
        left = (cell.ljust(width) for cell, width in zip(row[:3], widths[:3], strict=True))
        right = (cell.rjust(width) for cell, width in zip(row[3:7], widths[3:7], strict=True))
        lines.append("  ".join((*left, *right, row[7])).rstrip())
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m sgnet_core.benchmark",
        description="Measure operator, networks and Segmenter, each beside its reference. "
        "OMP_NUM_THREADS sets the number of CPU threads.",
    )
    parser.add_argument("--suite", choices=(*SUITES, "all"), default="all")
    parser.add_argument("--quick", action="store_true", help="small sizes, few repeats: seconds")
    parser.add_argument("--json", metavar="F", help="also write the records as a JSON list")
    args = parser.parse_args(argv)
    machine = Machine.measure(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    print(
        f"{_device_name(machine.device)}, {torch.get_num_threads()} CPU threads, torch "
        f"{torch.__version__}; copy {machine.copy_rate / 1e9:.1f} GB/s, matrix product "
        f"{machine.matmul_rate / 1e9:.0f} GFLOP/s"
    )
    records: list[Record] = []
    for group in groups(args.suite, machine.device, args.quick):
        records += measure(group, machine, *((3, 1) if args.quick else (30, 3)))
    print(table(records))
    if args.json:
        try:
            with atomic_write(args.json) as file:
                text = json.dumps([asdict(record) for record in records], indent=1)
                file.write(text.encode() + b"\n")
        except OSError as error:
            parser.exit(2, f"benchmark: cannot write {error.filename}: {error.strerror}\n")
    return 0


def groups(suite: str, device: torch.device, quick: bool) -> Iterator[Group]:
    """The groups of one suite, or of all."""
    for name, make in SUITES.items():
        if suite in (name, "all"):
            yield from make(device, quick)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
