"""The short soak, and the judgment of a soak's summary."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sgnet_ros.soak import __main__ as soak
from sgnet_ros.soak.faults import FAULTS
from sgnet_ros.system.domains import free_domain


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a soak of 300 frames."""
    out = tmp_path_factory.mktemp("soak")
    environment = os.environ | {"ROS_DOMAIN_ID": str(free_domain()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "sgnet_ros.soak", "--frames", "300", "--out", str(out)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (out / "summary.json").exists(), run.stderr
    assert "unaccounted for            0" in run.stdout, run.stdout + run.stderr
    return out


@pytest.fixture(scope="module")
def summary(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return content


@pytest.mark.slow
def test_faults_cause_no_wrong_header_and_no_unaccounted_frame(
    summary: dict[str, Any],
) -> None:
    assert summary["failures"] == []
    for count in ("crashes", "tracebacks", "header_mismatches", "out_of_order"):
        assert summary[count] == 0, count
    assert summary["label_mismatches"] == summary["unaccounted"] == 0
    assert summary["frames"] >= 300
    assert summary["labels"] > 200
    assert set(summary["faults"]) == set(FAULTS), "every kind was injected"
    drops = set(summary["drops"])
    assert "disabled" in drops
    assert drops & {"bad_rgb", "bad_depth"}, "a busy node may replace some of the spoilt pairs"
    assert drops & {"unmatched_rgb", "unmatched_depth"}, "either stream may be the one that paused"


@pytest.mark.slow
def test_memory_threads_and_descriptors_are_those_of_the_nodes_process(
    out: Path, summary: dict[str, Any]
) -> None:
    with (out / "samples.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert set(FAULTS) <= {row["fault"] for row in rows}
    frames = [int(row["frames"]) for row in rows]
    assert frames == sorted(frames)
    assert summary["rss_mb"]["last"] == float(rows[-1]["rss_mb"]) > 10
    assert summary["threads"]["last"] == int(rows[-1]["threads"]) > 1
    assert summary["descriptors"]["last"] == int(rows[-1]["descriptors"]) > 3


GOOD = {
    **dict.fromkeys(("crashes", "tracebacks", "header_mismatches", "out_of_order"), 0),
    **dict.fromkeys(("label_mismatches", "unaccounted"), 0),
    "failures": [],
    "rss_mb": {"first": 500.0, "last": 510.0, "max": 510.0},
    "threads": {"first": 20, "last": 20},
    "descriptors": {"first": 30, "last": 29},
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"crashes": 1}, "1 crashes"),
        ({"header_mismatches": 2}, "2 header_mismatches"),
        ({"unaccounted": 3}, "3 unaccounted"),
        ({"failures": ["frame 7, reload: stuck"]}, "frame 7"),
        ({"rss_mb": {"first": 500.0, "last": 505.0, "max": 510.1}}, "memory grew from 500.0"),
        ({"threads": {"first": 20, "last": 21}}, "threads grew from 20 to 21"),
        ({"descriptors": {"first": 30, "last": 31}}, "descriptors grew from 30 to 31"),
    ],
)
def test_a_run_fails_for_each_kind_of_failure(change: dict[str, Any], words: str) -> None:
    assert soak.problems(GOOD) == []
    (problem,) = soak.problems(GOOD | change)
    assert words in problem


class Message:
    """The part of a message that the ledger needs."""

    def __init__(self, stamp_ns: int, frame: str = "", **values: Any) -> None:
        self.header = type("Header", (), {"frame_id": frame, "stamp": type("Stamp", (), {})})
        self.header.stamp.sec, self.header.stamp.nanosec = divmod(stamp_ns, 10**9)
        self.__dict__.update(values)


@pytest.fixture
def tester(monkeypatch: pytest.MonkeyPatch) -> soak.Tester:
    """The ledger alone, without ROS, after color images at 1000, 2000 and 3000."""
    tester = object.__new__(soak.Tester)
    tester.ledger = soak.FrameLedger()
    tester._sent, tester._epoch, tester._last_label = {}, 0, (0, -1)
    tester._expected, tester._exact, tester._settling = {}, True, False
    tester.camera = type("Camera", (), {})
    tester.camera.rgb = type("Publisher", (), {"publish": lambda message: None})
    tester.sent, tester._missing, tester._drops_seen = Counter(), Counter(), Counter()
    for stamp in (1000, 2000, 3000):
        tester.publish_rgb(Message(stamp, "camera", height=1, width=2), scene=0)
    return tester


def label(stamp_ns: int, frame: str = "camera", width: int = 2, value: bytes = b"\1\1") -> Message:
    return Message(stamp_ns, frame, height=1, width=width, data=value)


def test_the_ledger_counts_wrong_label_images(tester: soak.Tester) -> None:
    ledger = tester.ledger
    tester._on_labels(label(1000))
    assert (ledger.labels, ledger.header_mismatches, ledger.out_of_order) == (1, 0, 0)
    for wrong in (label(1000), label(1500), label(2000, "other"), label(2000, width=1)):
        tester._on_labels(wrong)  # twice, never sent, other frame, other size
    assert ledger.header_mismatches == 4
    tester._on_labels(label(3000, value=b"\1\2"))
    assert ledger.label_mismatches == 1
    tester._on_labels(label(2000))
    assert ledger.out_of_order == 1
    assert ledger.header_mismatches == 4


@pytest.mark.parametrize(
    ("counters", "drops", "unaccounted"),
    [
        ({}, {}, 0),
        ({"rgb_received": 2, "pairs": 2, "segmented": 2}, {"unmatched_depth": 1}, 1),
        ({"segmented": 2}, {}, 1),
        ({"segmented": 2}, {"bad_rgb": 1}, 0),
        ({"pairs": 2, "segmented": 2}, {"unmatched_rgb": 1, "unmatched_depth": 1}, 0),
        ({"pairs": 2, "segmented": 2}, {"unmatched_rgb": 1}, 1),
    ],
)
def test_the_ledger_counts_frames_that_no_counter_contains(
    tester: soak.Tester, counters: dict[str, int], drops: dict[str, int], unaccounted: int
) -> None:
    tester.sent["depth"] = 3
    values = {"rgb_received": 3, "depth_received": 3, "pairs": 3, "segmented": 3} | counters
    tester.stats = Message(3000, drop_causes=list(drops), drops=list(drops.values()), **values)
    tester.account(losses_allowed=False)
    assert tester.ledger.unaccounted == unaccounted
    assert tester.ledger.drops == Counter(drops)
    tester.account(losses_allowed=False)
    assert tester.ledger.drops == Counter(drops), "each drop once"


def test_a_slow_node_settles(tester: soak.Tester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that takes 0.5 s for a frame and then takes the newest one."""
    clock, busy = 0.0, (0.0, 3000)  # when the frame in work is ready, and its stamp

    def send() -> int:
        tester.now_ns += 1000
        tester.publish_rgb(Message(tester.now_ns, "camera", height=1, width=2), scene=0)
        return tester.now_ns

    def spin() -> None:
        nonlocal clock, busy
        clock += 0.02
        ready_at, stamp = busy
        if clock >= ready_at:
            if stamp > 3000:
                tester._on_labels(label(stamp))
                tester._on_stats(Message(stamp))
            busy = (clock + 0.5, tester.now_ns)

    tester.now_ns, tester.stats, tester._newest_label = 3000, None, None
    for name, function in (("send", send), ("_spin", spin), ("_alive", lambda: None)):
        monkeypatch.setattr(tester, name, function, raising=False)
    monkeypatch.setattr("sgnet_ros.soak.tester.time.monotonic", lambda: clock)
    tester.settle("start")
    assert tester.ledger.recovery_s["start"] < 5
