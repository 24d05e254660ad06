"""Figures of a GPU reach the page of benchmarks, and no others do."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import gpu_docs
from sgnet_core.benchmark.measure import Record


def report(device: str) -> dict[str, Any]:
    record = Record(
        *("operator", "deform_conv2d", device, "float16", "1x64x120x160/1", 8),
        *(0.0123, 0.02, 0.001, 30, "torchvision.ops.deform_conv2d", 0.1),
        *(1.4, 5.0, 0.004, 100.0, "a GPU", "2026-01-02"),
    )
    parts = [
        {"name": "operator", "command": "x", "status": "passed", "seconds": 1, "tail": "t"},
        {"name": "tiles", "command": "y", "status": "passed", "seconds": 1, "tail": "Row(…)"},
        {"name": "training", "command": "z", "status": "stopped", "seconds": 1, "tail": ""},
    ]
    return {"parts": parts, "records": [asdict(record)]}


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "benchmarks.md"
    path.write_text("above\n<!-- gpu: begin -->\nold\n<!-- gpu: end -->\nbelow\n")
    monkeypatch.setattr(gpu_docs, "PAGE", path)
    monkeypatch.setattr(gpu_docs, "RECORDS", tmp_path / "gpu.json")
    return path


def test_a_report_replaces_the_previous_one(page: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text(json.dumps(report("cuda")))
    for _ in range(2):
        assert gpu_docs.main(["--report", str(file)]) == 0
        text = page.read_text()
        assert text.startswith("above\n") and text.endswith("\nbelow\n")
        assert "old" not in text
        assert "2026-01-02: a GPU" in text and text.count("deform_conv2d  ") == 1
        assert "Row(…)" in text and "Part `training` did not pass: stopped." in text
    assert json.loads((tmp_path / "gpu.json").read_text()) == report("cuda")["records"]


def test_figures_of_a_cpu_are_refused(
    page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, before = tmp_path / "report.json", page.read_text()
    file.write_text(json.dumps(report("cpu")))
    with pytest.raises(SystemExit, match="2"):
        gpu_docs.main(["--report", str(file)])
    assert "run make gpu on a machine with one" in capsys.readouterr().err
    assert page.read_text() == before


def test_the_page_has_the_marks() -> None:
    page = (gpu_docs.ROOT / "docs" / "benchmarks.md").read_text()
    assert "figures" in gpu_docs.replaced(page, gpu_docs.MARK, "figures")
