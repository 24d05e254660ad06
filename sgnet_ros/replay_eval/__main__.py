"""Evaluate the running node by recordings: `python -m sgnet_ros.replay_eval drive.mcap`.

The command plays the recorded messages of each bag over DDS to a node of its own, and compares the
node's label images with the ground truth, if there is any: a label topic of the bag, or files named
after stamps. It reports IoU, flips on static geometry, latency, throughput and drops
(docs/replay.md).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from sgnet_core.arguments import count
from sgnet_core.files import atomic_write, check_writable
from sgnet_core.fleet.jobs import Failure
from sgnet_core.fleet.ray_workers import LOCAL, Workers, WorkersError, run_on_ray
from sgnet_ros.replay_eval.bag_process import BagProcess
from sgnet_ros.replay_eval.options import FORWARDED, PATHS, add_arguments
from sgnet_ros.replay_eval.ray_job import ReplayJob
from sgnet_ros.system.domains import free_domain, stay_local

if TYPE_CHECKING:  # takes seconds to import, and is needed at the end only
    from sgnet_ros.replay_eval.report import ReplayReport

EXIT_FAILED, EXIT_BELOW, EXIT_INTERRUPTED = 1, 3, 130

INTERRUPTED = "interrupted before its end"
"""Problem of the bags that were not evaluated because of Ctrl-C."""

EXAMPLES = """\
examples:
  accuracy and stability of the shipped model on a recording with labels:
    python -m sgnet_ros.replay_eval drive.mcap --html drive.html
  latency and drops of this computer at the recorded rate:
    python -m sgnet_ros.replay_eval drive.mcap --rate recorded
  in CI, two bags at a time, with ground truth in files that bag_export wrote:
    python -m sgnet_ros.replay_eval bags/*.mcap --jobs 2 --truth data/labeled \\
        --model mine.safetensors --json out/replay.json --min-miou 0.45 --max-p95-ms 80
  on all cores or GPUs of a Ray cluster (docs/fleet.md):
    python -m sgnet_ros.replay_eval bags/*.mcap --ray head:6379 --json out/replay.json

exit status: 0; 1 if a bag could not be evaluated; 2 for wrong arguments; 3 if a threshold is
missed; 130 after Ctrl-C, with a report of the bags that were done
"""


def evaluate_bags(
    bags: Sequence[Path], arguments: Sequence[str], jobs: int, progress: bool = False
) -> ReplayReport:
    """Evaluate bags, ``jobs`` of them at a time, each in a process and a DDS domain of its own.

    Args:
        bags: paths, each once.
        arguments: arguments of `add_arguments` for the process of each bag.
        jobs: number of bags at a time.
        progress: show a progress bar.

    Raises:
        KeyboardInterrupt: interrupted before the first bag was done; later, the other bags are
            reported as `INTERRUPTED`.
    """
    outcomes: dict[Path, dict[str, Any] | str] = {}
    waiting, running = list(bags), list[BagProcess]()
    own = os.environ.get("ROS_DOMAIN_ID")
    with tempfile.TemporaryDirectory(prefix="replay_") as scratch:
        pause_s = 0.2 if sys.stderr.isatty() else 5.0
        bar: Any = tqdm(
            total=0, desc="replay", unit="frame", disable=not progress, mininterval=pause_s
        )
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    domain = free_domain({run.domain for run in running})
                    if own and jobs == 1:  # so that other nodes can listen
                        domain = int(own)
                    folder = Path(scratch, str(len(bags) - len(waiting)))
                    running.append(BagProcess(waiting.pop(0), domain, arguments, folder))
                time.sleep(0.2)
                _follow(running, outcomes, bar)
        except KeyboardInterrupt:
            if not outcomes:
                raise
            outcomes.update((bag, INTERRUPTED) for bag in bags if bag not in outcomes)
        finally:
            bar.close()
            for run in running:
                run.child.stop()
            if own:
                os.environ["ROS_DOMAIN_ID"] = own
    return _report([(str(bag), outcomes[bag]) for bag in bags])


def evaluate_on_ray(
    bags: Sequence[Path], arguments: Sequence[str], workers: Workers, progress: bool = False
) -> ReplayReport:
    """Evaluate bags in Ray's workers, each in a process and a DDS domain of its own.

    Args:
        bags: paths, each once, which exist on every machine.
        arguments: arguments of `add_arguments` for the process of each bag; paths in them exist on
            every machine, too.
        workers: workers to use.
        progress: show a progress bar.

    Raises:
        WorkersError: there is no Ray, or no worker.
        KeyboardInterrupt: as in `evaluate_bags`.
    """
    outcomes: dict[str, dict[str, Any] | str] = {}
    named = {str(bag.absolute()): str(bag) for bag in bags}  # for machines with other work folders
    try:
        with (
            contextlib.closing(run_on_ray(ReplayJob(arguments), list(named), workers)) as done,
            tqdm(total=len(bags), desc="replay", unit="bag", disable=not progress) as bar,
        ):
            for path, outcome in done:
                bar.update()
                bag = named[path]
                if isinstance(outcome, Failure):
                    outcomes[bag] = outcome.reason
                else:
                    outcomes[bag] = {**outcome, "bag": bag}
    except KeyboardInterrupt:
        if not outcomes:
            raise
    return _report([(bag, outcomes.get(bag, INTERRUPTED)) for bag in named.values()])


def _follow(
    running: list[BagProcess], outcomes: dict[Path, dict[str, Any] | str], bar: Any
) -> None:
    """Print the warnings of the processes, and collect the results of those that have ended."""
    for run in list(running):
        ended = not run.child.running
        done, of = run.done, run.of
        for line in run.poll():
            tqdm.write(line, file=sys.stderr)
        bar.total += run.of - of
        if run.done > done:
            bar.update(run.done - done)
        if ended:
            outcomes[run.bag] = run.result()
            if run.of > run.done:  # the last frames are not reported one by one
                bar.update(run.of - run.done)
            running.remove(run)


def _report(outcomes: Sequence[tuple[str, dict[str, Any] | str]]) -> ReplayReport:
    from sgnet_ros.replay_eval.report import BagResult, ReplayReport

    results = [BagResult.of(outcome) for _, outcome in outcomes if isinstance(outcome, dict)]
    problems = {bag: outcome for bag, outcome in outcomes if isinstance(outcome, str)}
    return ReplayReport(results, problems)


def misses(figures: Mapping[str, Any], args: argparse.Namespace) -> list[str]:
    """Describe the thresholds that the total figures miss."""
    missed = []
    if args.min_miou is not None:
        if figures["miou"] is None:
            missed.append("--min-miou: there is no ground truth (--labels-topic, --truth)")
        elif figures["miou"] < args.min_miou:
            missed.append(f"mIoU is {figures['miou']:.4f}, below --min-miou {args.min_miou:g}")
    if args.max_p95_ms is not None:
        p95 = (figures["latency_ms"] or {}).get("p95")
        if p95 is None:
            missed.append("--max-p95-ms: the node has labeled no frame")
        elif p95 > args.max_p95_ms:
            missed.append(f"p95 latency is {p95:.1f} ms, above --max-p95-ms {args.max_p95_ms:g}")
    return missed


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        "python -m sgnet_ros.replay_eval",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bags", type=Path, nargs="+", metavar="BAG", help="file or rosbag2 folder")
    add_arguments(parser)
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="bags at a time (1)")
    parser.add_argument(
        "--ray",
        nargs="?",
        const=LOCAL,
        metavar="ADDRESS",
        help="distribute the bags with Ray, on this machine or on the cluster at HOST:PORT, whose "
        "machines have bags, model and ground truth under the same paths",
    )
    parser.add_argument(
        "--ray-cores",
        type=count,
        default=2,
        metavar="N",
        help="CPU cores of each Ray worker (default: 2)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for all figures")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="a row per bag and the total")
    parser.add_argument("--html", type=Path, metavar="FILE", help="a page with the worst frames")
    parser.add_argument("--min-miou", type=float, metavar="X", help="0 to 1; exit with 3 below it")
    parser.add_argument("--max-p95-ms", type=float, metavar="MS", help="exit with 3 above it")
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {args.jobs}")
    if len(set(args.bags)) < len(args.bags):
        parser.error("a bag is named twice")
    if missing := [str(bag) for bag in args.bags if not bag.exists()]:
        parser.error(f"{', '.join(missing)} does not exist")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its help explains the exit status."""
    logging.basicConfig(format="[%(levelname)s] %(message)s")
    args = parse_arguments(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    stay_local()
    forwarded = []
    for name in FORWARDED:
        if (value := getattr(args, name)) is not None:
            if args.ray is not None and name in PATHS and Path(value).exists():
                value = Path(value).absolute()
            forwarded += [f"--{name.replace('_', '-')}", str(value)]
    try:
        for output in filter(None, (args.json, args.csv, args.html)):  # before a bag is played
            check_writable(output)
        if args.ray is not None:
            workers = Workers(args.ray, args.ray_cores, gpus=args.device != "cpu")
            report = evaluate_on_ray(args.bags, forwarded, workers, progress=True)
        else:
            report = evaluate_bags(args.bags, forwarded, args.jobs, progress=True)
        _write(report, args)
    except KeyboardInterrupt:
        print("\nreplay_eval: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (OSError, ModuleNotFoundError, WorkersError) as error:
        print(f"replay_eval: {error}", file=sys.stderr)
        return EXIT_FAILED
    print(report.to_text())
    for bag, problem in report.problems.items():
        named = problem if problem.startswith(bag) else f"{bag}: {problem}"
        print(f"replay_eval: {named}", file=sys.stderr)
    missed = misses(report.total.figures(report.names), args)
    for line in missed:
        print(f"replay_eval: {line}", file=sys.stderr)
    if INTERRUPTED in report.problems.values():
        return EXIT_INTERRUPTED
    if report.problems:
        return EXIT_FAILED
    return EXIT_BELOW if missed else 0


def _write(report: ReplayReport, args: argparse.Namespace) -> None:
    texts = (
        (args.json, lambda: json.dumps(report.to_json(), indent=1) + "\n"),
        (args.csv, report.to_csv),
        (args.html, report.to_html),
    )
    for path, text in texts:
        if path is not None:
            with atomic_write(path) as file:
                file.write(text().encode())


if __name__ == "__main__":
    sys.exit(main())
