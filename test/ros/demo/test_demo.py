"""The demo as users start it: three processes over DDS, its figures, and its clean end."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image as PilImage

from sgnet_core import create_model
from sgnet_core.data.images import overlay, read_rgb
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.models.labels import NYU40
from sgnet_core.models.model_file import save_model
from sgnet_ros.demo.report import table
from sgnet_ros.recordings.bags import Bag
from waiting import wait_until

COUNT, RATE = 10, 4.0
SIZE = (48, 64)  # height, width
K = [[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    torch.manual_seed(0)  # some weights give masks too noisy for JPEG
    save_model(create_model("sgnet_lite", labels="nyu40"), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labeled frames of coarse noise."""
    path = tmp_path_factory.mktemp("frames")
    for i in range(COUNT):
        rng = np.random.default_rng(i)
        images = {
            "color": rng.integers(0, 256, (6, 8, 3), np.uint8),
            "depth": rng.integers(500, 5000, (6, 8), np.uint16),
            "label": rng.choice([0, 1, 4, 255], (6, 8)).astype(np.uint8),
        }
        for name, image in images.items():
            PilImage.fromarray(image.repeat(8, 0).repeat(8, 1)).save(path / f"{i:03d}-{name}.png")
    (path / "camera.json").write_text(json.dumps({"K": K, "label_set": "nyu40"}))
    return path


def demo_process(*arguments: object, screen: bool = True) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sgnet_ros.demo", *map(str, arguments)]
    # In a DDS domain of its own, which it finds itself.
    hidden = {"ROS_DOMAIN_ID"}
    if not screen:
        hidden |= {"DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET"}
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=environment
    )


def processes_about(text: object) -> list[str]:
    """Command lines, of all processes alive, in which ``text`` occurs."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # it ended meanwhile
            continue
    return [line for line in lines if str(text) in line]


@pytest.fixture(scope="module")
def run(
    model: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimpleNamespace]:
    """One finished demo."""
    out = tmp_path_factory.mktemp("demo")
    (out / "overlay_99.png").touch()  # of an earlier run
    process = demo_process(
        *("--source", folder, "--out", out, "--rate", RATE, "--model", model, "--device", "cpu"),
        *("--size", f"{SIZE[1]}x{SIZE[0]}"),  # a busy machine would go for less
    )
    text, _ = process.communicate()
    assert process.returncode == 0, text
    summary = json.loads((out / "summary.json").read_text())
    yield SimpleNamespace(out=out, text=text, summary=summary)


@pytest.fixture(scope="module")
def recorded(run: SimpleNamespace) -> dict[str, list[Any]]:
    """Messages of the demo's bag by topic."""
    messages: dict[str, list[Any]] = {}
    with Bag(run.out / "bag") as bag:
        for topic, _, message in bag.messages(list(bag.topics)):
            messages.setdefault(topic, []).append(message)
    return messages


def test_every_pair_comes_back_as_labels(run: SimpleNamespace, folder: Path) -> None:
    s = run.summary
    assert list(s) == [
        *("source", "model", "device", "size", "rate_hz"),
        *("pairs_sent", "pairs_received", "labels_published", "labels_received", "dropped"),
        *("header_mismatches", "out_of_order", "age_ms", "inference_ms", "node_overhead_ms"),
        *("stages_ms", "miou", "rss_mb"),
    ]
    assert (s["source"], s["model"], s["device"]) == (str(folder), "sgnet_lite", "cpu")
    assert (s["size"], s["rate_hz"]) == ([SIZE[1], SIZE[0]], RATE)
    assert s["pairs_sent"] == s["pairs_received"] == COUNT
    assert s["labels_published"] == s["labels_received"] == COUNT - sum(s["dropped"].values())
    assert set(s["dropped"]) <= {"overload"}  # by a machine that is busy with other things
    assert s["labels_received"] > 0
    assert (s["header_mismatches"], s["out_of_order"]) == (0, 0)


