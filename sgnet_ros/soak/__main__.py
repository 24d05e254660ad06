"""Run the node for many frames while faults are injected: `python -m sgnet_ros.soak`.

The node runs in a process of its own with a small random model. This process is its camera and
checks every label image. It sends frames one by one, each after the answer to the frame before, and
injects a fault at regular intervals: a camera restart, a jump of the clock, malformed messages,
parameters, lifecycle cycles and so on, each kind equally often. After each fault, it compares the
node's counters with the frames sent, and records the node's memory, threads and descriptors.

The results are summary.json, samples.csv and the node's log. The command exits with 1 if the node
crashed, a header was wrong, a frame is unaccounted for, memory grew by more than 2 % after the
first twentieth of the frames (and one fault of each kind), or threads or descriptors increased.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import rclpy
import torch
from rclpy.signals import SignalHandlerOptions
from tqdm import tqdm

from sgnet_core.files import atomic_write
from sgnet_core.models.model_file import save_model
from sgnet_core.models.sgnet import create_model
from sgnet_ros.soak.faults import FAULTS, LOSSES, FaultContext
from sgnet_ros.soak.tester import FrameLedger, InferenceHang, Tester
from sgnet_ros.system.domains import free_domain
from sgnet_ros.system.environment import prepare_environment
from sgnet_ros.system.processes import Child

MAX_GROWTH = 0.02
"""Allowed growth of the resident memory since the warm-up, as a share."""
_WARM_UP = 0.05  # of the frames
_FRAMES_BETWEEN_FAULTS = 100
_ROUNDS = 3  # times that each kind of fault is injected at least, if the frames suffice
_INPUT_HEIGHT = 24


class NodeDied(Exception):
    """End of the node's process."""


@dataclass(frozen=True)
class ResourceSample:
    """Resources of the node's process after a fault; memory in MiB."""

    frames: int
    fault: str
    rss_mb: float
    threads: int
    descriptors: int


