"""The figures of a replay, against slow references; the report in its three forms."""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgnet_core.data.images import write_png
from sgnet_core.evaluation.metrics import ConfusionMatrix
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.models.labels import LabelSet
from sgnet_ros.recordings.frames import CameraFrame, name_of
from sgnet_ros.replay_eval.__main__ import misses, parse_arguments
from sgnet_ros.replay_eval.answers import Answers, ReplayError
from sgnet_ros.replay_eval.judge import KEPT_PICTURES, Judge, TruthFolder, require_same
from sgnet_ros.replay_eval.options import parse_rate
from sgnet_ros.replay_eval.report import BagResult, ReplayReport
from sgnet_ros.replay_eval.scores import Stability, Tally, percentiles, stability
from write_files import add_macos_files

CLASSES = LabelSet("lab", ("floor", "wall", "robot"), ((1, 2, 3), (200, 0, 0), (0, 200, 0)))
H, W = 6, 8
START = 1_700_000_000_000_000_000


@settings(max_examples=50)
@given(st.integers(0, 10**6))
def test_flips_are_counted_on_pixels_whose_depth_stays(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 4000, (H, W)).astype(np.uint16) * rng.integers(0, 2, (H, W), np.uint16)
    second = np.clip(first + rng.integers(-45, 46, (H, W)), 0, 65535).astype(np.uint16)
    labels = [rng.choice(np.array([0, 1, 2, 255], np.uint8), (H, W)) for _ in range(2)]
    static = flipped = 0
    for v in range(H):
        for u in range(W):
            a, b = int(first[v, u]), int(second[v, u])
            before, after = int(labels[0][v, u]), int(labels[1][v, u])
            if a == 0 or b == 0 or 255 in (before, after):
                continue
            if abs(a - b) <= 10 or 100 * abs(a - b) <= min(a, b):
                static += 1
                flipped += before != after
    found = stability((first, second), (labels[0], labels[1]))
    assert found == Stability(static, flipped)
    assert found.flip_rate == (flipped / static if static else None)


def test_percentiles_are_those_of_numpy() -> None:
    values = [5.0, 1.0, 9.0, 2.0, 7.5]
    expected = {"p50": 5.0, "p90": 8.4, "p95": 8.7, "p99": 8.94, "max": 9.0}
    assert percentiles(values) == expected
    assert percentiles([]) is None


def tally(seed: int, scored: bool = True) -> Tally:
    rng = np.random.default_rng(seed)
    confusion = ConfusionMatrix(3)
    confusion.counts += rng.integers(1, 50, (3, 3)) * (np.arange(3) < 2)[:, None]  # no robot
    return Tally(
        frames=10 + seed,
        labeled=8,
        dropped=Counter({"overload": 1 + seed, "transport": 1}),
        seconds=2.5,
        latency_ms=rng.uniform(10, 90, 8).tolist(),
        inference_ms=[5.0] * 8,
        overhead_ms=[1.0] * 8,
        confusion=confusion if scored else None,
        compared=8,
        stability=Stability(100 * seed + 50, seed + 1),
    )


def test_the_total_is_that_of_all_frames_not_the_mean_of_the_bags() -> None:
    parts, total = [tally(0), tally(1), tally(2, scored=False)], Tally()
    for part in parts:
        total.add(Tally.from_json(json.loads(json.dumps(part.to_json()))))  # as processes do
    assert parts[0].confusion is not None and parts[1].confusion is not None
    together = parts[0].confusion.counts + parts[1].confusion.counts
    figures = total.figures(CLASSES.names)
    iou = [together[i, i] / (together[i].sum() + together[:, i].sum() - together[i, i])
           for i in range(2)]  # fmt: skip
    assert figures["class_iou"] == pytest.approx({"floor": iou[0], "wall": iou[1]})
    assert figures["miou"] == pytest.approx(np.mean(iou))
    assert figures["pixel_accuracy"] == pytest.approx(np.trace(together) / together.sum())
    assert figures["flip_rate"] == pytest.approx(6 / 450)
    assert (figures["frames"], figures["labeled"]) == (33, 24)
    assert figures["dropped"] == {"overload": 6, "transport": 3}
    assert figures["throughput_hz"] == pytest.approx(24 / 7.5)
    times = np.concatenate([part.latency_ms for part in parts])
    assert figures["latency_ms"]["p95"] == pytest.approx(np.percentile(times, 95), abs=1e-3)


