"""Draw figures of the benchmark: latency over resolution and over depth, accuracy over latency.

python tools/benchmark_plots.py network.json --out out/plots --accuracy runs/ablation/ablation.json
python tools/benchmark_plots.py --out out/plots --scores 'out/240 rows.json' 'out/336 rows.json'
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot
from matplotlib.axes import Axes

from sgnet_core.benchmark.__main__ import load
from sgnet_core.benchmark.measure import Record
from sgnet_core.files import atomic_write

BLUE, ORANGE, GREEN, GRAY = "#2b6cb0", "#c05621", "#2f855a", "#66727f"

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A curve of latency; ``points`` are (x, milliseconds), sorted by x."""

    name: str
    points: Sequence[Point]
    color: str
    dashed: bool = False


def draw(
    records: Sequence[Record],
    folder: Path,
    accuracy: Path | None = None,
    scores: Sequence[Path] = (),
) -> list[Path]:
    """Write ``resolution.svg``, ``depth.svg``, ``accuracy.svg`` and ``scores.svg`` if data exist.

    Args:
        records: benchmark records; those of the suite ``network`` are drawn.
        folder: folder of the figures, created if missing.
        accuracy: ``ablation.json`` of ``tools/ablation.py``.
        scores: files of ``python -m sgnet_core.eval --json`` on one data set; each point gets the
            name of its file.

    Returns:
        The files written.

    Raises:
        ValueError: ``accuracy`` or one of ``scores`` is a file of another kind.
        OSError: a file cannot be read or written.
    """
    single = [r for r in records if r.suite == "network" and r.shape.startswith("1x")]
    figures: dict[str, Callable[[Axes], None]] = {}
    if lines := resolution_lines(single):
        figures["resolution"] = lambda axes: _draw_resolution(axes, lines, single)
    shape, depth = depth_lines(single)
    if depth:
        figures["depth"] = lambda axes: _draw_depth(axes, shape, depth, single)
    if accuracy is not None:
        rows = _rows(accuracy)
        figures["accuracy"] = lambda axes: _draw_accuracy(axes, rows)
    if scores:
        scored = [_score(path) for path in scores]
        figures["scores"] = lambda axes: _draw_scores(axes, scored)
    written = []
    for name, plot in figures.items():
        written.append(folder / f"{name}.svg")
        _save(plot, written[-1])
    return written


def resolution_lines(records: Sequence[Record]) -> list[Line]:
    """Return the latency over the number of pixels, of each network measured at several sizes."""
    models = {"sgnet_r101": BLUE, "plain_r101": ORANGE, "sgnet_lite": GREEN, "plain_lite": GRAY}
    lines = []
    for model, color in models.items():
        for form in ("fused", "onnx"):
            name = f"{model}, {form}"
            points = sorted((_pixels(r.shape), r.p50_ms) for r in records if r.name == name)
            if len(points) > 1:
                lines.append(Line(name, points, color, dashed=form == "onnx"))
    return lines


def depth_lines(records: Sequence[Record]) -> tuple[str, list[Line]]:
    """Return the latency of SGNet and the plain network over the layers of the ResNet.

    The first return value is the frame size at which most depths were measured, which is drawn. The
    list is empty if there are fewer than two depths.
    """
    found: dict[str, dict[str, list[Point]]] = {}
    for record in records:
        match = re.fullmatch(r"(sgnet|plain)_r(\d+), fused", record.name)
        if match:
            kinds = found.setdefault(record.shape, {"sgnet": [], "plain": []})
            kinds[match[1]].append((float(match[2]), record.p50_ms))
    shape = max(found, key=lambda shape: len(found[shape]["sgnet"]), default="")
    if not shape or len(found[shape]["sgnet"]) < 2:
        return shape, []
    return shape, [
        Line("SGNet", sorted(found[shape]["sgnet"]), BLUE),
        Line("plain", sorted(found[shape]["plain"]), ORANGE),
    ]


def front(points: Sequence[Point]) -> list[Point]:
    """Return the Pareto front: the points without another point of smaller x and larger y, by x."""
    best: list[Point] = []
    for x, y in sorted(points, key=lambda p: (p[0], -p[1])):
        if not best or y > best[-1][1]:
            best.append((x, y))
    return best


def _draw_resolution(axes: Axes, lines: Sequence[Line], records: Sequence[Record]) -> None:
    _draw_lines(axes, lines)
    used = {x for line in lines for x, _ in line.points}
    ticks = {_pixels(r.shape): r.shape.split("x", 2)[2] for r in records}
    axes.set(xscale="log", yscale="log", xlabel="height x width of the frame")
    axes.set_xticks(sorted(used), [ticks[x] for x in sorted(used)])
    axes.minorticks_off()
    _title(axes, "Latency over resolution", _note(records))


