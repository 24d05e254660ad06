"""The command eval: what it prints, writes and refuses."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgnet_core import create_model, files
from sgnet_core import eval as eval_module
from sgnet_core.data.datasets.folder_writer import write_folder
from sgnet_core.data.rooms import Rooms
from sgnet_core.data.sample import Sample
from sgnet_core.data.transforms import flip
from sgnet_core.eval import check_classes, main
from sgnet_core.evaluation.metrics import ConfusionMatrix
from sgnet_core.evaluation.segmenter_masks import segmenter_masks
from sgnet_core.evaluation.training_curve import training_curve
from sgnet_core.inference.onnx_export import export
from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.models.labels import NYU40, SUN37, LabelSet
from sgnet_core.models.model_file import save_model
from small_segmenter import SIX, make

pytestmark = pytest.mark.usefixtures("small_networks")


def test_classes_that_differ_are_named() -> None:
    check_classes(NYU40, LabelSet("mine", NYU40.names, NYU40.colors))
    with pytest.raises(ValueError, match="only the model has otherstructure, other") as more:
        check_classes(NYU40, SUN37)
    assert "nyu40 (40 classes), but the data is labeled with sun37 (37 classes)" in str(more.value)
    swapped = LabelSet("swapped", ("b", "a", *SIX.names[2:]), SIX.colors)
    with pytest.raises(ValueError, match="class 0 is 'a' in the model, 'b' in the data"):
        check_classes(SIX, swapped)


def test_the_training_curve_comes_from_the_record_or_the_log(tmp_path: Path) -> None:
    record = [{"iteration": 20, "miou": 0.5, "loss": 1.0}, {"iteration": 10, "miou": 0.25}]
    assert training_curve(tmp_path / "m.safetensors", {"seed": 3, "log": record}) == [
        {"iteration": 10, "miou": 0.25},
        {"iteration": 20, "miou": 0.5, "loss": 1.0},
    ]
    assert training_curve(tmp_path / "m.safetensors", {"miou": 0.5}) == []
    (tmp_path / "log.csv").write_text("iteration,loss,miou,when\n5,2.5,0.125,today\n6,2,,today\n")
    assert training_curve(tmp_path / "m.safetensors", {}) == [
        {"iteration": 5, "loss": 2.5, "miou": 0.125}
    ]


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    save_model(make("points", NYU40, input_height=32, training={"iteration": 7}), path)
    return path


class Named:
    """Rooms with names, as `write_folder` takes them."""

    label_set = NYU40

    def __init__(self, rooms: Rooms) -> None:
        self.rooms = rooms
        self.names = [f"room{i}" for i in range(len(rooms))]

    def __getitem__(self, index: int, /) -> Sample:
        return self.rooms[index]


def test_the_command_prints_and_writes_the_scores(
    model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rooms = Rooms(seed=1000, length=3, size=(48, 64))
    write_folder(tmp_path / "data", {"": Named(rooms)})
    written = tmp_path / "deep" / "scores.json"
    options = ["--model", str(model_file), "--device", "cpu", "--json", str(written)]
    options += ["--scales", "0.8", "1", "--flip"]
    assert main(["--data", str(tmp_path / "data"), *options]) == 0
    figures = json.loads(written.read_text())

    segmenter = Segmenter(model_file, "cpu")
    counts = np.zeros((40, 40), int)
    for room in rooms:
        depth = np.rint(room.depth * 1000).astype(np.uint16)
        views = []
        for one in (room, flip(room)):
            scores = segmenter.segment(
                one.rgb,
                depth if one is room else np.ascontiguousarray(depth[:, ::-1]),
                one.intrinsics,
                scores=True,
                scales=(0.8, 1),
            ).scores
            assert scores is not None
            views.append(scores if one is room else scores[:, :, ::-1])
        predicted = (views[0] + views[1]).argmax(axis=0)
        known = room.labels != 255
        np.add.at(counts, (room.labels[known], predicted[known]), 1)
    found = np.array(figures["confusion"])
    assert np.abs(found - counts).sum() <= 0.004 * counts.sum()
    assert found.sum() == counts.sum()

    present = found.sum(axis=1) > 0
    assert [value is not None for value in figures["per_class_iou"]] == present.tolist()
    assert figures["pixel_accuracy"] == pytest.approx(np.trace(found) / found.sum())
    assert figures["miou"] == pytest.approx(
        np.mean([value for value in figures["per_class_iou"] if value is not None])
    )
    assert figures["frames"] == 3
    assert sum(band["pixels"] for band in figures["by_distance"].values()) == found.sum()
    assert figures["classes"] == list(NYU40.names)
    assert (figures["scales"], figures["flip"]) == ([0.8, 1.0], True)
    assert [figures[k] for k in ("backend", "precision", "device", "input_height")] == [
        *("torch", "float32", "cpu", 32)
    ]

    table = capsys.readouterr().out
    for name, value in zip(NYU40.names, figures["per_class_iou"], strict=True):
        [line] = [row for row in table.splitlines() if row.startswith(f"{name:<16}")]
        expected = "-" if value is None else f"{value:.3f}"
        assert line.removeprefix(name).split()[0] == expected
    assert f"mIoU {figures['miou']:.4f}" in table
    assert "(3 frames)" in table
    assert f"{figures['ms_per_frame']:.1f} ms per frame (median)" in table


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data", "rooms:1"], "rooms:1 is endless: give a number of frames"),
        (["--data", "nowhere"], "no data set 'nowhere'"),
        (["--data", "rooms:1:1", "--model", "no.safetensors"], "no.safetensors: does not exist"),
        (["--data", "rooms:1:1", "--scales", "999"], "scale 999 enlarges 32x32 to 31968x31968"),
        (["--data", "rooms:1:1", "--device", "abacus"], "device is auto, cpu, cuda or cuda:N"),
    ],
)
def test_what_cannot_be_evaluated_is_explained(
    model_file: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    if "--model" not in options:
        options = [*options, "--model", str(model_file)]
    assert main(options) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--scales", "1", "0"], "argument --scales: must be a positive number, got 0"),
        (["--size", "64"], "argument --size: must be WxH, as in 640x480, got 64"),
        (["--size", "64x0"], "argument --size: must be WxH, as in 640x480, got 64x0"),
        (["--input-height", "-1"], "argument --input-height: "),
        (["--precision", "fp8"], "argument --precision: invalid choice: 'fp8'"),
    ],
)
def test_options_out_of_range_are_explained(
    capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--data", "rooms:1:1", *options])
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


def figures_of(tmp_path: Path, *options: str) -> dict[str, Any]:
    path = tmp_path / "figures.json"
    arguments = ["--data", "rooms:3:2", "--size", "64x48", "--device", "cpu", "--json", str(path)]
    assert main([*arguments, *options]) == 0
    figures: dict[str, Any] = json.loads(path.read_text())
    return figures


def test_precision_and_input_height_are_those_of_the_segmenter(
    model_file: Path, tmp_path: Path
) -> None:
    options = ("--precision", "bf16", "--input-height", "24")
    figures = figures_of(tmp_path, "--model", str(model_file), *options)
    assert (figures["precision"], figures["input_height"]) == ("bfloat16", 24)
    segmenter = Segmenter(model_file, "cpu", "bf16", input_height=24)
    confusion = ConfusionMatrix(40)
    for room in Rooms(seed=3, length=2, size=(48, 64)):
        frame = room.rgb, room.depth, room.intrinsics
        assert segmenter.resized(*frame)[0].shape[2:] == (24, 32)
        confusion.update(room.labels, segmenter.segment(*frame).labels)
    assert figures["confusion"] == confusion.counts.tolist()
    other = figures_of(tmp_path, "--model", str(model_file))
    assert other["confusion"] != figures["confusion"]


def test_a_simulated_sensor_changes_the_depth_that_is_scored(
    model_file: Path, tmp_path: Path
) -> None:
    figures = {}
    for name, options in {"stored": [], "sensed": ["--depth-sensor", "0.02"]}.items():
        out = tmp_path / f"{name}.json"
        arguments = ["--data", "rooms:5:2", "--size", "64x48", "--model", str(model_file)]
        assert main([*arguments, "--json", str(out), *options]) == 0
        figures[name] = json.loads(out.read_text())
    assert figures["stored"]["depth_sensor"] is None
    assert figures["sensed"]["depth_sensor"] == 0.02
    bands = [figures[name]["by_distance"] for name in ("stored", "sensed")]
    assert bands[0] != bands[1]


def test_an_exported_model_is_scored_by_onnx_runtime(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx")
    model = create_model("plain_r18", labels="nyu40")  # whose export takes a third of the time
    model_file, exported = tmp_path / "m.safetensors", tmp_path / "m.onnx"
    save_model(model, model_file)
    export(model, exported)
    figures = figures_of(tmp_path, "--model", str(exported), "--backend", "onnx")
    assert figures["backend"] == "onnx"
    confusion = ConfusionMatrix(40)
    for room, mask, _ in segmenter_masks(Segmenter(exported, "cpu"), Rooms(3, 2, (48, 64))):
        confusion.update(room.labels, mask)
    assert figures["confusion"] == confusion.counts.tolist()
    found = figures_of(tmp_path, "--model", str(model_file))["confusion"]
    assert np.abs(np.array(found) - confusion.counts).sum() < 0.01 * confusion.pixels


def test_a_model_of_other_classes_is_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(make(), tmp_path / "six.safetensors")
    assert main(["--data", "rooms:1:1", "--model", str(tmp_path / "six.safetensors")]) == 2
    message = capsys.readouterr().err
    assert (
        "the model predicts six (6 classes), but the data is labeled with nyu40 (40 classes)"
        in message
    )
    assert "class 0 is 'a' in the model, 'wall' in the data" in message


def test_a_result_that_cannot_be_written_stops_the_command_before_the_work(
    model_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def never(*_: object, **__: object) -> None:
        pytest.fail("the work has begun")

    monkeypatch.setattr(eval_module, "segmenter_masks", never)
    (tmp_path / "file").touch()
    arguments = ["--data", "rooms:1:1", "--model", str(model_file)]
    for option, path, words in (
        ("--json", tmp_path, f"Is a directory: '{tmp_path}'"),
        ("--report", tmp_path / "file" / "r.html", "file"),
    ):
        assert main([*arguments, option, str(path)]) == 2
        assert words in capsys.readouterr().err
    monkeypatch.setattr(files.tempfile, "TemporaryFile", refused)
    assert main([*arguments, "--json", str(tmp_path / "a.json")]) == 2
    assert "Read-only file system" in capsys.readouterr().err


def refused(dir: Path) -> None:  # as tempfile calls it
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(dir))


def test_ctrl_c_ends_the_command_without_scores(
    model_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(eval_module, "segmenter_masks", interrupted)
    assert main(["--data", "rooms:1:1", "--model", str(model_file)]) == 130
    captured = capsys.readouterr()
    assert "interrupted" in captured.err and "mIoU" not in captured.out


def test_a_damaged_frame_stops_the_evaluation_and_is_named(
    model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "data", {"": Named(Rooms(seed=1, length=2, size=(48, 64)))})
    broken = tmp_path / "data" / "depth" / "room1.png"
    broken.write_bytes(broken.read_bytes()[:100])
    options = ["--model", str(model_file), "--json", str(tmp_path / "scores.json")]
    assert main(["--data", str(tmp_path / "data"), *options]) == 2
    assert str(broken) in capsys.readouterr().err
    assert not (tmp_path / "scores.json").exists(), "scores of a part are no scores"
