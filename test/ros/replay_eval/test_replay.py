"""Bags through the node's process: the figures are those of the model, in every format alike."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image as PilImage

import bag_messages
from bag_messages import Maker, colors
from sgnet_core.data.datasets.folder import camera_values, classes_values
from sgnet_core.data.datasets.folder_writer import write_json
from sgnet_core.data.images import write_png
from sgnet_core.evaluation.metrics import ConfusionMatrix
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.inference.segmenter import Segmenter
from sgnet_ros import bag_write
from sgnet_ros.recordings.frames import name_of
from sgnet_ros.replay_eval import __main__ as replay_eval
from sgnet_ros.replay_eval.options import FORWARDED, add_arguments
from sgnet_ros.replay_eval.ray_job import reserved_domain
from sgnet_ros.replay_eval.run import node_arguments
from sgnet_ros.replay_eval.scores import Stability, stability

COUNT = 8
WIDTH, HEIGHT = 64, 48
START, STEP = 1_700_000_000_000_000_000, 50_000_000
CAMERA = Intrinsics(60.0, 60.0, 31.5, 23.5, WIDTH, HEIGHT)


def arrays(i: int) -> tuple[np.ndarray, np.ndarray]:
    """Color that changes from frame to frame, and depth that hardly does."""
    rng = np.random.default_rng(i)
    rgb = np.kron(rng.integers(0, 256, (6, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    ramp = np.linspace(800, 3000, WIDTH) + np.zeros((HEIGHT, 1))
    depth = (ramp + rng.integers(-8, 9, ramp.shape)).astype(np.uint16)
    depth[rng.random(depth.shape) < 0.1] = 0
    return rgb, depth


@pytest.fixture(scope="module")
def data(
    models: dict[str, Path], segmenters: dict[str, Segmenter], tmp_path_factory: Any
) -> SimpleNamespace:
    """The same labeled frames as three bags, and what is to come of them."""
    folder = tmp_path_factory.mktemp("replay")
    frames, segmenter = folder / "frames", segmenters["points"]
    confusion, total, last = ConfusionMatrix(len(segmenter.labels)), Stability(), None
    for i in range(COUNT):
        rgb, depth = arrays(i)
        answer = segmenter.segment(rgb, depth, CAMERA).labels
        truth = answer.copy()
        truth[:, : 4 * i] = np.random.default_rng(i).integers(0, 13, (HEIGHT, 4 * i))
        truth[:4] = 255
        for kind, image in (("rgb", rgb), ("depth", depth), ("labels", truth)):
            (frames / kind).mkdir(parents=True, exist_ok=True)
            write_png(frames / kind / f"{name_of(START + i * STEP)}.png", image)
        confusion.update(truth, answer)
        if last is not None:
            total += stability((last[0], depth), (last[1], answer))
        last = (depth, answer)
    write_json(frames / "camera.json", camera_values(CAMERA, 0.001))
    write_json(frames / "classes.json", classes_values(segmenter.labels))
    bags = [folder / name for name in ("a.mcap", "b.db3", "c.bag")]
    for bag in bags:
        assert bag_write.main([str(frames), str(bag)]) == 0
    return SimpleNamespace(
        folder=folder, frames=frames, bags=bags, confusion=confusion, stability=total
    )


def evaluate(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sgnet_ros.replay_eval", *map(str, arguments)]
    environment = {k: v for k, v in os.environ.items() if k != "ROS_DOMAIN_ID"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def lossless(data: SimpleNamespace, models: dict[str, Path]) -> Iterator[SimpleNamespace]:
    """Two bags of other formats, at a time."""
    out = data.folder / "out"
    done = evaluate(
        *data.bags[1:],
        *("--model", models["points"], "--device", "cpu", "--jobs", 2, "--min-miou", 0.999),
        *("--json", out / "r.json", "--csv", out / "r.csv", "--html", out / "r.html"),
    )
    yield SimpleNamespace(done=done, report=json.loads((out / "r.json").read_text()), out=out)


@pytest.mark.slow
def test_on_ray_the_figures_are_the_same_and_a_bad_bag_is_a_problem(
    lossless: SimpleNamespace, data: SimpleNamespace, models: dict[str, Path], tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'sgnet_ros[fleet]'")
    torn = tmp_path / "torn.mcap"
    torn.write_bytes(b"no bag")
    fixed = ("--model", models["points"], "--device", "cpu", "--json", tmp_path / "r.json")
    done = evaluate(*data.bags[1:], torn, *fixed, "--ray", "--ray-cores", 1)
    assert done.returncode == 1, done.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    assert list(report["problems"]) == [str(torn)]
    assert "it begins with other bytes" in report["problems"][str(torn)]
    timings = ("seconds", "throughput_hz", "latency_ms", "inference_ms", "overhead_ms")
    for bag, expected in zip(report["bags"], lossless.report["bags"], strict=True):
        assert {k: v for k, v in bag.items() if k not in timings} == {
            k: v for k, v in expected.items() if k not in timings
        }


def test_workers_of_one_machine_get_domains_of_their_own() -> None:
    with reserved_domain() as first, reserved_domain() as second:
        assert first != second
        assert min(first, second) >= 1


def test_lossless_gives_the_models_own_figures_every_time(
    lossless: SimpleNamespace, data: SimpleNamespace
) -> None:
    expected = {
        "frames": COUNT,
        "labeled": COUNT,
        "compared": COUNT,
        "miou": data.confusion.miou,
        "pixel_accuracy": data.confusion.pixel_accuracy,
        "flip_rate": data.stability.flip_rate,
        "static_pixels": data.stability.static,
    }
    assert 0.1 < data.confusion.miou < 0.9 and 0 < data.stability.flipped < data.stability.static
    assert [bag["bag"] for bag in lossless.report["bags"]] == list(map(str, data.bags[1:]))
    for bag in lossless.report["bags"]:
        assert {key: bag[key] for key in expected} == expected  # to the last digit
        assert (bag["dropped"], bag["changed"]) == ({}, "")
        iou = data.confusion.class_iou
        assert list(bag["class_iou"].values()) == iou[np.isfinite(iou)].tolist()
        times = bag["latency_ms"]
        assert bag["inference_ms"]["p50"] < times["p50"] <= times["p95"] <= times["max"]
        assert bag["throughput_hz"] == pytest.approx(COUNT / bag["seconds"], rel=1e-2)
    assert lossless.report["total"]["labeled"] == 2 * COUNT


def test_the_worst_frames_are_those_with_the_most_noise(lossless: SimpleNamespace) -> None:
    stamps = [w["stamp_ns"] for w in lossless.report["bags"][0]["worst"]]
    assert len(stamps) == 6
    assert START + (COUNT - 1) * STEP in stamps[:2]
    assert START not in stamps  # all right
    page = (lossless.out / "r.html").read_text()
    assert page.count("<figure>") == 12
    assert page.count("data:image/png;base64,") == 12  # the truth
    assert (lossless.out / "r.csv").read_text().count("\n") == 4  # header, bags, total


def test_arguments_of_the_node_reach_it() -> None:
    said = {"model": "m.onnx", "device": "cpu", "precision": "fp32", "backend": "onnx"}
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert set(vars(parser.parse_args([]))) == set(FORWARDED), "what each bag's process gets"
    args = parser.parse_args([word for name in said for word in (f"--{name}", said[name])])
    arguments = node_arguments(args)
    for name, value in said.items():
        assert arguments[arguments.index(f"{name}:={value}") - 1] == "-p"


def test_a_missed_threshold_is_the_exit_status(lossless: SimpleNamespace) -> None:
    assert lossless.done.returncode == 3, lossless.done.stderr
    miou = lossless.report["total"]["miou"]
    assert f"mIoU is {miou:.4f}, below --min-miou 0.999" in lossless.done.stderr
    assert f"{miou:.3f}" in lossless.done.stdout


def test_float_millimeters_are_named_with_topic_median_and_unit(tmp_path: Path) -> None:
    make = Maker(2)
    depth = make.image(np.full((bag_messages.HEIGHT, bag_messages.WIDTH), 3083.2, "f4"), "32FC1", 9)
    color = make.image(colors(0), "rgb8", 9)
    messages = [("/c/color/image_raw", 9, color), ("/c/depth/image", 9, depth)]
    bag = make.write(tmp_path / "mm.mcap", messages)
    done = evaluate(bag, "--device", "cpu", "--json", tmp_path / "r.json")
    assert done.returncode == 1
    [problem] = json.loads((tmp_path / "r.json").read_text())["problems"].values()
    assert f"replay_eval: {problem}" in done.stderr  # which begins with the bag's name
    assert "images on /c/depth/image have a median of 3083 m" in problem
    assert "likely in millimeters: give predict or bag_export --depth-scale 0.001" in problem


def test_at_the_recorded_rate_every_frame_is_accounted_for(
    data: SimpleNamespace, models: dict[str, Path]
) -> None:
    """With truth in files, of which one is missing, and a bag that breaks off."""
    torn, truth = data.folder / "torn.mcap", data.folder / "truth"
    torn.write_bytes(data.bags[0].read_bytes()[:-200])
    truth.mkdir()
    for path in sorted((data.frames / "labels").iterdir())[1:]:
        PilImage.open(path).save(truth / path.name)
    out = data.folder / "recorded.json"
    done = evaluate(
        *(torn, data.folder / "frames", "--rate", "0.5x", "--truth", truth, "--json", out),
        *("--model", models["points"], "--device", "cpu", "--max-p95-ms", 60_000),
    )
    assert done.returncode == 1  # one of them is no bag
    assert f"{data.folder / 'frames'} holds no bag file (.mcap, .db3)" in done.stderr
    assert f"{torn} is damaged or was not finished" in done.stderr
    report = json.loads(out.read_text())
    (bag,) = report["bags"]
    assert (bag["complete"], bag["frames"]) == (False, COUNT)
    assert bag["labeled"] + sum(bag["dropped"].values()) == COUNT
    assert set(bag["dropped"]) <= {"overload", "transport", "unmatched_rgb"}
    assert bag["labeled"] > 0
    assert bag["labeled"] - 1 <= bag["compared"] <= min(bag["labeled"], COUNT - 1)
    assert bag["seconds"] > (COUNT - 3) * STEP / 1e9 * 2  # half as fast as recorded


class EndedProcess:
    """In the place of the process of a bag: it has ended, for a reason."""

    done = of = 0

    def __init__(self, bag: Path, domain: int, *_: object) -> None:
        self.bag, self.domain = bag, domain
        self.child = SimpleNamespace(running=False, stop=lambda: None)

    def poll(self) -> list[str]:
        return []

    def result(self) -> str:
        return "damaged"


def test_ctrl_c_leaves_the_report_of_the_bags_that_are_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    follow = replay_eval._follow

    def interrupted_after_one(running: Any, outcomes: dict[Path, Any], bar: Any) -> None:
        follow(running, outcomes, bar)
        if outcomes:
            raise KeyboardInterrupt

    monkeypatch.setattr(replay_eval, "BagProcess", EndedProcess)
    monkeypatch.setattr(replay_eval, "_follow", interrupted_after_one)
    report = replay_eval.evaluate_bags([Path("a.mcap"), Path("b.mcap")], [], jobs=1)
    assert report.problems == {"a.mcap": "damaged", "b.mcap": replay_eval.INTERRUPTED}

    monkeypatch.setattr(replay_eval, "_follow", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):  # there is nothing to report
        replay_eval.evaluate_bags([Path("a.mcap")], [], jobs=1)


def test_a_report_that_could_not_be_written_is_reported_before_a_bag_is_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def evaluate_bags(*_: Any, **__: Any) -> None:
        pytest.fail("a bag was played")

    monkeypatch.setattr(replay_eval, "evaluate_bags", evaluate_bags)
    monkeypatch.setattr(replay_eval, "stay_local", lambda: None)
    monkeypatch.setattr(replay_eval.signal, "signal", lambda *_: None)
    bag = tmp_path / "a.mcap"
    bag.touch()
    assert replay_eval.main([str(bag), "--html", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"replay_eval: [Errno 21] Is a directory: '{tmp_path}'\n"
