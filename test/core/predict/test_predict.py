from __future__ import annotations

import errno
import json
import os
import shutil
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
from sgnet_core.data.images import overlay, read_labels, read_rgb, write_png
from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.models.info import ModelInfo
from sgnet_core.models.labels import LabelSet
from sgnet_core.models.model_file import save_model
from sgnet_core.predict import main, shares

pytestmark = pytest.mark.usefixtures("small_networks")

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
    depth = rng.integers(0, 5000, (60, 81)).astype(np.uint16)
    depth[20:30, 30:50] = 0
    return rgb, depth


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


def counted(*labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    return sum((np.bincount(mask.ravel(), minlength=256) for mask in labels), np.zeros(256, int))


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


@pytest.fixture
def recording(tmp_path: Path, frame: Any) -> Path:
    """Three pairs: as they are, mirrored, upside down."""
    folder = tmp_path / "recording"
    folder.mkdir()
    for index, turn in enumerate((np.s_[:], np.s_[:, ::-1], np.s_[::-1])):
        write_png(folder / f"{index}.rgb.png", np.ascontiguousarray(frame[0][turn]))
        write_png(folder / f"{index}.depth.png", np.ascontiguousarray(frame[1][turn]))
    return folder


INTRINSICS = ("--intrinsics", "70", "71", "40", "30")


def predict(model_file: Path, out: Path, *arguments: object) -> int:
    """The command's exit status."""
    fixed = ["--model", str(model_file), "--device", "cpu", "--out", str(out)]
    return main([*map(str, arguments), *fixed])


def test_many_frames_get_the_labels_that_each_gets_alone(
    recording: Path, model: SGNet, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = recording.parent / "out"
    assert predict(model_file, out, recording, *INTRINSICS) == 0
    segmenter = Segmenter(model, "cpu")
    masks = []
    for index in range(3):
        rgb = read_rgb(recording / f"{index}.rgb.png")
        depth = np.array(Image.open(recording / f"{index}.depth.png")).astype(np.uint16)
        expected = segmenter.segment(rgb, depth, Intrinsics(70, 71, 40, 30, 81, 60))
        masks.append(read_labels(out / "labels" / f"{index}.png"))
        assert np.array_equal(masks[-1], expected.labels)
        drawn = read_rgb(out / "overlay" / f"{index}.png")
        assert np.array_equal(drawn, overlay(rgb, masks[-1], LABELS, 0.5))
    assert not np.array_equal(masks[0], masks[1])
    assert sorted(path.name for path in out.iterdir()) == ["labels", "manifest.json", "overlay"]
    captured = capsys.readouterr()
    assert "tiny on cpu: 3 frames" in captured.out
    assert shares(counted(*masks), LABELS) in captured.out
    assert "3/3" in captured.err, "the progress bar"


def test_globs_and_names_choose_frames(recording: Path, model_file: Path) -> None:
    chosen = predict(model_file, recording.parent / "a", recording / "[12].rgb.*", *INTRINSICS)
    assert chosen == 0
    assert names(recording.parent / "a" / "labels") == ["1.png", "2.png"]
    files = [recording / "0.rgb.png", recording / "0.depth.png", recording / "2.rgb.png"]
    assert predict(model_file, recording.parent / "b", *files, *INTRINSICS) == 0
    assert names(recording.parent / "b" / "labels") == ["0.png", "2.png"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_color_and_depth_may_lie_apart(recording: Path, model_file: Path) -> None:
    for path in sorted(recording.glob("*.depth.png")):
        target = recording.parent / "ranges" / path.name.replace(".depth", "")
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    apart = ("--rgb", recording / "*.png", "--depth", recording.parent / "ranges")
    assert predict(model_file, recording.parent / "out", *apart, *INTRINSICS) == 0
    assert names(recording.parent / "out" / "labels") == ["0.png", "1.png", "2.png"]


@pytest.fixture
def plain_folder(recording: Path) -> Path:
    """Without labels and classes: they are not needed here."""
    folder = recording.parent / "plain"
    for kind in ("rgb", "depth"):
        (folder / kind).mkdir(parents=True)
        for path in recording.glob(f"*.{kind}.png"):
            shutil.copy(path, folder / kind / path.name.replace(f".{kind}", ""))
    camera = {"width": 81, "height": 60, "fx": 70, "fy": 71, "cx": 40, "cy": 30}
    (folder / "camera.json").write_text(json.dumps({**camera, "depth_scale": 0.002}))
    return folder


def test_a_plain_folder_brings_its_camera_and_its_depth_scale(
    plain_folder: Path, recording: Path, model_file: Path
) -> None:
    out = plain_folder.parent
    assert predict(model_file, out / "a", plain_folder) == 0
    given = (*INTRINSICS, "--depth-scale", "0.002")
    assert predict(model_file, out / "b", recording, *given) == 0
    assert predict(model_file, out / "c", plain_folder, "--depth-scale", "0.0005") == 0
    for name in ("0.png", "1.png", "2.png"):
        expected = read_labels(out / "b" / "labels" / name)
        assert np.array_equal(read_labels(out / "a" / "labels" / name), expected)
        assert not np.array_equal(read_labels(out / "c" / "labels" / name), expected)


def test_damaged_frames_are_named_and_the_others_labeled(
    recording: Path, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, small = recording / "0.rgb.png", recording / "1.depth.png"
    broken.write_bytes(broken.read_bytes()[:500])
    write_png(small, np.ones((30, 40), np.uint16))
    write_png(recording / "3.rgb.png", np.zeros((60, 81, 3), np.uint8))
    assert predict(model_file, recording.parent / "out", recording, *INTRINSICS) == 1
    assert names(recording.parent / "out" / "labels") == ["2.png"]
    captured = capsys.readouterr()
    assert f"left out: {broken} cannot be read as an image" in captured.err
    assert f"{small}: rgb is 81x60 but depth is 40x30" in captured.err
    assert f"left out: {recording / '3.rgb.png'} has no depth image" in captured.err
    assert "predict: 3 frames were left out" in captured.err
    assert "1 frames" in captured.out


def test_frames_of_one_name_do_not_overwrite_each_other(
    recording: Path, plain_folder: Path, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = recording.parent / "out"
    both = (recording / "0.rgb.png", plain_folder / "rgb" / "0.png")
    assert predict(model_file, out, *both, *INTRINSICS) == 1
    assert "two frames have the name 0" in capsys.readouterr().err
    expected = recording.parent / "alone"
    assert predict(model_file, expected, both[0], *INTRINSICS) == 0
    first = read_labels(expected / "labels" / "0.png")
    assert np.array_equal(read_labels(out / "labels" / "0.png"), first)


def test_point_clouds_are_written_beside(recording: Path, files: Path, model_file: Path) -> None:
    out = recording.parent / "many"
    assert predict(model_file, out, recording, "--ply", *INTRINSICS) == 0
    assert names(out / "points") == ["0.ply", "1.ply", "2.ply"]
    assert main(arguments(files, *INTRINSICS, "--ply")) == 0
    single = (files / "out" / "points.ply").read_bytes()
    assert single == (out / "points" / "0.ply").read_bytes()
    assert b"comment label 2 is cup" in single


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "give INPUT, or --rgb and --depth"),
        (("--rgb", "a.png"), "give INPUT, or --rgb and --depth"),
        (("a.png", "--rgb", "a.png", "--depth", "b.png"), "give INPUT, or --rgb and --depth"),
        (("FOLDER", "--scores", "s.npy"), "--scores writes the scores of one frame"),
        (("FOLDER",), "tiny is steered by points"),
        (("nowhere/*.png",), "nowhere/*.png matches no file"),
        (("nowhere",), "nowhere does not exist"),
        (("FOLDER/0.depth.png",), "0.depth.png is no color image"),
        (("EMPTY",), "empty contains neither color images, nor a bag, nor folders rgb and depth"),
        (("BAG",), "broken.bag"),
    ],
)
def test_inputs_that_cannot_be_used_are_explained(
    recording: Path,
    model_file: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    words: str,
) -> None:
    empty, bag = recording.parent / "empty", recording.parent / "broken.bag"
    empty.mkdir()
    bag.write_bytes(b"no bag")
    places = {"FOLDER": str(recording), "EMPTY": str(empty), "BAG": str(bag)}
    given = list(options)
    for name, place in places.items():
        given = [text.replace(name, place) for text in given]
    with pytest.raises(SystemExit) as stopped:
        predict(model_file, recording.parent / "out", *given)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err
    assert not (recording.parent / "out").exists()


def test_a_bag_without_its_reader_names_what_to_install(
    tmp_path: Path,
    model_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a.mcap").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "rosbags", None)
    loaded = ("rosbags.", "sgnet_ros.recordings.bag")
    for name in [name for name in sys.modules if name.startswith(loaded)]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SystemExit):
        predict(model_file, tmp_path / "out", tmp_path / "a.mcap")
    assert "pip install 'sgnet_ros[bags]'" in capsys.readouterr().err


def test_the_library_is_loaded_without_ros_and_without_the_package_for_it() -> None:
    code = (
        "import sys, sgnet_core.predict, sgnet_core.eval\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'sgnet_ros', 'rclpy', 'sensor_msgs', 'rosbags'}, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_depth_in_another_unit_is_refused_by_name_and_read_with_its_scale(
    plain_folder: Path, recording: Path, frame: Any, model_file: Path, capsys: Any
) -> None:
    out = recording.parent
    (plain_folder / "camera.json").unlink()
    for path in (plain_folder / "depth").iterdir():
        np.save(path.with_suffix(".npy"), np.array(Image.open(path)).astype(np.float32))
        path.unlink()
    assert predict(model_file, out / "a", plain_folder, *INTRINSICS) == 2
    error = capsys.readouterr().err
    assert f"left out: {plain_folder / 'depth' / '0.npy'}: the median depth is 2" in error
    assert "times 0.001 it would be 2." in error and "--depth-scale 0.001" in error
    assert not (out / "a" / "labels").exists()
    given = (*INTRINSICS, "--depth-scale", "0.001")
    assert predict(model_file, out / "b", plain_folder, *given) == 0
    assert predict(model_file, out / "c", recording, *INTRINSICS) == 0
    for name in ("0.png", "1.png", "2.png"):
        expected = read_labels(out / "c" / "labels" / name)
        assert np.array_equal(read_labels(out / "b" / "labels" / name), expected)
    np.save(recording / "0.depth.npy", frame[1].astype(np.float32))
    pair = {"rgb": "0.rgb.png", "depth": "0.depth.npy", "model": str(model_file)}
    assert "0.depth.npy: the median depth is 2" in refused(capsys, arguments(recording, **pair))


def test_frames_without_a_measurement_are_labelled_and_named(
    recording: Path, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_png(recording / "1.depth.png", np.zeros((60, 81), np.uint16))
    write_png(recording / "2.depth.png", np.full((60, 81), 4, np.uint16))
    out = recording.parent / "out"
    assert predict(model_file, out, recording, *INTRINSICS) == 0
    doubts = [
        "1: no pixel holds a depth; each is 0, 65535, NaN or infinite",
        "2: the median depth is 0.004 m: is the unit right?",
    ]
    assert json.loads((out / "manifest.json").read_text())["doubts"] == doubts
    error = capsys.readouterr().err
    assert all(f"predict: labeled, but {doubt}\n" in error for doubt in doubts)
    pair = {"rgb": "1.rgb.png", "depth": "1.depth.png", "model": str(model_file)}
    assert main(arguments(recording, **pair)) == 0
    assert "predict: labeled, but no pixel holds a depth" in capsys.readouterr().err


@pytest.mark.parametrize("bad", ["another size", "empty file"])
def test_one_of_six_depth_images_is_left_out_and_the_rest_labelled(
    tmp_path: Path, model_file: Path, frame: Any, bad: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("rgb", "depth"):
        (tmp_path / "six" / kind).mkdir(parents=True)
    for index in range(6):
        write_png(tmp_path / "six" / "rgb" / f"{index}.png", frame[0])
        write_png(tmp_path / "six" / "depth" / f"{index}.png", frame[1])
    odd = tmp_path / "six" / "depth" / "2.png"
    if bad == "another size":
        write_png(odd, np.ones((30, 40), np.uint16))
    else:
        odd.write_bytes(b"")
    assert predict(model_file, tmp_path / "out", tmp_path / "six", *INTRINSICS) == 1
    assert names(tmp_path / "out" / "labels") == [f"{i}.png" for i in (0, 1, 3, 4, 5)]
    printed = capsys.readouterr()
    assert f"{odd}" in printed.err and "predict: 1 frames were left out" in printed.err
    assert "5 frames" in printed.out
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["frames"] == 5 and len(manifest["left_out"]) == 1


def test_folders_of_other_names_are_found(
    plain_folder: Path, recording: Path, model_file: Path
) -> None:
    out = recording.parent
    (plain_folder / "rgb").rename(plain_folder / "RGB")
    (plain_folder / "depth").rename(plain_folder / "Depth")
    (plain_folder / "RGB" / "._0.png").write_bytes(b"\x00\x05\x16\x07")
    assert predict(model_file, out / "a", plain_folder, *INTRINSICS) == 0
    assert predict(model_file, out / "b", recording, *INTRINSICS) == 0
    for name in ("0.png", "1.png", "2.png"):
        expected = read_labels(out / "b" / "labels" / name)
        assert np.array_equal(read_labels(out / "a" / "labels" / name), expected)


def test_a_folder_that_may_not_be_read_is_named(
    recording: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def refuse(path: Path) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)  # the tests may run as root
    with pytest.raises(SystemExit):
        predict(model_file, recording.parent / "out", recording)
    assert f"predict: {recording} cannot be read: Permission denied" in capsys.readouterr().err
