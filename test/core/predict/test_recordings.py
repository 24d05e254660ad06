"""Labels of recordings and folders of frames."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from predict_files import INTRINSICS, LABELS, arguments, counted, names, predict, refused
from sgnet_core import Intrinsics, SGNet
from sgnet_core.data.images import overlay, read_labels, read_rgb, write_png
from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.predict import main, shares

pytestmark = pytest.mark.usefixtures("small_networks")


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


def test_color_and_depth_may_lie_apart(recording: Path, model_file: Path) -> None:
    for path in sorted(recording.glob("*.depth.png")):
        target = recording.parent / "ranges" / path.name.replace(".depth", "")
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    apart = ("--rgb", recording / "*.png", "--depth", recording.parent / "ranges")
    assert predict(model_file, recording.parent / "out", *apart, *INTRINSICS) == 0
    assert names(recording.parent / "out" / "labels") == ["0.png", "1.png", "2.png"]


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
    for name in "34":
        write_png(recording / f"{name}.rgb.png", np.zeros((60, 81, 3), np.uint8))
    empty = recording / "4.depth.png"
    empty.write_bytes(b"")
    assert predict(model_file, recording.parent / "out", recording, *INTRINSICS) == 1
    assert names(recording.parent / "out" / "labels") == ["2.png"]
    captured = capsys.readouterr()
    assert f"left out: {broken} cannot be read as an image" in captured.err
    assert f"{small}: rgb is 81x60 but depth is 40x30" in captured.err
    assert f"left out: {recording / '3.rgb.png'} has no depth image" in captured.err
    assert f"left out: {empty} " in captured.err
    assert "predict: 4 frames were left out" in captured.err
    assert "1 frames" in captured.out
    manifest = json.loads((recording.parent / "out" / "manifest.json").read_text())
    assert manifest["frames"] == 1 and len(manifest["left_out"]) == 4


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
    assert "depth_scale 0.001 it would be 2." in error and "--depth-scale 0.001" in error
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


def test_frames_without_a_measurement_are_labeled_and_named(
    recording: Path, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_png(recording / "1.depth.png", np.zeros((60, 81), np.uint16))
    write_png(recording / "2.depth.png", np.full((60, 81), 4, np.uint16))
    out = recording.parent / "out"
    assert predict(model_file, out, recording, *INTRINSICS) == 0
    doubts = [
        "1: no pixel has a depth; each is 0, 65535, NaN or infinite",
        "2: the median depth is 0.004 m: is the unit right?",
    ]
    assert json.loads((out / "manifest.json").read_text())["doubts"] == doubts
    error = capsys.readouterr().err
    assert all(f"predict: labeled, but {doubt}\n" in error for doubt in doubts)
    pair = {"rgb": "1.rgb.png", "depth": "1.depth.png", "model": str(model_file)}
    assert main(arguments(recording, **pair)) == 0
    assert "predict: labeled, but no pixel has a depth" in capsys.readouterr().err


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
    for source in ([recording], ["--rgb", recording, "--depth", recording]):
        with pytest.raises(SystemExit):
            predict(model_file, recording.parent / "out", *source)
        assert f"predict: {recording} cannot be read: Permission denied" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "give INPUT, or --rgb and --depth"),
        (("--rgb", "a.png"), "give INPUT, or --rgb and --depth"),
        (("a.png", "--rgb", "a.png", "--depth", "b.png"), "give INPUT, or --rgb and --depth"),
        (("FOLDER", "--scores", "s.npy"), "--scores writes the scores of one frame"),
        (("FOLDER",), "tiny is guided by points"),
        (("nowhere/*.png",), "nowhere/*.png matches no file"),
        (("nowhere",), "nowhere does not exist"),
        (("FOLDER/0.depth.png",), "0.depth.png is not a color image"),
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