def test_without_truth_or_answers_there_are_no_figures() -> None:
    figures = Tally(frames=3, dropped=Counter({"overload": 3})).figures(CLASSES.names)
    for name in ("miou", "pixel_accuracy", "flip_rate", "latency_ms", "throughput_hz"):
        assert figures[name] is None
    assert figures["class_iou"] == {}


def image_message_bytes(mask: np.ndarray) -> bytes:
    from rclpy.serialization import serialize_message
    from std_msgs.msg import Header

    from sgnet_ros.messages.images import image_message

    return bytes(serialize_message(image_message(mask, Header())))


def frames(count: int, truth: bool) -> tuple[list[CameraFrame], Answers]:
    """Frames whose k-th has k wrong pixels; depth stays, and the last frame isn't answered."""
    answers, made = Answers(), []
    depth = np.full((H, W), 1500, np.uint16)
    for k in range(count):
        right = np.full((H, W), k % 2, np.uint8)
        answer = right.copy()
        answer.ravel()[:k] = 2
        stamp = START + k
        rgb = np.full((H, W, 3), 10 * k, np.uint8)
        camera = Intrinsics(5, 5, 4, 3, W, H)
        made.append(CameraFrame(rgb, depth, right if truth else None, camera, stamp))
        answers.sent.append(stamp)
        if k < count - 1:
            answers.keep(stamp, image_message_bytes(answer))
            answers.latency_ms[stamp] = 10.0 + k
    return made, answers


def test_the_judge_finds_truth_flips_and_the_worst_frames() -> None:
    made, answers = frames(10, truth=True)
    judge = Judge(answers, CLASSES, None)
    for frame in made:
        judge.judge(frame)
    figures = judge.tally.figures(CLASSES.names)
    assert (figures["frames"], figures["labeled"], figures["compared"]) == (10, 9, 9)
    assert figures["pixel_accuracy"] == pytest.approx(1 - sum(range(9)) / (9 * H * W))
    # from frame k to k + 1, the first k pixels stay robot and all others change
    changed = sum(H * W - k for k in range(8))
    assert judge.tally.stability == Stability(8 * H * W, changed)
    worst = sorted(judge.worst, reverse=True)
    assert [shown.stamp_ns - START for shown in worst] == [8, 7, 6, 5, 4, 3][:KEPT_PICTURES]
    assert worst[0].note == f"mIoU {1 - 8 / (H * W):.3f}"
    assert list(worst[0].pictures) == ["color", "labels", "truth", "errors"]

    made, answers = frames(10, truth=False)
    judge = Judge(answers, CLASSES, None)
    for frame in made:
        judge.judge(frame)
    assert judge.tally.confusion is None
    assert max(judge.worst).stamp_ns == START + 1  # there all pixels changed
    assert max(judge.worst).note == "100.0% of the static pixels changed"


def test_truth_in_files_is_found_by_stamp(tmp_path: Path) -> None:
    masks = {
        name_of(START): 0,
        "1700000001.5": 1,
        "1700000002.123457": 2,  # microseconds, rounded
        "cover": 0,
    }
    (tmp_path / "labels").mkdir()
    for name, value in masks.items():
        suffix = ".PNG" if value == 1 else ".png"
        write_png(tmp_path / "labels" / f"{name}{suffix}", np.full((H, W), value, np.uint8))
    add_macos_files(tmp_path)
    truth = TruthFolder(tmp_path)
    found = {
        stamp: None if (mask := truth[stamp]) is None else int(mask[0, 0])
        for stamp in (START, START + 1_500_000_000, START + 2_123_456_789, START + 10_000)
    }
    assert list(found.values()) == [0, 1, 2, None]

    ids = {"names": ["floor", "wall"], "ids": [2, 0], "ignore": [1]}
    (tmp_path / "classes.json").write_text(json.dumps(ids))
    truth = TruthFolder(tmp_path)
    assert truth.classes is not None and truth.classes.names == ("floor", "wall")
    mask, ignored = truth[START], truth[START + 1_500_000_000]
    assert mask is not None and ignored is not None
    assert (mask[0, 0], ignored[0, 0]) == (1, 255)
    with pytest.raises(ReplayError, match="has no label image named after a stamp"):
        TruthFolder(tmp_path / "nowhere")


