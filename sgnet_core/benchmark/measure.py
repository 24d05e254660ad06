"""Measure the cases of a group in turns, on new inputs in every round."""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from sgnet_core.models.precision import cpu_entry

LEAST_ROUNDS = 5
"""Number of rounds of a group that exceeds its time limit."""

_QUIET_S = 1.0  # maximum wait for threads to go to sleep


class Timing(NamedTuple):
    """Seconds and memory of one run.

    Attributes:
        seconds: duration.
        memory_mb: memory of the process that ran it, as in `Record`.
    """

    seconds: float
    memory_mb: float


@dataclass(frozen=True)
class Case:
    """One implementation of the task of a group.

    Attributes:
        name: name, unique in its group.
        run: function of the inputs from `Group.fresh`. If it returns a `Timing`, that is recorded
            instead of its duration.
        reference: name of the case with which it is compared; its own name for a reference.
        bytes: minimum of bytes to read and write (weights, inputs, outputs); 0 if unknown.
        dtype: type of the arithmetic.
    """

    name: str
    run: Callable[[Any], object]
    reference: str
    bytes: int = 0
    dtype: str = "float32"


@dataclass(frozen=True)
class Group:
    """Cases that compute the same from the same inputs.

    Attributes:
        suite: name of the suite.
        shape: shape of the input, e.g. "1x3x240x320".
        fresh: function that makes new inputs.
        cases: cases to measure in turns.
        training: compute with gradients.
        recorded_calls: on a GPU, number of calls in the CUDA graph that is timed, so that kernels
            are not timed together with their launches from Python; 0 times a plain call.
    """

    suite: str
    shape: str
    fresh: Callable[[], Any]
    cases: Sequence[Case]
    training: bool = False
    recorded_calls: int = 0


@dataclass(frozen=True)
class Record:
    """One line of the result.

    Attributes:
        suite, name, device, dtype, shape: the measured case.
        threads: CPU threads that PyTorch and ONNX Runtime may use.
        p50_ms, p95_ms: median and 95th percentile in milliseconds.
        spread_ms: difference between the third and the first quartile.
        rounds: number of measured values.
        reference: name of the case with which it is compared.
        ratio: p50_ms divided by that of the reference.
        gflop: 10⁹ operations of convolutions and matrix products; None if not counted.
        traffic_mb: minimum traffic in 10⁶ bytes; None if not counted.
        floor_ms: lower bound on this device: the time of the operations at the rate of a matrix
            product, or of the traffic at the rate of a copy, whichever is longer; None if not
            counted.
        memory_mb: peak of the device memory on a GPU; resident memory of the process on the CPU.
        machine: name of the device, its rates, and software versions.
        date: day of the measurement, ISO 8601.
    """

    suite: str
    name: str
    device: str
    dtype: str
    shape: str
    threads: int
    p50_ms: float
    p95_ms: float
    spread_ms: float
    rounds: int
    reference: str
    ratio: float
    gflop: float | None
    traffic_mb: float | None
    floor_ms: float | None
    memory_mb: float
    machine: str
    date: str


@dataclass(frozen=True)
class Machine:
    """The measured device and its rates.

    Attributes:
        device: the device.
        dtype: type in which networks run: float16 on a GPU, else float32.
        copy_rate: bytes read and written per second by a copy larger than the caches.
        matmul_rate: operations per second of a matrix product in ``dtype``.
    """

    device: torch.device
    dtype: str
    copy_rate: float
    matmul_rate: float

    @classmethod
    def measure(cls, device: torch.device) -> Machine:
        """Time copies of 64 MB and products of 1024² matrices; on a GPU, 1 GB and 8192²."""
        cuda = device.type == "cuda"
        dtype, side = (torch.float16, 8192) if cuda else (torch.float32, 1024)
        source = torch.rand(1 << (28 if cuda else 24), device=device)
        target, square = torch.empty_like(source), torch.rand(side, side, device=device).to(dtype)
        copy = min(_time(lambda: target.copy_(source), device) for _ in range(10))
        product = min(_time(lambda: square @ square, device) for _ in range(10))
        name = str(dtype).removeprefix("torch.")
        return cls(device, name, 2 * source.nbytes / copy, 2 * side**3 / product)

    def floor_ms(self, flops: int, traffic: int) -> float:
        """Return the lower bound in milliseconds for operations and bytes, as in `Record`."""
        return 1000 * max(flops / self.matmul_rate, traffic / self.copy_rate)

    def __str__(self) -> str:
        versions = [f"torch {torch.__version__}"]
        for package in ("onnxruntime", "triton"):
            try:
                versions.append(f"{package} {importlib.metadata.version(package)}")
            except importlib.metadata.PackageNotFoundError:
                continue
        return (
            f"{_device_name(self.device)}, {torch.get_num_threads()} CPU threads, "
            f"{', '.join(versions)}; copy {self.copy_rate / 1e9:.1f} GB/s, {self.dtype} matrix "
            f"product {self.matmul_rate / 1e9:.0f} GFLOP/s"
        )


