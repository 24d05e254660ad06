"""Labels of one frame, and what the command refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from predict_files import LABELS, arguments, counted, refused
from sgnet_core import Intrinsics, SGNet
from sgnet_core.data.images import overlay, read_labels, read_rgb, write_png
from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.predict import main, shares

pytestmark = pytest.mark.usefixtures("small_networks")


def test_labels_overlay_and_scores_are_those_of_the_segmenter(
    files: Path, model: SGNet, frame: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = str(files / "deep" / "scores.npy")
    given = ("--intrinsics", "70", "71", "40", "30", "--depth-scale", "0.002")
    given += ("--scales", "0.8", "1", "--holes", "nearest")
    assert main(arguments(files, *given, "--scores", scores)) == 0
    expected = Segmenter(model, "cpu").segment(
        *frame,
        Intrinsics(70, 71, 40, 30, 81, 60),
        depth_scale=0.002,
        scales=(0.8, 1),
        holes="nearest",
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
    assert shares(counted(labels), LABELS) in printed


def test_the_options_matter(files: Path) -> None:
    """A command that dropped one of them would pass the test above with other defaults."""
    intrinsics = ("--intrinsics", "70", "71", "40", "30")
    variants = [
        intrinsics,
        ("--intrinsics", "20", "20", "10", "9"),
        (*intrinsics, "--depth-scale", "0.005"),
        (*intrinsics, "--scales", "0.5", "1"),
        (*intrinsics, "--holes", "nearest"),
    ]
    written = []
    for index, options in enumerate(variants):
        scores = str(files / f"{index}.npy")
        assert main(arguments(files, *options, "--scores", scores)) == 0
        written.append(np.load(scores))
    assert all(np.abs(other - written[0]).max() > 1e-4 for other in written[1:])


def test_depth_arrays_are_meters(files: Path, frame: Any) -> None:
    np.save(files / "depth.npy", frame[1] * np.float32(0.001))
    assert main(arguments(files)) == 0
    expected = read_labels(files / "out" / "labels.png")
    assert main(arguments(files, depth="depth.npy", out="again")) == 0
    assert np.array_equal(read_labels(files / "again" / "labels.png"), expected)


def test_shares_are_sorted_and_named() -> None:
    labels = np.array([[0, 2, 2, 2], [2, 1, 1, 2]], np.uint8)
    assert shares(counted(labels), LABELS).splitlines() == [
        "   2  cup               62.5 %",
        "   1  floor             25.0 %",
        "   0  wall              12.5 %",
    ]


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


def test_ctrl_c_ends_the_command_with_a_line(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sgnet_core.predict.predict", interrupted)
    with pytest.raises(SystemExit) as stopped:
        main(arguments(files))
    assert stopped.value.code == 130
    assert "interrupted; the results of the finished frames are written" in capsys.readouterr().err


def test_the_library_is_loaded_without_ros_and_without_the_package_for_it() -> None:
    code = (
        "import sys, sgnet_core.predict, sgnet_core.eval\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'sgnet_ros', 'rclpy', 'sensor_msgs', 'rosbags'}, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
