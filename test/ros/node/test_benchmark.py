"""The benchmark's suite ``node``: its figures are those of frames that went over DDS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_times_of_a_frame_fit_together(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sgnet_core.benchmark", "--quick", "--suite", "node"]
    hidden = {"ROS_DOMAIN_ID"}  # it finds one itself
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    subprocess.run([*command, "--json", tmp_path / "f.json"], env=environment, check=True)
    records = {r["name"]: r for r in json.loads((tmp_path / "f.json").read_text())}
    assert list(records) == [
        "node, ready",
        "Segmenter, no ROS",
        "node, labels received",
        "node, labels published",
        "node, all but inference",
        "node, its own overhead",
    ]
    received, published, around, overhead = list(records.values())[2:]
    # Labels come in before the node knows how long it took to send them, or a little later.
    assert received["p50_ms"] > around["p50_ms"]
    assert published["p50_ms"] > around["p50_ms"] >= overhead["p50_ms"] > 0
    for record in (received, published, around, overhead):
        assert record["reference"] == "Segmenter, no ROS"
        assert record["memory_mb"] > 100
        assert record["rounds"] == 3
    assert records["node, ready"]["p50_ms"] > published["p50_ms"]
