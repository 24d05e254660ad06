"""Test and measure everything that runs on a GPU, within minutes: ``make gpu``.

Each part is a command in a process of its own, so that its results remain if another part fails.
After each part, ``report.md`` and ``report.json`` are written again. The output of a part is in
``NAME.log``, the records of a benchmark suite are in ``NAME.json``.

    python tools/gpu_report.py --out out/gpu --minutes 5
    python tools/gpu_report.py --device cpu      # the same parts on the CPU, with small inputs
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SUITES = ("operator", "segmenter", "spatial", "training", "network")
"""Suites of the benchmark; the last one takes as long as it may."""

DEVICE = """
import torch
print("torch", torch.__version__, "CUDA", torch.version.cuda)
print(torch.cuda.get_device_name() if {cuda} else "CPU")
"""

TESTS = (
    "test/core/ops/test_triton.py",
    "test/core/ops/test_triton_gradients.py",
    "test/core/inference/test_cuda_graph.py",
    "test/core/inference/test_segmenter.py",
    "test/core/models/test_precision.py",
    "test/core/data/rooms/test_rooms.py::test_cuda_renders_the_same_frame",
)
"""Tests that use the GPU if there is one."""

TAIL_LINES = 40
SHOWN = ("device", "tiles", "resources", "compile")
"""Parts whose last lines are in the report, because they are the result."""

CPU_TESTS = ("test/core/inference/test_cuda_graph.py",)
"""Tests for a CPU, without those that take minutes in Triton's interpreter."""


@dataclass(frozen=True)
class Part:
    """A command of the report.

    Attributes:
        name: name of the part and its files.
        command: arguments of the Python interpreter.
        limit_s: seconds after which the part is stopped.
    """

    name: str
    command: tuple[str, ...]
    limit_s: float


@dataclass(frozen=True)
class Result:
    """Outcome of a part.

    Attributes:
        name, command: as in `Part`.
        status: "passed", "failed" with its exit status, "stopped" with its limit, or "left out".
        seconds: duration.
        tail: last lines of its output.
    """

    name: str
    command: str
    status: str
    seconds: float
    tail: str

    @property
    def passed(self) -> bool:
        return self.status == "passed"


