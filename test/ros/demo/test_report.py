"""The figures of a demo add up."""

from __future__ import annotations

import json

from sgnet_msgs.msg import FrameStats

from sgnet_ros.demo.report import DemoRecord, spread, summarize, table


def stats(age: float, counters: tuple[int, int], **drops: int) -> FrameStats:
    pairs, segmented = counters
    return FrameStats(
        age_ms=age,
        inference_ms=age / 2,
        pairs=pairs,
        segmented=segmented,
        drop_causes=list(drops),
        drops=list(drops.values()),
    )


def test_the_summary_adds_up() -> None:
    """25 sent: 2 lost on the way, 3 came by half, 5 replaced, 15 labeled; 1 label not received."""
    counted = [stats(float(10 * i), (5 + i, 4 + i)) for i in range(1, 15)]
    counted.append(stats(150.0, (25, 19), overload=6, unmatched_rgb=5))
    labels = [(i, "cam") for i in (1, 2, 4, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 13)]
    run = DemoRecord(
        source="rooms",
        model="m",
        device="cpu",
        size=(4, 3),
        rate_hz=2.0,
        camera={"pairs_sent": 25},
        baseline=stats(1.0, (5, 4), overload=1, unmatched_rgb=2),
        stats=counted,
        labels=labels,
        rgb_headers=dict.fromkeys(range(1, 12), "cam") | {12: "other"},
        miou=None,
        rss_mib=[100.0, 130.04, 120.0],
    )
    s = summarize(run)
    assert (s["pairs_sent"], s["pairs_received"]) == (25, 20)
    assert (s["labels_published"], s["labels_received"]) == (15, 14)
    assert s["dropped"] == {"overload": 5, "unmatched_rgb": 3, "transport": 2}
    assert s["pairs_sent"] == s["labels_published"] + sum(s["dropped"].values())
    assert s["header_mismatches"] == 3  # stamp 12 of another frame, stamp 13 of none, twice
    assert s["out_of_order"] == 2  # 3 after 4, and 13 again
    assert s["age_ms"] == {"p50": 80.0, "p95": 143.0, "max": 150.0}
    assert s["inference_ms"]["max"] == 75.0
    assert s["rss_mb"] == {"first": 100.0, "last": 120.0, "max": 130.0}
    json.dumps(s)  # plain types
    for expected in ("5 overload, 3 unmatched_rgb, 2 transport", "no ground truth", "4x3 at 2 Hz"):
        assert expected in table(s)


def test_spread_is_median_95th_percentile_and_maximum() -> None:
    assert spread(float(i) for i in range(101)) == {"p50": 50.0, "p95": 95.0, "max": 100.0}
    assert spread([7.0]) == {"p50": 7.0, "p95": 7.0, "max": 7.0}