def measure(
    group: Group, machine: Machine, repeats: int, warm_up: int, limit_s: float = math.inf
) -> list[Record]:
    """Measure all cases of a group in turns.

    Idle worker threads spin for a while, which would slow down the next case. So each case starts
    when they sleep, as they do between the frames of a camera.

    Args:
        group: cases to measure.
        machine: device to measure on.
        repeats, warm_up: numbers of measured rounds, and of rounds before those.
        limit_s: seconds after which measuring ends when there are `LEAST_ROUNDS` rounds; the first
            round, in which kernels are compiled, does not count.

    Returns:
        One record per case, in order.
    """
    seconds: dict[str, list[float]] = {case.name: [] for case in group.cases}
    memory: dict[str, float] = {}
    inputs = None
    with torch.inference_mode(not group.training):
        for counts in _rounds(f"{group.suite} {group.shape}", repeats, warm_up, limit_s):
            inputs = group.fresh()
            for case in group.cases:
                come_to_rest()
                timing = run_timed(partial(case.run, inputs), machine.device, group.recorded_calls)
                memory[case.name] = timing.memory_mb
                if counts:
                    seconds[case.name].append(timing.seconds)
        p50 = {name: median(values) * 1000 for name, values in seconds.items()}
        records = []
        for case in group.cases:
            ordered = sorted(seconds[case.name])
            gflop = floor = None
            if case.bytes:
                flops = count_flops(partial(case.run, inputs))
                gflop = round(flops / 1e9, 4)
                if case.dtype == machine.dtype:
                    floor = round(machine.floor_ms(flops, case.bytes), 4)
            record = Record(
                suite=group.suite,
                name=case.name,
                device=machine.device.type,
                dtype=case.dtype,
                shape=group.shape,
                threads=torch.get_num_threads(),
                p50_ms=round(p50[case.name], 3),
                p95_ms=round(1000 * _at(ordered, 0.95), 3),
                spread_ms=round(1000 * (_at(ordered, 0.75) - _at(ordered, 0.25)), 3),
                rounds=len(ordered),
                reference=case.reference,
                ratio=round(p50[case.name] / p50[case.reference], 3),
                gflop=gflop,
                traffic_mb=case.bytes / 1e6 or None,
                floor_ms=floor,
                memory_mb=round(memory[case.name], 1),
                machine=str(machine),
                date=datetime.date.today().isoformat(),
            )
            records.append(record)
    return records


def count_flops(run: Callable[[], object]) -> int:
    """Return the operations of a call's convolutions and matrix products; a product counts 2."""
    from torch.utils.flop_counter import FlopCounterMode  # loads torch's compiler

    formulas = {}
    if hasattr(torch.ops.sgnet, "deform_conv"):  # the Triton kernel has been loaded
        formulas[torch.ops.sgnet.deform_conv] = _deformable_flops
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        run()
    return int(counter.get_total_flops())


def _deformable_flops(
    x: Sequence[int], offset: Sequence[int], weight: Sequence[int], *_: object, **__: object
) -> int:
    """Return the operations of a plain convolution of the same shapes."""
    return 2 * x[0] * math.prod(weight) * math.prod(offset[2:])


def _rounds(title: str, repeats: int, warm_up: int, limit_s: float) -> Iterator[bool]:
    """Yield True for each measured round, False for each round of the warm-up."""
    start = time.perf_counter()
    with tqdm(total=warm_up + repeats, desc=title, leave=False) as bar:
        for i in range(warm_up):
            if i == 0 or time.perf_counter() - start < limit_s / 5:
                yield False
            if i == 0:
                start = time.perf_counter()
            bar.update()
        for i in range(repeats):
            if i >= LEAST_ROUNDS and time.perf_counter() - start > limit_s:
                break
            yield True
            bar.update()


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def come_to_rest() -> None:
    """Wait until the threads of this process sleep, at most one second."""
    deadline = time.perf_counter() + _QUIET_S
    while time.perf_counter() < deadline:
        before = time.process_time()  # of all threads
        time.sleep(0.01)
        if time.process_time() - before < 0.002:
            return


def run_timed(run: Callable[[], object], device: torch.device, recorded_calls: int = 0) -> Timing:
    """Time one call, or return the `Timing` that the call returns.

    Args:
        run: the call.
        device: device that it runs on.
        recorded_calls: as in `Group`.
    """
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    if cuda and recorded_calls:
        seconds = _timed(record(run, device, recorded_calls).replay, device)[0] / recorded_calls
        return Timing(seconds, memory_mb(device))
    seconds, result = _timed(run, device)
    return result if isinstance(result, Timing) else Timing(seconds, memory_mb(device))


def record(run: Callable[[], object], device: torch.device, calls: int) -> torch.cuda.CUDAGraph:
    """Record a number of calls as one CUDA graph, and replay it once."""
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run()  # compiles the kernels, which is impossible while recording
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for _ in range(calls):
                run()
        graph.replay()
    return graph


def _timed(run: Callable[[], object], device: torch.device) -> tuple[float, object]:
    """Return the seconds of a call and its result; a GPU measures them with its own clock."""
    if device.type != "cuda":
        start = time.perf_counter()
        result = run()
        return time.perf_counter() - start, result
    torch.cuda.synchronize(device)
    with torch.cuda.device(device):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        result = run()
        end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000, result


def _time(run: Callable[[], object], device: torch.device) -> float:
    return _timed(run, device)[0]


def memory_mb(device: torch.device) -> float:
    """Return the memory as defined by `Record`, or NaN if the system does not report it."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux
        return math.nan
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return cpu_entry("model name") or platform.processor() or platform.machine()