def parts(cuda: bool, out: Path) -> list[Part]:
    """Return the parts, the most important first; without a GPU, smaller ones with more time."""
    limit = 90 if cuda else 600
    tests = TESTS if cuda else CPU_TESTS
    pytest = ("-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    if cuda and importlib.util.find_spec("xdist"):  # most of their time, a CPU compiles kernels
        pytest = (*pytest, "-n", "8", "--dist", "worksteal")
    found = [
        Part("device", ("-c", DEVICE.format(cuda=cuda)), limit),
        Part("tests", pytest, limit),
    ]
    size = () if cuda else ("--quick",)
    for suite in SUITES:
        file = os.fspath(out / f"{suite}.json")
        command = ("-m", "sgnet_core.benchmark", "--suite", suite, "--json", file)
        found.append(Part(suite, (*command, "--limit", "2", *size), limit))
    tiles = ("tools/tile_sweep.py", "--seconds", "60", "--json", os.fspath(out / "tiles.json"))
    found.append(Part("tiles", tiles, limit))
    only = "" if cuda else "fp16 64x16"
    found.append(Part("resources", ("tools/kernel_resources.py", "--only", only), limit))
    compiled = ("tools/compile_gain.py", "--json", os.fspath(out / "compile.json"))
    found.append(Part("compile", compiled, 180 if cuda else limit))
    return found


def run_part(part: Part, out: Path, left_s: float, environment: Mapping[str, str]) -> Result:
    """Run a part for at most its limit or the remaining time, with its output in a file."""
    limit = min(part.limit_s, left_s)
    shown = " ".join(("python", *part.command))
    if limit <= 0:
        return Result(part.name, shown, "left out: no time left", 0, "")
    log = out / f"{part.name}.log"
    start = time.monotonic()
    with open(log, "wb") as file:
        process = subprocess.Popen(
            [sys.executable, *part.command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=dict(environment),
            start_new_session=True,
        )
        try:
            code = process.wait(limit)
            status = "passed" if code == 0 else f"failed: exit status {code}"
        except subprocess.TimeoutExpired:
            status = f"stopped after {limit:.0f} s"
        finally:  # also after Ctrl-C, together with the processes that the part has started
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    text = re.sub(r"[^\n]*\r", "", log.read_bytes().decode(errors="replace"))  # progress bars
    tail = "\n".join(text.splitlines()[-TAIL_LINES:])
    return Result(part.name, shown, status, round(time.monotonic() - start, 1), tail)


def run_parts(
    chosen: Sequence[Part], out: Path, minutes: float, environment: Mapping[str, str]
) -> Iterator[list[Result]]:
    """Run the parts in order; yield the results so far after each part."""
    end = time.monotonic() + 60 * minutes
    results: list[Result] = []
    for part in chosen:
        results.append(run_part(part, out, end - time.monotonic(), environment))
        yield results
        if part.name == "device" and not results[-1].passed:
            return


def records_of(out: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Read the records of the suites that have been measured."""
    files = [out / f"{name}.json" for name in names]
    return [record for file in files if file.exists() for record in json.loads(file.read_bytes())]


def markdown(results: Sequence[Result], records: Sequence[Mapping[str, Any]]) -> str:
    """Format results and benchmark records as one page."""
    lines = ["# GPU report", "", "| part | result | seconds |", "|---|---|---:|"]
    lines += [f"| {r.name} | {r.status} | {r.seconds:.1f} |" for r in results]
    machines = sorted({f"{record['date']}: {record['machine']}" for record in records})
    if records:
        lines += ["", "## Measurements", "", *machines, ""]
        lines += ["`docs/benchmarks.md` explains the columns; a ratio below 1 is faster.", ""]
        lines += ["| suite | shape | case | type | p50 ms | p95 ms | floor ms | MB | ratio | to |"]
        lines += ["|---|---|---|---|---:|---:|---:|---:|---:|---|"]
    for r in records:
        floor = "" if r["floor_ms"] is None else f"{r['floor_ms']:.3f}"
        figures = f"{r['p50_ms']:.3f} | {r['p95_ms']:.3f} | {floor} | {r['memory_mb']:.0f}"
        figures += f" | {r['ratio']:.2f}"
        names = f"{r['suite']} | {r['shape']} | {r['name']} | {r['dtype']}"
        lines.append(f"| {names} | {figures} | {r['reference']} |")
    for r in results:
        if r.tail and (not r.passed or r.name in SHOWN):
            lines += ["", f"## {r.name}: {r.status}", "", f"`{r.command}`", ""]
            lines += ["```text", r.tail, "```"]
    return "\n".join(lines) + "\n"


def save(results: Sequence[Result], out: Path) -> None:
    """Write the report of the results so far."""
    records = records_of(out, [result.name for result in results if result.name in SUITES])
    (out / "report.md").write_text(markdown(results, records))
    content = {"parts": [asdict(result) for result in results], "records": records}
    (out / "report.json").write_text(json.dumps(content, indent=1) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 1 if a part failed, was stopped or left out."""
    parser = argparse.ArgumentParser(
        prog="python tools/gpu_report.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "gpu", metavar="DIR")
    parser.add_argument("--minutes", type=float, default=5.0, help="for all parts (default: 5)")
    args = parser.parse_args(argv)
    out: Path = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for suite in SUITES:  # records of an earlier run
        (out / f"{suite}.json").unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONPATH": os.fspath(ROOT)}
    if args.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    results: list[Result] = []
    for results in run_parts(parts(args.device == "cuda", out), out, args.minutes, environment):
        save(results, out)
        print(f"{results[-1].name}: {results[-1].status}, {results[-1].seconds:.1f} s", flush=True)
    print(f"report: {out / 'report.md'}")
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
