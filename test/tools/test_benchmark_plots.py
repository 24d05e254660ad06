"""The benchmark's figures show its records."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("matplotlib", reason="an extra for development")

from benchmark_plots import depth_lines, draw, front, main, resolution_lines
from sgnet_core.benchmark.measure import Record

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


def test_latency_over_resolution_is_of_single_frames_at_several_sizes() -> None:
    lines = resolution_lines([r for r in RECORDS if r.shape.startswith("1x")])
    assert {line.name: list(line.points) for line in lines} == {
        "sgnet_lite, fused": [(76800, 40.0), (307200, 160.0)]
    }
    assert resolution_lines(RECORDS[1:2]) == []


def test_latency_over_depth_is_of_networks_with_the_same_head() -> None:
    shape, lines = depth_lines(RECORDS)
    assert shape == "1x3x240x320"
    assert {line.name: list(line.points) for line in lines} == {
        "SGNet": [(18.0, 60.0), (101.0, 300.0)],
        "plain": [(18.0, 50.0), (101.0, 200.0)],
    }
    assert depth_lines(RECORDS[:5])[1] == []


@given(st.lists(st.tuples(coordinate, coordinate), max_size=20))
def test_the_front_contains_the_points_that_no_other_dominates(
    points: list[tuple[float, float]],
) -> None:
    def dominated(x: float, y: float) -> bool:
        return any(a <= x and b >= y and (a, b) != (x, y) for a, b in points)

    assert front(points) == sorted({p for p in points if not dominated(*p)})


def texts(path: Path) -> set[str]:
    return {
        "".join(t.itertext())
        for t in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")
    }


def test_the_command_draws_the_figures_with_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, accuracy, out = tmp_path / "f.json", tmp_path / "ablation.json", tmp_path / "plots"
    results.write_text(json.dumps([vars(r) for r in RECORDS]))
    accuracy.write_text(json.dumps(ROWS))
    arguments = [str(results), "--out", str(out)]
    assert main([*arguments, "--accuracy", str(accuracy)]) == 0
    names = ["resolution.svg", "depth.svg", "accuracy.svg"]
    assert capsys.readouterr().out.splitlines()[-3:] == [f"written: {out / n}" for n in names]
    assert {"sgnet_lite, fused", "240x320", "480x640"} <= texts(out / names[0])
    assert {"SGNet", "plain", "18", "101"} <= texts(out / names[1])
    assert {"fast", "worse & slower", "best", "mIoU %"} <= texts(out / names[2])
    assert draw(RECORDS[:1], tmp_path / "none") == []
    for content in ("[]", "{}", '[{"name": "a"}]'):
        accuracy.write_text(content)
        assert main([*arguments, "--accuracy", str(accuracy)]) == 2
        assert f"{accuracy} is not an ablation.json" in capsys.readouterr().err


def test_scores_of_one_model_are_drawn_by_the_names_of_their_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for name, miou, ms in (("240 rows", 0.37, 40.0), ("336 rows", 0.39, 70.0)):
        files.append(tmp_path / f"{name}.json")
        figures = {"miou": miou, "ms_per_frame": ms, "frames": 654, "data": "data/nyuv2:test"}
        files[-1].write_text(json.dumps(figures))
    arguments = ["--out", str(tmp_path), "--scores", *map(str, files)]
    assert main(arguments) == 0
    drawn = texts(tmp_path / "scores.svg")
    assert {"240 rows", "336 rows", "mIoU %"} <= drawn
    assert "654 frames of data/nyuv2:test. Line: none is faster and better" in drawn
    files[0].write_text("{}")
    assert main(arguments) == 2
    assert f"{files[0]} is not a file of sgnet_core.eval" in capsys.readouterr().err