def test_times_and_memory_are_consistent(run: SimpleNamespace) -> None:
    s = run.summary
    stages = s["stages_ms"]
    assert list(stages) == ["wait", "convert", "preprocess", "network", "postprocess", "publish"]
    for times in (s["age_ms"], s["inference_ms"], s["node_overhead_ms"], *stages.values()):
        assert 0 <= times["p50"] <= times["p95"] <= times["max"]
    assert s["age_ms"]["p50"] > s["inference_ms"]["p50"] >= stages["network"]["p50"] > 0.1
    assert s["node_overhead_ms"]["max"] >= stages["publish"]["max"]
    assert 50 < s["rss_mb"]["first"] <= s["rss_mb"]["max"] >= s["rss_mb"]["last"]


def test_the_bag_contains_the_labels_of_the_model(
    run: SimpleNamespace, recorded: dict[str, list[Any]], answered: list[int]
) -> None:
    received = run.summary["labels_received"]
    assert len(answered) == received
    assert {t: len(m) for t, m in recorded.items()} == {
        "/sgnet/labels": received,
        "/sgnet/overlay/compressed": received,
        "/sgnet/camera_info": received,
        "/sgnet/stats": received,
        "/sgnet/class_map": 1,
    }
    stamps = [(m.header.stamp.sec, m.header.stamp.nanosec) for m in recorded["/sgnet/labels"]]
    assert stamps == sorted(set(stamps))
    headers = [m.header for m in recorded["/sgnet/camera_info"]]
    assert headers == [m.header for m in recorded["/sgnet/labels"]]
    assert {h.frame_id for h in headers} == {"camera_color_optical_frame"}

    (classes,) = recorded["/sgnet/class_map"]
    assert (classes.label_set, list(classes.names)) == ("nyu40", list(NYU40.names))

    jpeg = recorded["/sgnet/overlay/compressed"][0]
    drawn = np.array(PilImage.open(io.BytesIO(bytes(jpeg.data)))).astype(int)
    exact = read_rgb(run.out / "overlay_00.png").astype(int)
    assert np.abs(drawn - exact).mean() < 4


def masks(recorded: dict[str, list[Any]]) -> list[npt.NDArray[np.uint8]]:
    return [m.data.reshape(SIZE) for m in recorded["/sgnet/labels"]]


def stamps_of(recorded: dict[str, list[Any]]) -> list[float]:
    return [m.header.stamp.sec + m.header.stamp.nanosec * 1e-9 for m in recorded["/sgnet/labels"]]


@pytest.fixture(scope="module")
def answered(recorded: dict[str, list[Any]], model: Path, folder: Path) -> list[int]:
    """Return the frame of each label image; a busy machine may drop some of them."""
    segmenter = Segmenter(model, "cpu")
    camera = Intrinsics.from_matrix(np.array(K), SIZE[1], SIZE[0])

    def is_answer(mask: npt.NDArray[np.uint8], i: int) -> bool:
        depth = np.array(PilImage.open(folder / f"{i:03d}-depth.png")).astype(np.uint16)
        expected = segmenter.segment(read_rgb(folder / f"{i:03d}-color.png"), depth, camera).labels
        return bool((mask == expected).mean() > 0.999)  # sums in another order may tip a pixel

    frames = iter(range(COUNT))
    found = [next((i for i in frames if is_answer(m, i)), None) for m in masks(recorded)]
    assert None not in found, "label images that are no frame's"
    return [i for i in found if i is not None]


def test_miou_is_that_of_labels_and_ground_truth(
    run: SimpleNamespace, recorded: dict[str, list[Any]], answered: list[int], folder: Path
) -> None:
    answer = np.stack(masks(recorded))
    files = [folder / f"{i:03d}-label.png" for i in answered]
    truth = np.stack([np.array(PilImage.open(f)) for f in files])
    answer, truth = answer[truth != 255], truth[truth != 255]
    ious = [
        ((answer == c) & (truth == c)).sum() / ((answer == c) | (truth == c)).sum()
        for c in (0, 1, 4)
    ]
    assert run.summary["miou"] == pytest.approx(np.mean(ious), abs=1e-9)


def test_pictures_show_the_overlay_of_the_node(
    run: SimpleNamespace, recorded: dict[str, list[Any]], answered: list[int], folder: Path
) -> None:
    assert not (run.out / "overlay_99.png").exists()
    i, mask = answered[0], masks(recorded)[0]
    expected = overlay(read_rgb(folder / f"{i:03d}-color.png"), mask, NYU40, 0.5)
    np.testing.assert_array_equal(read_rgb(run.out / "overlay_00.png"), expected)
    sheet = read_rgb(run.out / "contact_sheet.png")
    assert sheet.shape[1] == 4 * 326 + 6  # color, depth, overlay, ground truth