def _draw_depth(axes: Axes, shape: str, lines: Sequence[Line], records: Sequence[Record]) -> None:
    _draw_lines(axes, lines)
    depths = sorted({x for line in lines for x, _ in line.points})
    axes.set(xlabel="layers of the ResNet", ylim=(0, None))
    axes.set_xticks(depths, [f"{depth:g}" for depth in depths])
    _title(axes, f"Latency over depth, at {shape.split('x', 2)[2]}", _note(records))


def _draw_lines(axes: Axes, lines: Sequence[Line]) -> None:
    for line in lines:
        style = "--" if line.dashed else "-"
        points = zip(*line.points, strict=True)
        axes.plot(*points, style, color=line.color, marker="o", label=line.name)
    axes.set_ylabel("milliseconds")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)


def _draw_accuracy(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw mIoU over latency of the variants of an ablation, and their Pareto front."""
    points = [(row["p50_ms"], 100 * statistics.mean(row["miou"])) for row in rows]
    best = front(points)
    axes.plot(*zip(*best, strict=True), "--", color=GRAY, zorder=0)
    for row, point in zip(rows, points, strict=True):
        spread = 100 * statistics.stdev(row["miou"]) if len(row["miou"]) > 1 else 0.0
        color = BLUE if point in best else GRAY
        axes.errorbar(*point, yerr=spread, fmt="o", color=color)
        _name(axes, row["name"], point, color)
    seeds = max(len(row["miou"]) for row in rows)
    axes.set(xlabel="milliseconds per frame", ylabel="mIoU %")
    note = f"Mean of {seeds} seeds, bars: standard deviation. Blue: no variant is faster and better"
    _title(axes, "Accuracy over latency", note)


def _draw_scores(axes: Axes, scores: Sequence[Mapping[str, Any]]) -> None:
    """Draw mIoU over latency of one model in several settings, and their Pareto front."""
    points = [(score["ms_per_frame"], round(100 * score["miou"], 1)) for score in scores]
    axes.plot(*zip(*front(points), strict=True), "--", color=GRAY, zorder=0)
    for score, point in zip(scores, points, strict=True):
        axes.plot(*point, "o", label=score["name"])
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    axes.set(xlabel="milliseconds per frame, from NumPy to NumPy", ylabel="mIoU %")
    note = f"{scores[0]['frames']} frames of {scores[0]['data']}. Line: none is faster and better"
    _title(axes, "Accuracy over latency", note)


def _name(axes: Axes, text: str, point: Point, color: str) -> None:
    axes.annotate(text, point, (7, 3), textcoords="offset points", color=color, fontsize=9)


def _title(axes: Axes, title: str, note: str) -> None:
    axes.set_title(f"{title}\n", loc="left", fontweight="bold")
    axes.text(0, 1.02, note, transform=axes.transAxes, fontsize=9, color=GRAY)


def _save(plot: Callable[[Axes], None], path: Path) -> None:
    with pyplot.rc_context({"svg.fonttype": "none", "svg.hashsalt": "sgnet"}):
        figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
        try:
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color="#e3e8ee")
            axes.margins(x=0.15)
            plot(axes)
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                figure.savefig(file, format="svg", metadata={"Date": None})
        finally:
            pyplot.close(figure)


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_bytes())
        if not rows or not all(row["name"] and row["miou"] and row["p50_ms"] for row in rows):
            raise ValueError("a variant without scores or times")
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is not an ablation.json of tools/ablation.py: {error}") from error
    return rows


def _score(path: Path) -> dict[str, Any]:
    keys = ("miou", "ms_per_frame", "frames", "data")
    try:
        figures = json.loads(path.read_bytes())
        return {"name": path.stem, **{key: figures[key] for key in keys}}
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is not a file of sgnet_core.eval --json: {error}") from error


def _pixels(shape: str) -> float:
    height, width = shape.split("x")[2:4]
    return float(int(height) * int(width))


def _note(records: Sequence[Record]) -> str:
    """Return a line with the processor, its threads, and the date of the last record."""
    last = records[-1]
    return f"Median, one frame at a time. {last.machine.partition(', torch')[0]}; {last.date}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser("python tools/benchmark_plots.py", description=__doc__)
    parser.add_argument("records", nargs="*", help="files of sgnet_core.benchmark --json")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--accuracy", type=Path, metavar="F", help="ablation.json")
    scores_help = "files of sgnet_core.eval --json; the name of the file is the name of the point"
    parser.add_argument("--scores", type=Path, nargs="+", default=(), metavar="F", help=scores_help)
    args = parser.parse_args(argv)
    try:
        records = [record for path in args.records for record in load(path)]
        for path in draw(records, args.out, args.accuracy, args.scores):
            print(f"written: {path}")
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
