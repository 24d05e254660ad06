"""Bags to folders and back: every value survives, and what would not is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bag_messages import MS, Maker, colors, depths, recording
from sgnet_core.data.catalog import open_dataset
from sgnet_core.data.datasets.folder import PlainFolder
from sgnet_core.data.images import write_png
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.inference.segmenter import Segmenter
from sgnet_ros import bag_export, bag_write
from sgnet_ros.recordings.bag_source import BagSource
from sgnet_ros.recordings.bags import Bag
from sgnet_ros.recordings.frames import CameraFrame, name_of, stamp_of
from sgnet_ros.recordings.sources import PlainSource, open_source

WIDTH, HEIGHT = 16, 12
CAMERA = {"width": WIDTH, "height": HEIGHT, "fx": 14.5, "fy": 15.25, "cx": 7.75, "cy": 5.5}
CLASSES = {"name": "lab", "names": ["floor", "wall", "robot"], "colors": [[9, 8, 7], [0, 255, 1]]}
CLASSES["colors"].append([128, 64, 32])  # type: ignore[attr-defined]
START = 1_700_000_000_123_456_789


def make_folder(folder: Path, names: list[str], labeled: set[int], **camera: Any) -> Path:
    """Frames of noise; ids of the labels are 5, 3, 9, and 200 is ignored."""
    for kind in ("rgb", "depth", "labels"):
        (folder / kind).mkdir(parents=True)
    for i, name in enumerate(names):
        rng = np.random.default_rng(i)
        write_png(folder / f"rgb/{name}.png", rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
        write_png(folder / f"depth/{name}.png", rng.integers(0, 65536, (HEIGHT, WIDTH), np.uint16))
        if i in labeled:
            ids = rng.choice(np.array([5, 3, 9, 200, 255], np.uint8), (HEIGHT, WIDTH))
            write_png(folder / f"labels/{name}.png", ids)
    (folder / "camera.json").write_text(json.dumps({**CAMERA, **camera}))
    (folder / "classes.json").write_text(json.dumps({**CLASSES, "ids": [5, 3, 9], "ignore": 200}))
    return folder


def stamps(count: int) -> list[str]:
    return [name_of(START + i * 33_333_333) for i in range(count)]


def equal(a: CameraFrame, b: CameraFrame) -> None:
    np.testing.assert_array_equal(a.rgb, b.rgb)
    np.testing.assert_array_equal(a.depth, b.depth)
    assert (a.labels is None) == (b.labels is None)
    if a.labels is not None:
        np.testing.assert_array_equal(a.labels, b.labels)
    assert a.intrinsics == b.intrinsics
    assert a.stamp_ns == b.stamp_ns


@pytest.mark.parametrize("bag", ["a.mcap", "a.db3", "a.bag", "a"])
def test_a_folder_is_unchanged_after_a_bag_and_back(tmp_path: Path, bag: str) -> None:
    first = make_folder(tmp_path / "first", stamps(4), labeled={0, 1, 2, 3})
    assert bag_write.main([str(first), str(tmp_path / bag)]) == 0
    assert bag_export.main([str(tmp_path / bag), str(tmp_path / "second")]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["first", "second", bag])

    before, after = PlainSource(first), PlainSource(tmp_path / "second")
    assert before.names == after.names == stamps(4)
    assert before.classes == after.classes
    for a, b in zip(before, after, strict=True):
        equal(a, b)
    # and it is a data set like any other
    data = PlainFolder(tmp_path / "second")
    assert len(data) == 4
    np.testing.assert_array_equal(data[2].labels, list(before)[2].labels)
    assert set(np.unique(data[2].labels)) == {0, 1, 2, 255}

    with Bag(tmp_path / bag) as written:
        assert {topic: written.counts[topic] for topic in written.topics} == {
            topic: 1 if topic.endswith("class_map") else 4 for topic, _ in bag_write.TOPICS.values()
        }


def test_frames_without_stamps_in_their_names_are_spaced_by_the_rate(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a", ["x", "y", "z"], labeled=set())
    assert bag_write.main([str(folder), str(tmp_path / "a.mcap"), "--rate", "4"]) == 0
    frames = list(BagSource(tmp_path / "a.mcap"))
    assert [f.stamp_ns for f in frames] == [250_000_000, 500_000_000, 750_000_000]
    for a, b in zip(PlainSource(folder), frames, strict=True):
        np.testing.assert_array_equal(a.depth, b.depth)
        assert b.labels is None


def test_partly_labeled_recordings_name_the_labeled_frames(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a", stamps(5), labeled={1, 3})
    assert bag_write.main([str(folder), str(tmp_path / "a.mcap")]) == 0
    assert bag_export.main([str(tmp_path / "a.mcap"), str(tmp_path / "b")]) == 0
    data, _ = open_dataset(f"{tmp_path / 'b'}:labeled", (HEIGHT, WIDTH))
    assert len(data) == 2
    for a, b in zip(PlainSource(folder), PlainSource(tmp_path / "b"), strict=True):
        equal(a, b)


def test_intrinsics_that_change_come_back_frame_by_frame(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a", stamps(4), labeled=set())
    (folder / "cameras").mkdir()
    for i in (1, 2):  # a zoom lens
        zoomed = {**CAMERA, "fx": 20.0 + i}
        (folder / "cameras" / f"{stamps(4)[i]}.json").write_text(json.dumps(zoomed))
    assert bag_write.main([str(folder), str(tmp_path / "a.db3")]) == 0
    assert [f.intrinsics.fx for f in BagSource(tmp_path / "a.db3")] == [14.5, 21, 22, 14.5]
    assert bag_export.main([str(tmp_path / "a.db3"), str(tmp_path / "b")]) == 0
    for a, b in zip(PlainSource(folder), PlainSource(tmp_path / "b"), strict=True):
        equal(a, b)


def test_a_models_labels_are_a_start_for_annotation(
    tmp_path: Path, models: dict[str, Path], segmenters: dict[str, Segmenter], capsys: Any
) -> None:
    bag = str(tmp_path / "a.mcap")
    folder = make_folder(tmp_path / "a", stamps(2), labeled=set())
    assert bag_write.main([str(folder), bag]) == 0
    arguments = [bag, str(tmp_path / "b"), "--labels", str(models["points"]), "--device", "cpu"]
    assert bag_export.main(arguments) == 0
    data = PlainFolder(tmp_path / "b")
    assert data.label_set == segmenters["points"].labels
    for sample, frame in zip(data, PlainSource(folder), strict=True):  # type: ignore[call-overload]
        expected = segmenters["points"].segment(frame.rgb, frame.depth, frame.intrinsics)
        np.testing.assert_array_equal(sample.labels, expected.labels)

    assert bag_export.main(arguments) == 1  # there are frames already
    assert "holds frames already: remove it" in capsys.readouterr().err
    labeled = make_folder(tmp_path / "c", stamps(2), labeled={0, 1})
    assert bag_write.main([str(labeled), bag]) == 0  # replaces the bag
    assert bag_export.main([bag, str(tmp_path / "d"), *arguments[2:]]) == 1
    assert "leave out --labels" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_frames_that_a_bag_cannot_contain_are_refused_and_leave_no_file(
    tmp_path: Path, capsys: Any
) -> None:
    folder = make_folder(tmp_path / "a", stamps(2), labeled=set())
    wide = np.zeros((HEIGHT, WIDTH + 2, 3), np.uint8)
    write_png(folder / "rgb" / f"{stamps(2)[1]}.png", wide)
    write_png(folder / "depth" / f"{stamps(2)[1]}.png", wide[:, :, 0].astype(np.uint16))
    (folder / "cameras").mkdir()
    other = {**CAMERA, "width": WIDTH + 2}
    (folder / "cameras" / f"{stamps(2)[1]}.json").write_text(json.dumps(other))
    assert bag_write.main([str(folder), str(tmp_path / "out.mcap")]) == 1
    assert "frame 1 has another size" in capsys.readouterr().err
    mixed = make_folder(tmp_path / "b", [stamps(1)[0], "x"], labeled=set())
    assert bag_write.main([str(mixed), str(tmp_path / "out.mcap")]) == 1
    assert "name all frames after their stamps" in capsys.readouterr().err
    (mixed / "depth" / "x.png").unlink()
    assert bag_write.main([str(mixed), str(tmp_path / "out.mcap")]) == 1
    assert "depth/x(.png|.npy) does not exist" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
    with pytest.raises(SystemExit):
        bag_write.main([str(folder), str(tmp_path / "out.zip")])


def test_a_plain_folder_can_be_played_too(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a", ["1", "2"], {0, 1}, depth_scale=0.0001)
    source = open_source(str(folder))
    first = next(iter(source))
    assert first.intrinsics == Intrinsics(14.5, 15.25, 7.75, 5.5, WIDTH, HEIGHT)
    raw = np.random.default_rng(0)
    raw.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    tenths = raw.integers(0, 65536, (HEIGHT, WIDTH), np.uint16)
    np.testing.assert_allclose(first.depth, tenths / 10, atol=0.5001)  # whole millimeters
    assert source.label_set == "lab"
    assert first.labels is not None
    assert set(np.unique(first.labels)) == {0, 1, 2, 255}


def write_recording(path: Path, **changes: Any) -> Path:
    """Write three frames; ``depth`` maps the index of a frame to another depth image."""
    make, messages = Maker(2), []
    for i in range(3):
        stamp = 10**9 + i * 100 * MS
        depth = changes.get("depth", {}).get(i, depths(i))
        encoding = "32FC1" if depth.dtype == np.float32 else "16UC1"
        late = stamp + changes.get("lag_ms", 0) * MS
        messages += [
            ("/cam/color/image_raw", stamp, make.image(colors(i), "rgb8", stamp)),
            ("/cam/depth/image_raw", stamp, make.image(depth, encoding, late)),
        ]
        if changes.get("info", True):
            messages.append(("/cam/color/camera_info", stamp, make.info(stamp)))
    return make.write(path, messages)


def test_a_frame_of_another_size_is_left_out_and_counted(tmp_path: Path, capsys: Any) -> None:
    bag = write_recording(tmp_path / "a.mcap", depth={1: np.ones((4, 4), np.uint16)})
    assert bag_export.main([str(bag), str(tmp_path / "out")]) == 1
    assert PlainSource(tmp_path / "out").names == [name_of(10**9), name_of(1_200_000_000)]
    printed = capsys.readouterr()
    assert "2 frames of /cam/color/image_raw" in printed.out
    assert "1 of 3 frames left out" in printed.err


def test_a_recording_of_a_loop_is_exported_once(tmp_path: Path) -> None:
    make = Maker(2)
    once = recording(make)
    again = [(topic, time + 10**9, message) for topic, time, message in once]
    bag = make.write(tmp_path / "loop.mcap", [*once, *again])
    assert bag_export.main([str(bag), str(tmp_path / "out")]) == 0
    frames = list(PlainSource(tmp_path / "out"))
    assert [frame.stamp_ns for frame in frames] == [10**9 + i * 100 * MS for i in range(3)]
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.rgb, colors(i))


def test_without_camera_info_the_images_are_exported(tmp_path: Path, capsys: Any) -> None:
    bag = write_recording(tmp_path / "a.mcap", info=False)
    assert bag_export.main([str(bag), str(tmp_path / "out")]) == 0
    assert "no usable CameraInfo: write" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["depth", "rgb"]
    given = ["--intrinsics", "20", "21", "5", "4"]
    assert bag_export.main([str(bag), str(tmp_path / "given"), *given]) == 0
    for i, frame in enumerate(PlainSource(tmp_path / "given")):
        assert frame.intrinsics == Intrinsics(20, 21, 5, 4, 12, 8)
        np.testing.assert_array_equal(frame.depth, depths(i))


def test_depth_that_is_not_in_meters_is_refused(tmp_path: Path, capsys: Any) -> None:
    meters = {i: np.full((8, 12), 1500.0, np.float32) for i in range(3)}
    bag = write_recording(tmp_path / "mm.mcap", depth=meters)
    assert bag_export.main([str(bag), str(tmp_path / "out")]) == 1
    assert (
        "in millimeters: give predict or bag_export --depth-scale 0.001" in capsys.readouterr().err
    )
    assert bag_export.main([str(bag), str(tmp_path / "out"), "--depth-scale", "0.001"]) == 0
    assert all((frame.depth == 1500).all() for frame in PlainSource(tmp_path / "out"))
    for value in (0, 65535):
        empty = {i: np.full((8, 12), value, np.uint16) for i in range(3)}
        bag = write_recording(tmp_path / f"{value}.mcap", depth=empty)
        assert bag_export.main([str(bag), str(tmp_path / "none")]) == 1
        assert "on /cam/depth/image_raw hold no measurement" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_wrong_intrinsics_are_one_line(tmp_path: Path, capsys: Any) -> None:
    bag = write_recording(tmp_path / "a.mcap")
    wrong = ["--intrinsics", "nan", "1", "1", "1"]
    assert bag_export.main([str(bag), str(tmp_path / "out"), *wrong]) == 1
    assert "bag_export: focal lengths must be positive and finite" in capsys.readouterr().err


def test_a_bag_without_one_pair_has_a_status_of_its_own(tmp_path: Path, capsys: Any) -> None:
    bag = write_recording(tmp_path / "a.mcap", lag_ms=700)
    assert bag_export.main([str(bag), str(tmp_path / "out")]) == 2
    assert "none of 3 color images" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_names_and_stamps() -> None:
    for stamp in (0, 1, 10**9, START):
        assert stamp_of(name_of(stamp)) == stamp
    assert stamp_of("1305031102.175304") == 1_305_031_102_175_304_000
    assert stamp_of("1305031102.1") == 1_305_031_102_100_000_000
    for name in ("0001", "frame", "1.", ".5", "1.5.2", "-1.5", ""):
        assert stamp_of(name) is None


def test_help_shows_examples(capsys: Any) -> None:
    for module in (bag_export, bag_write):
        with pytest.raises(SystemExit) as end:
            module.main(["--help"])
        assert end.value.code == 0
        command = f"python -m {module.__name__} "
        assert command in capsys.readouterr().out.partition("examples:")[2]
