"""Figures of a replay as text, JSON, CSV and HTML."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgnet_core.evaluation.report import class_rows, page_template
from sgnet_core.models.labels import LabelSet
from sgnet_ros.replay_eval.scores import Tally

WORST_SHOWN = 12


@dataclass(frozen=True)
class BagResult:
    """Result of one bag.

    Attributes:
        bag: path of the bag.
        tally: counts and times.
        classes: classes of the node's model.
        details: the other entries of result.json.
    """

    bag: str
    tally: Tally
    classes: LabelSet
    details: Mapping[str, Any]

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> BagResult:
        """Build from the content of result.json."""
        tally, classes = Tally.from_json(result["tally"]), LabelSet.from_dict(result["classes"])
        others = {k: v for k, v in result.items() if k not in ("bag", "tally", "classes")}
        return cls(result["bag"], tally, classes, others)

    def figures(self) -> dict[str, Any]:
        """Return the figures as JSON types, without pictures."""
        details = {k: v for k, v in self.details.items() if k != "worst"}
        worst = [{"stamp_ns": w["stamp_ns"], "note": w["note"]} for w in self.details["worst"]]
        figures = self.tally.figures(self.classes.names)
        return {"bag": self.bag, **details, **figures, "worst": worst}


@dataclass(frozen=True)
class ReplayReport:
    """Results of all bags.

    Attributes:
        results: results of the evaluated bags, all with the same model.
        problems: for each other bag, the reason why it was not evaluated.
    """

    results: Sequence[BagResult]
    problems: Mapping[str, str]

    @property
    def total(self) -> Tally:
        """Tally of all bags together."""
        total = Tally()
        for result in self.results:
            total.add(result.tally)
        return total

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.results[0].classes.names if self.results else ()

    def to_json(self) -> dict[str, Any]:
        """Return the content of the ``--json`` file."""
        return {
            "bags": [result.figures() for result in self.results],
            "total": self.total.figures(self.names),
            "problems": dict(self.problems),
        }

    def to_csv(self) -> str:
        """Return a row per bag and the total, with a column for each class in the ground truth."""
        rows = [("total", self.total)]
        rows[:0] = [(result.bag, result.tally) for result in self.results]
        flat = [flattened(bag, tally.figures(self.names)) for bag, tally in rows]
        columns = list(dict.fromkeys(key for row in flat for key in row))
        columns.sort(key=lambda key: key.startswith(("dropped.", "class_iou.")))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
        return text.getvalue()

    def to_text(self) -> str:
        """Return the table for the terminal."""
        shown = [(Path(r.bag).name, r.tally.figures(self.names)) for r in self.results]
        total = self.total.figures(self.names)
        if len(shown) > 1:
            shown.append(("total", total))
        width = max([4, *(len(name) for name, _ in shown)])
        lines = [
            f"{'bag':<{width}} {'frames':>7} {'labeled':>9} {'mIoU':>6} {'flips':>7} "
            f"{'p50 ms':>8} {'p95 ms':>8} {'max ms':>8} {'Hz':>6}  dropped"
        ]
        for name, figures in shown:
            row = _row(name, figures)
            p50, p95, most = row["times"]
            lines.append(
                f"{name:<{width}} {row['frames']:>7} {row['labeled']:>9} "
                f"{_number(row['miou'], 3):>6} {_number(100 * row['flips'], 2):>6}% "
                f"{p50:>8} {p95:>8} {most:>8} {row['throughput']:>6}  {row['dropped']}"
            )
        if total["class_iou"]:
            lines += ["", f"{'class':<18} {'IoU':>6}"]
            lines += [f"{name:<18} {iou:>6.3f}" for name, iou in total["class_iou"].items()]
        return "\n".join(lines)

    def to_html(self) -> str:
        """Return a self-contained page, with the pictures of the worst frames.

        Raises:
            ModuleNotFoundError: jinja2 is not installed.
        """
        total, tally = self.total.figures(self.names), self.total
        rows = [_row(result.bag, result.tally.figures(self.names)) for result in self.results]
        if len(rows) > 1:
            rows.append(_row("total", total))
        worst = [{**w, "bag": r.bag} for r in self.results for w in r.details["worst"]]
        worst.sort(key=lambda frame: -frame["badness"])
        confusion = tally.confusion
        scored = confusion is not None and confusion.counts.any()
        page: str = page_template("replay.html", __package__).render(
            title="Replay",
            facts=self._facts(),
            tiles=_tiles(total),
            rows=rows,
            problems=[f"{bag}: {problem}" for bag, problem in self.problems.items()],
            classes=class_rows(confusion, self.results[0].classes) if confusion and scored else [],
            worst=worst[:WORST_SHOWN],
        )
        return page

    def _facts(self) -> dict[str, str]:
        if not self.results:
            return {}
        details = [result.details for result in self.results]
        sizes = sorted({"x".join(map(str, d["size"])) for d in details})
        changed = sorted({d["changed"] for d in details} - {""})
        return {
            "model": details[0]["model"],
            "classes": self.results[0].classes.name,
            "rate": details[0]["rate"],
            "bags": str(len(details)),
            "size": ", ".join(sizes),
            **({"not sent as recorded": "; ".join(changed)} if changed else {}),
        }


def flattened(bag: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return one row; the keys of nested values are joined by dots."""
    row: dict[str, Any] = {"bag": bag}
    for key, value in figures.items():
        if isinstance(value, Mapping):
            row.update({f"{key}.{inner}": v for inner, v in value.items()})
        else:
            row[key] = value
    return row


def _row(bag: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    latency = figures["latency_ms"] or {}
    return {
        "bag": bag,
        "frames": figures["frames"],
        "labeled": figures["labeled"],
        "miou": _or_nan(figures["miou"]),
        "flips": _or_nan(figures["flip_rate"]),
        "times": [_number(latency.get(k, math.nan), 1) for k in ("p50", "p95", "max")],
        "throughput": _number(_or_nan(figures["throughput_hz"]), 2),
        "dropped": ", ".join(f"{n} {cause}" for cause, n in figures["dropped"].items()) or "none",
    }


def _tiles(total: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    latency = total["latency_ms"] or {}
    return [
        ("mean IoU", _number(100 * _or_nan(total["miou"]), 1), "%"),
        ("flips on static geometry", _number(100 * _or_nan(total["flip_rate"]), 2), "%"),
        ("latency, 95th percentile", _number(latency.get("p95", math.nan), 1), "ms"),
        ("throughput", _number(_or_nan(total["throughput_hz"]), 2), "frames/s"),
        ("frames labeled", str(total["labeled"]), f"of {total['frames']}"),
    ]


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
