from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from sgnet_core import Intrinsics, SGNet, create_model
from sgnet_core.images import overlay, read_labels, read_rgb, write_png
from sgnet_core.labels import LabelSet
from sgnet_core.model_file import save_model
from sgnet_core.model_info import ModelInfo
from sgnet_core.predict import main, shares
from sgnet_core.segmenter import Segmenter

LABELS = LabelSet("four", ("wall", "floor", "cup", "door"), tuple((i, 80, 9 * i) for i in range(4)))


@pytest.fixture(scope="module")
def model() -> SGNet:
    torch.manual_seed(2)
    model = create_model("sgnet_lite", num_classes=4, spatial="points")
    model.info = ModelInfo("tiny", LABELS, input_height=48)
    return model


@pytest.fixture(scope="module")
def frame() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    rgb = np.array(small.resize((81, 60), Image.Resampling.BICUBIC))
    return rgb, rng.integers(0, 5000, (60, 81)).astype(np.uint16)


@pytest.fixture(scope="module")
def model_file(model: SGNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    save_model(model, path)
    return path


@pytest.fixture
def files(tmp_path: Path, model_file: Path, frame: Any) -> Path:
    (tmp_path / "m.safetensors").symlink_to(model_file)
    write_png(tmp_path / "rgb.png", frame[0])
    write_png(tmp_path / "depth.png", frame[1])
    return tmp_path


def arguments(folder: Path, *extra: str, **changed: str) -> list[str]:
    names = {"model": "m.safetensors", "rgb": "rgb.png", "depth": "depth.png", "out": "out"}
    names |= changed
    paths = [a for key, name in names.items() for a in (f"--{key}", str(folder / name))]
    return [*paths, "--device", "cpu", *(extra or ("--intrinsics", "70", "71", "40", "30"))]


def test_labels_overlay_and_scores_are_those_of_the_segmenter(
    files: Path, model: SGNet, frame: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = str(files / "deep" / "scores.npy")
    given = ("--intrinsics", "70", "71", "40", "30", "--depth-scale", "0.002")
    assert main(arguments(files, *given, "--scores", scores, "--scales", "0.8", "1")) == 0
    expected = Segmenter(model, "cpu").segment(
        *frame,
        Intrinsics(70, 71, 40, 30, 81, 60),
        depth_scale=0.002,
        scales=(0.8, 1),
        scores=True,
    )
    labels = read_labels(files / "out" / "labels.png")
    assert np.array_equal(labels, expected.labels)
    assert len(np.unique(labels)) > 1
    drawn = read_rgb(files / "out" / "overlay.png")
    assert np.array_equal(drawn, overlay(frame[0], labels, LABELS, 0.5))
    written = np.load(scores)
    assert written.dtype == np.float32
    assert expected.scores is not None
    np.testing.assert_allclose(written, expected.scores, atol=1e-6)
    printed = capsys.readouterr().out
    assert "tiny on cpu, 81x60" in printed
    assert shares(labels, LABELS) in printed


def test_the_options_matter(files: Path) -> None:
    """A command that dropped one of them would pass the test above with other defaults."""
    intrinsics = ("--intrinsics", "70", "71", "40", "30")
    variants = [
        intrinsics,
        ("--intrinsics", "20", "20", "10", "9"),
        (*intrinsics, "--depth-scale", "0.005"),
        (*intrinsics, "--scales", "0.5", "1"),
    ]
    written = []
    for index, options in enumerate(variants):
        scores = str(files / f"{index}.npy")
        assert main(arguments(files, *options, "--scores", scores)) == 0
        written.append(np.load(scores))
    assert all(np.abs(other - written[0]).max() > 1e-4 for other in written[1:])


def test_depth_arrays_are_metres(files: Path, frame: Any) -> None:
    np.save(files / "depth.npy", frame[1] * np.float32(0.001))
    assert main(arguments(files)) == 0
    expected = read_labels(files / "out" / "labels.png")
    assert main(arguments(files, depth="depth.npy", out="again")) == 0
    assert np.array_equal(read_labels(files / "again" / "labels.png"), expected)


def test_shares_are_sorted_and_named() -> None:
    labels = np.array([[0, 2, 2, 2], [2, 1, 1, 2]], np.uint8)
    assert shares(labels, LABELS).splitlines() == [
        "   2  cup               62.5 %",
        "   1  floor             25.0 %",
        "   0  wall              12.5 %",
    ]


def refused(capsys: pytest.CaptureFixture[str], args: list[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(args)
    assert stopped.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"rgb": "no.png"}, "no.png does not exist"),
        ({"rgb": "depth.png"}, "depth.png holds I;16 pixels"),
        ({"depth": "rgb.png"}, "rgb.png holds 8-bit RGB pixels"),
        ({"depth": "m.safetensors"}, "m.safetensors cannot be read as an image"),
        ({"model": "no.safetensors"}, "no.safetensors: does not exist"),
        ({"model": "rgb.png"}, "rgb.png: truncated, damaged or not a model file"),
        ({"out": "rgb.png"}, "cannot write"),
    ],
)
def test_bad_files_are_named_in_one_line(
    files: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, str], words: str
) -> None:
    message = refused(capsys, arguments(files, **changed))
    assert words in message
    assert message.count("\n") == 1


def test_images_of_different_size_are_named(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_png(files / "small.png", np.ones((30, 40), np.uint16))
    message = refused(capsys, arguments(files, depth="small.png"))
    assert f"{files / 'small.png'}: rgb is 81x60 but depth is 40x30" in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--scales", "0"), "argument --scales: must be a positive number"),
        (("--depth-scale", "nan"), "argument --depth-scale: must be a positive number"),
        (("--intrinsics", "0", "0", "40", "30"), "focal lengths must be positive"),
        (("--scales", "1"), "give --intrinsics FX FY CX CY"),
        (("--device", "abacus"), "device is auto, cpu, cuda or cuda:N"),
    ],
)
def test_bad_values_are_explained(
    files: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], words: str
) -> None:
    assert words in refused(capsys, arguments(files, *options))
    assert not (files / "out").exists()


def test_the_command_ends_without_a_traceback(files: Path) -> None:
    command = [sys.executable, "-m", "sgnet_core.predict"]
    bad = subprocess.run(
        [*command, *arguments(files, rgb="no.png")], capture_output=True, text=True, check=False
    )
    assert bad.returncode == 2
    assert bad.stdout == ""
    assert bad.stderr == f"predict: {files / 'no.png'} does not exist\n"
