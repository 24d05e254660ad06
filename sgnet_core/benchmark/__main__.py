"""Measure speed against references: ``python -m sgnet_core.benchmark``.

Suites: ``operator`` (deformable convolution and weight generator), ``network`` (SGNets and the same
    networks without S-Conv, in PyTorch and ONNX Runtime), ``segmenter`` (from NumPy frame to NumPy
    labels), ``shared`` (the same while all cores are busy), ``spatial`` (depth, 3D coordinates and
    HHA against a plain convolution), ``training`` (one step) and ``node`` (camera, node and
    listener in separate processes; needs ROS 2).

The cases of a comparison run in turn, on the same new inputs, so that other load on the machine
affects all of them; a ratio below 1 is faster than the reference. OMP_NUM_THREADS sets the number
of CPU threads. ``--load`` shows files that ``--json`` has written.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from sgnet_core.benchmark.measure import Machine, Record, measure
from sgnet_core.benchmark.suites import SuiteError, groups, suite_names
from sgnet_core.files import atomic_write


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m sgnet_core.benchmark",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--suite", choices=(*suite_names(), "all"), default="all")
    parser.add_argument("--quick", action="store_true", help="small sizes, few repeats")
    limit = "seconds per group, after which it gets at most five rounds (default: 15)"
    parser.add_argument("--limit", type=float, default=15.0, metavar="S", help=limit)
    parser.add_argument("--json", metavar="F", help="also write the records as a JSON list")
    parser.add_argument(
        "--load", metavar="F", nargs="+", help="show these files instead of measuring"
    )
    args = parser.parse_args(argv)
    status = 0
    try:
        if args.load:
            records = [record for path in args.load for record in load(path)]
        else:
            records = []
            names = suite_names() if args.suite == "all" else [args.suite]
            status = _run(names, args.quick, args.limit, args.json, records)
        print(table(records))
    except OSError as error:
        parser.exit(2, f"benchmark: {error.filename}: {error.strerror}\n")
    except (SuiteError, ValueError, ModuleNotFoundError) as error:
        parser.exit(2, f"benchmark: {error}\n")
    return status


def _run(
    names: Sequence[str],
    quick: bool,
    limit_s: float,
    json_path: str | None,
    records: list[Record],
) -> int:
    """Append the records of the suites, save them after each group; return the exit status.

    Raises:
        SuiteError: the only suite cannot run. One of several is left out with a note.
        OSError: the JSON file cannot be written.
    """
    machine = Machine.measure(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        for name in names:
            try:
                for found in _measured(name, machine, quick, limit_s):
                    records += found
                    if json_path:
                        _save(records, json_path)
            except SuiteError as error:
                if len(names) == 1:
                    raise
                print(f"left out: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def _measured(suite: str, machine: Machine, quick: bool, limit_s: float) -> Iterator[list[Record]]:
    """Measure group by group; leave out, with a note, groups that do not fit into GPU memory."""
    rounds = (3, 1) if quick else (30, 3)
    with contextlib.closing(groups(suite, machine.device, quick)) as found:
        for group in found:
            try:
                records = measure(group, machine, *rounds, limit_s)
            except torch.OutOfMemoryError:
                title = f"{group.suite} {group.shape}"
                print(f"left out: {title} does not fit into memory", file=sys.stderr)
                continue
            yield records


def _save(records: Sequence[Record], path: str) -> None:
    with atomic_write(path) as file:
        text = json.dumps([asdict(record) for record in records], indent=1)
        file.write(text.encode() + b"\n")


def load(path: str) -> list[Record]:
    """Read the records in a file written by ``--json``.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file was not written by ``--json``.
    """
    try:
        return [Record(**entry) for entry in json.loads(Path(path).read_bytes())]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} was not written by --json of this version: {error}") from error


def table(records: Sequence[Record]) -> str:
    """Format records as aligned lines below a line with date and machine."""
    rows = [("suite", "shape", "name", "p50 ms", "p95 ms", "floor ms", "MB", "ratio", "to")]
    for r in records:
        floor = "" if r.floor_ms is None else f"{r.floor_ms:.2f}"
        to = "" if r.reference == r.name else r.reference
        figures = (f"{r.p50_ms:.2f}", f"{r.p95_ms:.2f}", floor, f"{r.memory_mb:.0f}")
        rows.append((r.suite, r.shape, r.name, *figures, f"{r.ratio:.2f}", to))
    widths = [max(len(row[i]) for row in rows) for i in range(9)]
    lines: list[str] = []
    for record, row in zip(records, rows[1:], strict=True):
        source = f"{record.date}: {record.machine}"
        if source not in lines:
            lines += [source, _aligned(rows[0], widths)]
        lines.append(_aligned(row, widths))
    return "\n".join(lines)


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    left = (cell.ljust(width) for cell, width in zip(row[:3], widths[:3], strict=True))
    right = (cell.rjust(width) for cell, width in zip(row[3:8], widths[3:8], strict=True))
    return "  ".join((*left, *right, row[8])).rstrip()


if __name__ == "__main__":
    sys.exit(main())