def test_the_film_shows_the_frames_one_after_the_other(
    run: SimpleNamespace, recorded: dict[str, list[Any]], answered: list[int], folder: Path
) -> None:
    shown_ms = np.diff(np.array(stamps_of(recorded)) * 1000)  # the camera may be late
    shown_ms = np.append(shown_ms, shown_ms[-1])
    with PilImage.open(run.out / "demo.webp") as film:
        assert (film.n_frames, film.size) == (len(answered), (3 * 326 + 6, 26 + 246))
        for n, (i, mask) in enumerate(zip(answered, masks(recorded), strict=True)):
            film.seek(n)
            tile = np.array(film.convert("RGB").crop((658, 26, 978, 266))).astype(float)
            rgb = read_rgb(folder / f"{i:03d}-color.png")
            expected = PilImage.fromarray(overlay(rgb, mask, NYU40, 0.5))
            expected = np.array(expected.resize((320, 240), PilImage.Resampling.LANCZOS))
            assert np.abs(tile - expected).mean() < 8, i  # WebP; other frames differ by 50
            assert film.info["duration"] == pytest.approx(shown_ms[n], abs=2)


def test_the_demo_prints_its_steps_and_the_table(run: SimpleNamespace) -> None:
    assert f"at 64x48 and {RATE:g} Hz" in run.text
    assert table(run.summary) in run.text
    assert (run.out / "node.log").read_text() and (run.out / "camera.log").exists()


def test_the_demo_leaves_no_process(run: SimpleNamespace, model: Path, folder: Path) -> None:
    assert processes_about(model) == processes_about(folder) == []


@pytest.mark.parametrize(
    "number, moment, status",
    [
        (signal.SIGINT, "playing", 130),
        (signal.SIGTERM, "starting", 130),
        (signal.SIGKILL, "starting", -9),
    ],
)
def test_a_stopped_demo_leaves_no_process(
    number: int, moment: str, status: int, model: Path, folder: Path, tmp_path: Path
) -> None:
    process = demo_process(
        *("--source", folder, "--out", tmp_path, "--seconds", 60, "--rate", 2, "--model", model)
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(moment):
                break
        # The demo itself, and camera or node.
        wait_until(lambda: len(processes_about(folder)) == len(processes_about(model)) == 2)
        os.kill(process.pid, number)
        text, _ = process.communicate()
        assert process.returncode == status, text
        assert "Traceback" not in text
        wait_until(lambda: not processes_about(folder) and not processes_about(model))
        if number != signal.SIGKILL:
            assert sorted(p.name for p in tmp_path.iterdir()) == ["camera.log", "node.log"]
    finally:
        process.kill()


@pytest.mark.slow
def test_a_viewer_that_cannot_start_is_shown_with_its_reason(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    options = ("--source", folder, "--out", tmp_path, "--model", model, "--view")
    process = demo_process(*options, screen=False)
    text, _ = process.communicate()
    assert process.returncode == 1
    assert "demo: sgnet_ros.view ended (status 1)" in text
    assert "pip install 'sgnet_ros[viz]'" in text or "there is no screen" in text
    assert not processes_about(folder)


def test_a_node_that_cannot_load_its_model_ends_the_demo_with_the_reason(
    folder: Path, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.safetensors"
    process = demo_process("--source", folder, "--out", tmp_path, "--model", missing)
    text, _ = process.communicate()
    assert process.returncode == 1
    assert "not configured: " in text
    assert str(missing) in text and "node.log" in text
    assert not processes_about(folder)


def test_a_folder_that_cannot_be_made_ends_the_demo_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    process = demo_process("--out", file)
    text, _ = process.communicate()
    assert (process.returncode, text) == (1, f"demo: [Errno 17] File exists: '{file}'\n")


def test_its_own_process_starts_without_pytorch() -> None:
    code = "import sys; sys.modules['torch'] = None; import sgnet_ros.demo.__main__"
    subprocess.run([sys.executable, "-c", code], check=True)