def test_truth_of_other_classes_is_refused() -> None:
    made, answers = frames(2, truth=True)
    assert made[0].labels is not None
    made[0].labels[0, 0] = 7
    with pytest.raises(ReplayError, match=rf"{START} does not fit the model's classes \(lab\)"):
        Judge(answers, CLASSES, None).judge(made[0])

    other = LabelSet("other", ("floor", "wall"), CLASSES.colors[:2])
    with pytest.raises(ReplayError, match=r"\(/cam/labels\) has the classes other, .* a --model"):
        require_same(CLASSES, other, "/cam/labels")
    require_same(CLASSES, None, "/cam/labels")  # not known
    require_same(CLASSES, LabelSet("lab2", CLASSES.names, CLASSES.colors), "/cam/labels")


def result(bag: str, seed: int, scored: bool = True) -> BagResult:
    worst = [{"badness": -0.25 - seed, "stamp_ns": 5, "note": "mIoU 0.250",
              "pictures": {"color": "data:image/jpeg;base64,AAAA"}}]  # fmt: skip
    return BagResult.of(
        {
            "bag": bag,
            "tally": tally(seed, scored).to_json(),
            "classes": CLASSES.to_dict(),
            "model": "tiny<script>",
            "rate": "lossless",
            "size": [8, 6],
            "changed": "depth, from units of 0.0005 m to millimeters" if seed else "",
            "worst": worst,
        }
    )


def test_json_csv_text_and_page_say_the_same() -> None:
    report = ReplayReport([result("a.mcap", 0), result("dir/b.bag", 1)], {"c.db3": "is damaged"})
    figures = report.to_json()
    assert [bag["bag"] for bag in figures["bags"]] == ["a.mcap", "dir/b.bag"]
    assert figures["problems"] == {"c.db3": "is damaged"}
    assert "data:image" not in json.dumps(figures)

    rows = list(csv.DictReader(io.StringIO(report.to_csv())))
    assert [row["bag"] for row in rows] == ["a.mcap", "dir/b.bag", "total"]
    assert float(rows[2]["miou"]) == pytest.approx(figures["total"]["miou"])
    assert float(rows[1]["class_iou.wall"]) == figures["bags"][1]["class_iou"]["wall"]
    assert int(rows[2]["dropped.overload"]) == 3

    text = report.to_text()
    assert re.search(rf"^total +21 +16 +{figures['total']['miou']:.3f} ", text, re.M)
    assert re.search(rf"^floor +{figures['total']['class_iou']['floor']:.3f}$", text, re.M)

    page = report.to_html()
    assert "<dd>depth, from units of 0.0005 m to millimeters</dd>" in page
    assert f"{100 * figures['total']['miou']:.1f}<small> %" in page
    assert "tiny&lt;script&gt;" in page and "<script" not in page
    assert not re.search(r'(src|href)="(?!data:)', page)  # nothing from elsewhere
    assert page.count("data:image/jpeg;base64,AAAA") == 2
    assert page.index("dir/b.bag, stamp 5") > page.index("a.mcap, stamp 5")  # the worst first
    assert "c.db3: is damaged" in page
    assert "By class" not in ReplayReport([result("a", 0, scored=False)], {}).to_html()


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--min-miou", "0.3"], 0),
        (["--min-miou", "0.9"], 1),
        (["--max-p95-ms", "90"], 0),
        (["--max-p95-ms", "20", "--min-miou", "0.9"], 2),
    ],
)
def test_thresholds_are_of_the_total(tmp_path: Path, arguments: list[str], expected: int) -> None:
    args: argparse.Namespace = parse_arguments([str(tmp_path), *arguments])
    total = {"miou": 0.3, "latency_ms": {"p95": 90.0}}
    assert len(misses(total, args)) == expected
    unknown: dict[str, Any] = {"miou": None, "latency_ms": None}
    assert len(misses(unknown, args)) == len(arguments) // 2  # what isn't known isn't reached


def test_rates_and_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [parse_rate(r) for r in ("recorded", "2x", "0.5x", "lossless")] == [1, 2, 0.5, np.inf]
    for wrong in ("2", "-1x", "infx", "fast", "0x", "nanx"):
        with pytest.raises(SystemExit) as end:
            parse_arguments([str(tmp_path), "--rate", wrong])
        assert end.value.code == 2
    for wrong_arguments in (["nowhere.bag"], [str(tmp_path)] * 2, [str(tmp_path), "--jobs", "0"]):
        with pytest.raises(SystemExit) as end:
            parse_arguments(wrong_arguments)
        assert end.value.code == 2
    assert "nowhere.bag does not exist" in capsys.readouterr().err
