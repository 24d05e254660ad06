"""The benchmark's pictures show its figures."""

from __future__ import annotations

import itertools
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from benchmark_plots import accuracy_plot, depth_plot, draw, front, main, resolution_plot
from plot import Axis, Plot, Series, log_ticks, spaced, svg
from sgnet_core.benchmark.measure import Record

SVG = "{http://www.w3.org/2000/svg}"
coordinate = st.floats(-1000, 1000)


def record(name: str, shape: str, ms: float, suite: str = "network") -> Record:
    return Record(
        *(suite, name, "cpu", "float32", shape, 2, ms, ms, 0.0, 30, name, 1.0),
        *(None, None, None, 1.0, "a processor; copy 1 GB/s", "2026-01-02"),
    )


RECORDS = [
    record("sgnet_lite, fused", "1x3x480x640", 160.0),
    record("sgnet_lite, fused", "1x3x240x320", 40.0),
    record("sgnet_lite, onnx", "1x3x240x320", 50.0),
    record("sgnet_lite, fused", "4x3x240x320", 150.0),
    record("sgnet_r18, fused", "1x3x240x320", 60.0),
    record("plain_r18, fused", "1x3x240x320", 50.0),
    record("sgnet_r101, fused", "1x3x240x320", 300.0),
    record("plain_r101, fused", "1x3x240x320", 200.0),
    record("sgnet_r101_aspp, fused", "1x3x240x320", 330.0),
    record("sgnet_lite, fused", "240x320", 1.0, "segmenter"),
]
ROWS: list[dict[str, Any]] = [
    {"name": "fast", "miou": [0.2, 0.4], "p50_ms": 10.0},
    {"name": "worse & slower", "miou": [0.1, 0.1], "p50_ms": 11.0},
    {"name": "best", "miou": [0.5, 0.5], "p50_ms": 20.0},
]


def elements(text: str, tag: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(text).iter(SVG + tag))


def places(text: str, tick: str, anchor: str, axis: str) -> list[float]:
    """Of the texts that say that and are aligned like that."""
    found = [t for t in elements(text, "text") if (t.text, t.get("text-anchor")) == (tick, anchor)]
    return [float(t.get(axis, "")) for t in found]


def test_latency_over_resolution_is_of_single_frames_at_several_sizes() -> None:
    plot = resolution_plot([r for r in RECORDS if r.shape.startswith("1x")])
    assert plot is not None
    points = {series.name: list(series.points) for series in plot.series}
    assert points == {"sgnet_lite, fused": [(76800, 40.0), (307200, 160.0)]}
    assert list(plot.x.ticks) == [(76800, "240x320"), (307200, "480x640")]
    assert resolution_plot(RECORDS[1:2]) is None


def test_latency_over_depth_is_of_networks_with_the_same_head() -> None:
    plot = depth_plot(RECORDS)
    assert plot is not None and plot.title.endswith("240x320")
    assert {s.name: list(s.points) for s in plot.series} == {
        "SGNet": [(18.0, 60.0), (101.0, 300.0)],
        "plain": [(18.0, 50.0), (101.0, 200.0)],
    }
    assert depth_plot(RECORDS[:5]) is None


def test_accuracy_over_latency_tells_what_no_other_variant_beats() -> None:
    plot = accuracy_plot(ROWS)
    assert [s.points[0] for s in plot.series] == [
        (10, approx(30)),
        (11, approx(10)),
        (20, approx(50)),
    ]
    assert [s.spread[0] for s in plot.series] == approx([14.142, 0, 0], abs=0.001)
    assert list(plot.front) == [(10, approx(30)), (20, approx(50))]
    colors = [series.color for series in plot.series]
    assert colors[0] == colors[2] != colors[1]


@given(st.lists(st.tuples(coordinate, coordinate), max_size=20))
def test_the_front_is_what_nothing_dominates(points: list[tuple[float, float]]) -> None:
    def dominated(x: float, y: float) -> bool:
        return any(a <= x and b >= y and (a, b) != (x, y) for a, b in points)

    assert front(points) == sorted({p for p in points if not dominated(*p)})


@given(st.lists(st.floats(0, 300), min_size=1, max_size=17))
def test_labels_keep_their_order_and_their_distance(wanted: list[float]) -> None:
    places = spaced(wanted, gap=17, low=0, high=300)
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    gaps = [places[b] - places[a] for a, b in itertools.pairwise(order)]
    assert all(gap >= 17 - 1e-6 for gap in gaps)
    assert min(places) >= -1e-6 and max(places) <= 300 + 1e-6
    if all(abs(a - b) >= 17 for i, a in enumerate(wanted) for b in wanted[:i]):
        assert places == approx(wanted)


@given(st.floats(1e-3, 1e5), st.floats(1, 1e4))
def test_logarithmic_ticks_enclose_the_range(low: float, factor: float) -> None:
    ticks = log_ticks(low, low * factor)
    assert len(ticks) >= 2
    assert ticks[0] <= low * (1 + 1e-6) and ticks[-1] >= low * factor * (1 - 1e-6)
    assert all(1.9 < b / a < 2.6 for a, b in itertools.pairwise(ticks))
    assert ticks[1] > low * (1 - 1e-6) and ticks[-2] < max(low * factor, ticks[1]) * (1 + 1e-6)


def test_points_lie_where_the_ticks_say() -> None:
    """At the ticks of 1, 10 and 100 on a logarithmic axis, of 0, 5 and 10 on a linear one."""
    series = Series("a < b", [(0.0, 1.0), (5.0, 10.0), (10.0, 100.0)], "#123456", spread=[0, 5, 0])
    text = svg(Plot("title", "note", Axis("x"), Axis("y", log=True), [series]))
    circles = [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in elements(text, "circle")]
    texts = {t.text: t for t in elements(text, "text")}
    assert {"title", "note", "x", "y", "a < b"} <= set(texts)
    for x, (cx, _) in zip(("0", "5", "10"), circles, strict=True):
        ticks = [
            t for t in elements(text, "text") if t.text == x and t.get("text-anchor") == "middle"
        ]
        assert [float(t.get("x", "")) for t in ticks] == [cx]
    for y, (_, cy) in zip(("1", "10", "100"), circles, strict=True):
        assert places(text, y, "end", "y") == approx([cy + 4])
    bars = [line for line in elements(text, "line") if line.get("stroke") == "#123456"]
    low, high = float(bars[1].get("y1", "")), float(bars[1].get("y2", ""))
    assert low > circles[1][1] > high  # y grows downwards


def test_the_command_draws_what_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, accuracy, out = tmp_path / "f.json", tmp_path / "ablation.json", tmp_path / "plots"
    results.write_text(json.dumps([vars(r) for r in RECORDS]))
    accuracy.write_text(json.dumps(ROWS))
    arguments = [str(results), "--out", str(out)]
    assert main([*arguments, "--accuracy", str(accuracy)]) == 0
    names = ["resolution.svg", "depth.svg", "accuracy.svg"]
    assert capsys.readouterr().out.splitlines()[-3:] == [f"written: {out / n}" for n in names]
    assert "worse & slower" in {t.text for t in elements((out / names[2]).read_text(), "text")}
    assert draw(RECORDS[:1], tmp_path / "none") == []
    for content in ("[]", "{}", '[{"name": "a"}]'):
        accuracy.write_text(content)
        assert main([*arguments, "--accuracy", str(accuracy)]) == 2
        assert f"{accuracy} is no ablation.json" in capsys.readouterr().err