class Soak:
    """One soak run.

    Args:
        args: the command line, as `parse_arguments` returns it.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._rng = random.Random(args.seed)
        self._out: Path = args.out
        self._model = self._out / "model" / "tiny.safetensors"
        self._faults: Counter[str] = Counter()
        self._failures: list[str] = []
        self._crashes = 0
        self._samples: list[ResourceSample] = []
        self._warm: int | None = None  # index of the first sample after the warm-up
        self._node: Child

    def run(self) -> dict[str, Any]:
        """Run to the end, or until Ctrl-C, and return the summary."""
        _save_tiny_model(self._model, self._args.seed)
        begin = time.monotonic()
        with ExitStack() as stack:
            self._start_node()
            stack.callback(lambda: self._node.stop())
            rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
            stack.callback(rclpy.try_shutdown)
            tester = Tester(self._rng, self._require_node, exact=self._args.device == "cpu")
            stack.callback(tester.close)
            bar = stack.enter_context(tqdm(total=self._args.frames, unit=" frames", mininterval=1))
            try:
                self._loop(FaultContext(tester, self._rng, self._model), bar)
            except KeyboardInterrupt:
                print("\nsoak: interrupted, summary so far", file=sys.stderr)
        return self._summary(tester.ledger, time.monotonic() - begin)

    def _loop(self, run: FaultContext, bar: tqdm[Any]) -> None:
        tester, frames = run.tester, self._args.frames
        interval = max(1, min(_FRAMES_BETWEEN_FAULTS, frames // (_ROUNDS * len(FAULTS))))
        self._step(tester, lambda: _begin(tester), "start", losses_allowed=True)
        for name in _rounds(self._rng):
            for _ in range(interval):
                if tester.ledger.frames < frames:
                    self._step(tester, tester.frame)
                bar.update(tester.ledger.frames - bar.n)
            if tester.ledger.frames >= frames:
                break
            self._faults[name] += 1
            self._step(tester, lambda name=name: FAULTS[name](run), name)
            self._step(
                tester, lambda name=name: tester.settle(name), name, losses_allowed=name in LOSSES
            )

    def _step(
        self, tester: Tester, do: Any, fault: str = "", losses_allowed: bool | None = None
    ) -> None:
        """Run a step; record a failure and continue."""
        try:
            do()
            if losses_allowed is not None:
                tester.account(losses_allowed)
                self._sample(tester.ledger.frames, fault)
        except (NodeDied, InferenceHang, AssertionError) as error:
            self._failures.append(f"frame {tester.ledger.frames}, {fault or 'no fault'}: {error}")
            print(f"\nsoak: {self._failures[-1]}", file=sys.stderr)
            if isinstance(error, NodeDied):
                self._crashes += 1
            if not isinstance(error, AssertionError):
                self._node.stop()
                self._start_node()
                tester.activated()
                self._step(tester, lambda: _begin(tester), "start", losses_allowed=True)

    def _start_node(self) -> None:
        arguments = ["--ros-args", "-p", f"model:={self._model}"]
        # Reloads would export every model for ONNX Runtime.
        arguments += ["-p", f"device:={self._args.device}", "-p", "backend:=torch"]
        self._node = Child("sgnet_ros.node", arguments, self._out)

    def _require_node(self) -> None:
        if not self._node.running:
            raise NodeDied(f"ended with {self._node.process.returncode}:\n{self._node.tail()}")

    def _sample(self, frames: int, fault: str) -> None:
        node = self._node
        rss, threads, descriptors = node.rss_mib(), node.threads(), node.descriptors()
        if rss is None or threads is None or descriptors is None:
            return  # there is no /proc
        warm = frames >= _WARM_UP * self._args.frames and len(self._faults) == len(FAULTS)
        if self._warm is None and warm:
            self._warm = len(self._samples)
        self._samples.append(ResourceSample(frames, fault, round(rss, 2), threads, descriptors))

    def _summary(self, ledger: FrameLedger, seconds: float) -> dict[str, Any]:
        samples = self._samples[self._warm or 0 :]
        rss = [sample.rss_mb for sample in samples]
        summary = asdict(ledger) | {
            "seconds": round(seconds, 1),
            "seed": self._args.seed,
            "faults": dict(sorted(self._faults.items())),
            "crashes": self._crashes,
            "failures": self._failures,
            "tracebacks": self._node.log.read_text(errors="replace").count("Traceback"),
            "rss_mb": {"first": rss[0], "last": rss[-1], "max": max(rss)} if rss else None,
        }
        summary["drops"] = dict(sorted(ledger.drops.items()))
        for name in ("threads", "descriptors"):
            values = [getattr(sample, name) for sample in samples]
            summary[name] = {"first": values[0], "last": values[-1]} if values else None
        summary["passed"] = not problems(summary)
        self._write_samples()
        return summary

    def _write_samples(self) -> None:
        rows = [tuple(field.name for field in fields(ResourceSample)), *map(astuple, self._samples)]
        with atomic_write(self._out / "samples.csv") as file:
            file.write("".join(f"{','.join(map(str, row))}\n" for row in rows).encode())


def problems(summary: dict[str, Any]) -> list[str]:
    """Describe the failures in a summary."""
    zeros = ["crashes", "tracebacks", "header_mismatches", "out_of_order"]
    zeros += ["label_mismatches", "unaccounted"]
    found = [f"{summary[name]} {name}" for name in zeros if summary[name]]
    found += summary["failures"]
    rss = summary["rss_mb"]
    if rss and rss["max"] > (1 + MAX_GROWTH) * rss["first"]:
        found.append(f"memory grew from {rss['first']} to {rss['max']} MiB")
    for name in ("threads", "descriptors"):
        counts = summary[name]
        if counts and counts["last"] > counts["first"]:
            found.append(f"{name} grew from {counts['first']} to {counts['last']}")
    return found


def table(summary: dict[str, Any]) -> str:
    """Format the summary as a table."""
    recovery_s = summary["recovery_s"]
    slowest = max(recovery_s, key=recovery_s.__getitem__, default=None)
    lines = [
        ("frames", f"{summary['frames']} in {summary['seconds']:.0f} s"),
        ("label images", summary["labels"]),
        ("crashes", summary["crashes"]),
        ("wrong headers", summary["header_mismatches"]),
        ("out of order", summary["out_of_order"]),
        ("wrong labels", summary["label_mismatches"]),
        ("unaccounted for", summary["unaccounted"]),
        ("lost while connecting", summary["undelivered"]),
    ]
    if slowest is not None:
        lines.append(("slowest recovery", f"{recovery_s[slowest]:.2f} s, after {slowest}"))
    if rss := summary["rss_mb"]:
        growth = 100 * (rss["max"] / rss["first"] - 1)
        text = f"{rss['first']:.1f} first, {rss['last']:.1f} last, {rss['max']:.1f} max"
        lines.append(("memory, MiB", f"{text} ({growth:+.2f} %)"))
        for name in ("threads", "descriptors"):
            lines.append((name, f"{summary[name]['first']} first, {summary[name]['last']} last"))
    for title in ("faults", "drops"):
        lines += [("", ""), (title, sum(summary[title].values()))]
        lines += [(f"  {name}", count) for name, count in summary[title].items()]
    return "\n".join(f"{name:<26} {value}".rstrip() for name, value in lines)


def _begin(tester: Tester) -> None:
    """Wait until the node that was started segments frames."""
    tester.wait_for_subscriptions()
    tester.settle("start")


def _rounds(rng: random.Random) -> Iterator[str]:
    """Yield the names of all faults in random order, again and again."""
    while True:
        names = list(FAULTS)
        rng.shuffle(names)
        yield from names


def _save_tiny_model(path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    model = create_model("sgnet_lite", num_classes=13, spatial="points")
    model.info = replace(model.info, name="tiny", input_height=_INPUT_HEIGHT)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_model(model, path)


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser("python -m sgnet_ros.soak", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--frames", type=int, default=10_000, help="RGB-D pairs (10000)")
    parser.add_argument("--out", type=Path, default=Path("out/soak"), help="folder of the results")
    parser.add_argument("--seed", type=int, default=0, help="of scenes, faults and their order")
    parser.add_argument("--device", default="cpu", help="of the node: auto, cpu, cuda or cuda:N")
    args = parser.parse_args(argv)
    if args.frames < 1:
        parser.error(f"--frames must be positive, got {args.frames}")
    return args


def main() -> int:
    """Run the command; return 1 if something failed."""
    args = parse_arguments(sys.argv[1:])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ.setdefault("ROS_DOMAIN_ID", str(free_domain()))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # more threads would only wait for each other
    # glibc keeps freed memory for later use, which would look like a leak or hide one.
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(1 << 20))
    prepare_environment()
    args.out.mkdir(parents=True, exist_ok=True)
    summary = Soak(args).run()
    with atomic_write(args.out / "summary.json") as file:
        file.write(json.dumps(summary, indent=2).encode() + b"\n")
    print(f"\n{table(summary)}\n\nsummary, samples and the node's log are in {args.out}/")
    found = problems(summary)
    for problem in found:
        print(f"soak: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
