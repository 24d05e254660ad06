"""Draw the benchmark's figures: latency over resolution, over depth, and accuracy over latency.

python tools/benchmark_plots.py network.json --out out/plots --accuracy runs/ablation/ablation.json
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from plot import Axis, Plot, Point, Series, svg
from sgnet_core.benchmark.__main__ import load
from sgnet_core.benchmark.measure import Record
from sgnet_core.files import atomic_write

BLUE, ORANGE, GREEN, GREY = "#2b6cb0", "#c05621", "#2f855a", "#66727f"

MILLISECONDS = Axis("milliseconds", log=True)


def draw(records: Sequence[Record], folder: Path, accuracy: Path | None = None) -> list[Path]:
    """Writes ``resolution.svg``, ``depth.svg`` and ``accuracy.svg``, each if there is what for.

    Args:
        records: of which those of the suite ``network`` are drawn.
        folder: made if it is missing.
        accuracy: ``ablation.json`` of ``tools/ablation.py``.

    Returns:
        The files written.

    Raises:
        ValueError: ``accuracy`` is no such file.
        OSError: a file cannot be read or written.
        ModuleNotFoundError: jinja2 is not installed; the message says how to install it.
    """
    single = [r for r in records if r.suite == "network" and r.shape.startswith("1x")]
    plots = {"resolution": resolution_plot(single), "depth": depth_plot(single)}
    if accuracy is not None:
        plots["accuracy"] = accuracy_plot(_rows(accuracy))
    written = []
    for name, plot in plots.items():
        if plot is None:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / f"{name}.svg") as file:
            file.write(svg(plot).encode())
        written.append(folder / f"{name}.svg")
    return written


def resolution_plot(records: Sequence[Record]) -> Plot | None:
    """Every network that ran at several sizes; None if none did."""
    sizes = {r.shape: _pixels(r.shape) for r in records}
    models = {"sgnet_r101": BLUE, "plain_r101": ORANGE, "sgnet_lite": GREEN, "plain_lite": GREY}
    forms = [each for m, color in models.items() for each in _forms(records, m, color, sizes)]
    series = [each for each in forms if len(each.points) > 1]
    if not series:
        return None
    used = {x for each in series for x, _ in each.points}
    ticks = sorted((n, shape.split("x", 2)[2]) for shape, n in sizes.items() if n in used)
    x = Axis("height x width of the frame", log=True, ticks=ticks)
    return Plot("Latency over resolution", _note(records), x, MILLISECONDS, series)


def _forms(
    records: Sequence[Record], model: str, color: str, sizes: Mapping[str, int]
) -> Iterator[Series]:
    for form in ("fused", "onnx"):
        name = f"{model}, {form}"
        points = sorted((float(sizes[r.shape]), r.p50_ms) for r in records if r.name == name)
        yield Series(name, points, color, dashed=form == "onnx")


def depth_plot(records: Sequence[Record]) -> Plot | None:
    """SGNet and the plain network over the layers of the trunk, at the size that most ran at."""
    found: dict[str, dict[str, list[Point]]] = {}
    for record in records:
        match = re.fullmatch(r"(sgnet|plain)_r(\d+), fused", record.name)
        if match:
            kinds = found.setdefault(record.shape, {"sgnet": [], "plain": []})
            kinds[match[1]].append((float(match[2]), record.p50_ms))
    shape = max(found, key=lambda shape: len(found[shape]["sgnet"]), default=None)
    if shape is None or len(found[shape]["sgnet"]) < 2:
        return None
    series = [
        Series("SGNet", sorted(found[shape]["sgnet"]), BLUE),
        Series("plain", sorted(found[shape]["plain"]), ORANGE),
    ]
    depths = sorted({x for x, _ in (*series[0].points, *series[1].points)})
    x = Axis("layers of the ResNet", ticks=[(depth, f"{depth:g}") for depth in depths])
    title = f"Latency over depth, at {shape.split('x', 2)[2]}"
    return Plot(title, _note(records), x, Axis("milliseconds", from_zero=True), series)


def accuracy_plot(rows: Sequence[Mapping[str, Any]]) -> Plot:
    """mIoU over latency of the variants of an ablation, and those that no other one beats."""
    series = []
    for row in rows:
        miou = [100 * score for score in row["miou"]]
        spread = statistics.stdev(miou) if len(miou) > 1 else 0.0
        point = (row["p50_ms"], statistics.mean(miou))
        series.append(Series(row["name"], [point], BLUE, line=False, spread=[spread]))
    best = front([each.points[0] for each in series])
    series = [
        each if each.points[0] in best else Series(**{**vars(each), "color": GREY})
        for each in series
    ]
    seeds = max(len(row["miou"]) for row in rows)
    note = f"Mean of {seeds} seeds, bars: standard deviation. Blue: no variant is faster and better"
    x, y = Axis("milliseconds per frame"), Axis("mIoU %")
    return Plot("Accuracy over latency", note, x, y, series, best)


def front(points: Sequence[Point]) -> list[Point]:
    """Those, by x, of which no other one has a smaller x and a larger y."""
    best: list[Point] = []
    for x, y in sorted(points, key=lambda p: (p[0], -p[1])):
        if not best or y > best[-1][1]:
            best.append((x, y))
    return best


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_bytes())
        if not rows or not all(row["name"] and row["miou"] and row["p50_ms"] for row in rows):
            raise ValueError("a variant without scores or times")
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is no ablation.json of tools/ablation.py: {error}") from error
    return rows


def _pixels(shape: str) -> int:
    height, width = shape.split("x")[2:4]
    return int(height) * int(width)


def _note(records: Sequence[Record]) -> str:
    """Machine and date, without the rates."""
    last = records[-1]
    return f"Median, one frame at a time. {last.machine.partition(';')[0]}; {last.date}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser("python tools/benchmark_plots.py", description=__doc__)
    parser.add_argument("records", nargs="+", help="files of sgnet_core.benchmark --json")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--accuracy", type=Path, metavar="F", help="ablation.json")
    args = parser.parse_args(argv)
    try:
        records = [record for path in args.records for record in load(path)]
        for path in draw(records, args.out, args.accuracy):
            print(f"written: {path}")
    except (OSError, ValueError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
