"""Figures of the demo: a dictionary for summary.json, and a table."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sgnet_msgs.msg import FrameStats

STAGES = ("wait", "convert", "preprocess", "network", "postprocess", "publish")
_BEFORE_PAIRING = ("unmatched_rgb", "unmatched_depth")


@dataclass(frozen=True)
class DemoRecord:
    """Record of one run.

    Attributes:
        source, model, device: names of the source, the model and its device.
        size: width and height of the frames.
        rate_hz: rate at which the camera played.
        camera: last line of the camera's output (`Camera.report`).
        baseline: FrameStats of the last frame before the first one that counts.
        stats: FrameStats of the frames that count, in order; at least one.
        labels: (stamp in ns, frame id) of each label image received, in the order of arrival.
        rgb_headers: stamp in ns → frame id of the color images.
        miou: mean IoU over the classes in the ground truth; None without ground truth.
        rss_mib: samples of the node's resident memory.
    """

    source: str
    model: str
    device: str
    size: tuple[int, int]
    rate_hz: float
    camera: Mapping[str, Any]
    baseline: FrameStats
    stats: Sequence[FrameStats]
    labels: Sequence[tuple[int, str]]
    rgb_headers: Mapping[int, str]
    miou: float | None
    rss_mib: Sequence[float]


def summarize(run: DemoRecord) -> dict[str, Any]:
    """Return the content of summary.json in JSON types.

    ``pairs_sent`` is ``pairs_received`` plus the pairs in ``dropped`` that did not arrive
    completely: ``unmatched_rgb`` and ``unmatched_depth`` (one image arrived) and ``transport``
    (none did). ``pairs_received`` is ``labels_published`` plus the other causes in ``dropped``.
    """
    last = run.stats[-1]
    received = int(last.pairs - run.baseline.pairs)
    dropped = {
        cause: count - before
        for cause, count in _drops(last).items()
        if count > (before := _drops(run.baseline).get(cause, 0))
    }
    incomplete = sum(dropped.get(cause, 0) for cause in _BEFORE_PAIRING)
    lost = max(0, run.camera["pairs_sent"] - received - incomplete)
    stamps = [stamp for stamp, _ in run.labels]
    return {
        "source": run.source,
        "model": run.model,
        "device": run.device,
        "size": list(run.size),
        "rate_hz": run.rate_hz,
        "pairs_sent": run.camera["pairs_sent"],
        "pairs_received": received,
        "labels_published": int(last.segmented - run.baseline.segmented),
        "labels_received": len(stamps),
        "dropped": dropped | ({"transport": lost} if lost else {}),
        "header_mismatches": sum(run.rgb_headers.get(s) != frame for s, frame in run.labels),
        "out_of_order": sum(b <= a for a, b in itertools.pairwise(stamps)),
        "age_ms": spread(s.age_ms for s in run.stats),
        "inference_ms": spread(s.inference_ms for s in run.stats),
        "node_overhead_ms": spread(s.overhead_ms for s in run.stats),
        "stages_ms": {
            stage: spread(getattr(s, f"{stage}_ms") for s in run.stats) for stage in STAGES
        },
        "miou": run.miou,
        "rss_mb": {
            "first": round(run.rss_mib[0], 1),
            "last": round(run.rss_mib[-1], 1),
            "max": round(max(run.rss_mib), 1),
        },
    }


def spread(values: Iterable[float]) -> dict[str, float]:
    """Return median, 95th percentile and maximum, rounded to three digits."""
    array = np.fromiter(values, np.float64)
    p50, p95 = np.percentile(array, (50, 95))
    return {"p50": round(p50, 3), "p95": round(p95, 3), "max": round(float(array.max()), 3)}


def table(summary: Mapping[str, Any]) -> str:
    """Format the summary as a table."""
    width, height = summary["size"]
    dropped = ", ".join(f"{n} {cause}" for cause, n in summary["dropped"].items()) or "none"
    rss, miou = summary["rss_mb"], summary["miou"]
    lines = [
        ("source", f"{summary['source']}, {width}x{height} at {summary['rate_hz']:g} Hz"),
        ("model", f"{summary['model']} on {summary['device']}"),
        ("pairs sent", summary["pairs_sent"]),
        ("pairs received", summary["pairs_received"]),
        ("labels published", summary["labels_published"]),
        ("labels received", summary["labels_received"]),
        ("dropped", dropped),
        ("headers that differ", summary["header_mismatches"]),
        ("out of order", summary["out_of_order"]),
        ("mIoU", "no ground truth in the model's classes" if miou is None else f"{miou:.3f}"),
        ("node's memory", f"{rss['first']:.0f} MiB at first, {rss['last']:.0f} at last"),
    ]
    times = {
        "age": summary["age_ms"],
        "inference": summary["inference_ms"],
        "node's overhead": summary["node_overhead_ms"],
        **{f"  {stage}": value for stage, value in summary["stages_ms"].items()},
    }
    text = [f"{name:<20} {value}" for name, value in lines]
    text += ["", f"{'milliseconds':<20} {'median':>9} {'p95':>9} {'max':>9}"]
    text += [
        f"{name:<20} {t['p50']:>9.2f} {t['p95']:>9.2f} {t['max']:>9.2f}"
        for name, t in times.items()
    ]
    return "\n".join(text)


def _drops(stats: FrameStats) -> dict[str, int]:
    return {c: int(n) for c, n in zip(stats.drop_causes, stats.drops, strict=True)}
