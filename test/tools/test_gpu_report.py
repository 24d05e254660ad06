"""The GPU report keeps the results of each part, and names what failed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import gpu_report
from gpu_report import Part, main, parts, run_part, run_parts, save

RECORD = {
    "suite": "operator",
    "shape": "1x64x120x160/1",
    "name": "deform_conv2d",
    "dtype": "float16",
    "p50_ms": 0.05,
    "p95_ms": 0.06,
    "floor_ms": None,
    "memory_mb": 41.6,
    "ratio": 0.2,
    "reference": "torchvision.ops.deform_conv2d",
    "machine": "a GPU",
    "date": "2026-01-02",
}


def write_record(path: Path) -> str:
    return f"import json; json.dump([{RECORD!r}], open({os.fspath(path)!r}, 'w'))"


def test_every_part_is_reported_whatever_happens_to_the_others(tmp_path: Path) -> None:
    chosen = [
        Part("device", ("-c", "print('a GPU')"), 600),
        Part("tests", ("-c", "print('1 failed'); raise SystemExit(3)"), 600),
        Part("operator", ("-c", write_record(tmp_path / "operator.json")), 600),
        Part(
            "tiles", ("-c", f"open({os.fspath(tmp_path / 'tiles.json')!r}, 'w').write('[1]')"), 600
        ),
    ]
    for count, results in enumerate(run_parts(chosen, tmp_path, 5, os.environ), start=1):
        save(results, tmp_path)
        content = json.loads((tmp_path / "report.json").read_text())
        assert [part["name"] for part in content["parts"]] == [p.name for p in chosen[:count]]
    status = [result.status for result in results]
    assert status == ["passed", "failed: exit status 3", "passed", "passed"]
    assert content["records"] == [RECORD]
    page = (tmp_path / "report.md").read_text()
    assert "## tests: failed: exit status 3" in page and "1 failed" in page
    row = (
        "| deform_conv2d | float16 | 0.050 | 0.060 |  | 42 | 0.20 | torchvision.ops.deform_conv2d |"
    )
    assert row in page


def test_progress_bars_leave_room_for_the_results(tmp_path: Path) -> None:
    bar = "for i in range(99): print(f'{i} of 99', end='\\r')"
    program = f"print('first')\n{bar}\nprint('          \\rlast')"
    result = run_part(Part("compile", ("-c", program), 600), tmp_path, 600, os.environ)
    assert result.tail == "first\nlast"


def test_a_part_that_hangs_is_stopped_with_its_processes(tmp_path: Path) -> None:
    sleep = "import time; time.sleep(1000)"
    hang = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {sleep!r}])"
    result = run_part(Part("tests", ("-c", hang), 600), tmp_path, 0.5, os.environ)
    assert result.status == "stopped after 0 s"
    left_out = run_part(Part("tests", ("-c", ""), 600), tmp_path, 0, os.environ)
    assert left_out.status == "left out: no time left"


def test_without_the_device_nothing_else_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        gpu_report,
        "parts",
        lambda cuda, out: [Part("device", ("-c", "1 / 0"), 600), Part("tests", ("-c", ""), 600)],
    )
    assert main(["--out", str(tmp_path)]) == 1
    assert "device: failed: exit status 1" in capsys.readouterr().out
    assert "ZeroDivisionError" in (tmp_path / "report.md").read_text()
    assert not (tmp_path / "tests.log").exists()


def test_parts_of_the_report_are_existing_files_and_suites(tmp_path: Path) -> None:
    from sgnet_core.benchmark.suites import SUITES

    assert set(gpu_report.SUITES) == set(SUITES) - {"shared"}, "that one is about a shared CPU"
    for test in (*gpu_report.TESTS, *gpu_report.CPU_TESTS):
        path, _, name = test.partition("::")
        assert f"def {name}" in (gpu_report.ROOT / path).read_text()
    scripts = [part.command[0] for part in parts(True, tmp_path) if part.command[0][0] != "-"]
    assert scripts and all((gpu_report.ROOT / script).is_file() for script in scripts)
    suites = [part for part in parts(False, tmp_path) if part.name in gpu_report.SUITES]
    assert all("--quick" in part.command for part in suites)
    assert not any("--quick" in part.command for part in parts(True, tmp_path))
