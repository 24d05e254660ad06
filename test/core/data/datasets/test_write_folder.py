"""Plain folders as they are written: rooms, rounding, and what is not written over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sgnet_core.data.catalog import open_dataset
from sgnet_core.data.datasets.folder_writer import write_folder
from sgnet_core.data.datasets.frame_files import DatasetError
from sgnet_core.data.rooms import Rooms
from sgnet_core.data.sample import Sample
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.models.labels import NYU40, LabelSet
from sgnet_core.prepare import main
from write_files import save

SIZE = (1, 1)  # of rooms; means nothing to frames in files
H, W = 6, 8


def test_rooms_are_written_as_they_are_rendered(tmp_path: Path) -> None:
    out = tmp_path / "rooms"
    command = ["rooms", "--seed", "5", "--count", "2", "--size", "48x36", "--out", str(out)]
    assert main(command) == 0
    samples, classes = open_dataset(str(out), SIZE)
    assert classes is NYU40 and len(samples) == 2
    for index, room in enumerate(Rooms(5, 2, (36, 48))[i] for i in range(2)):
        np.testing.assert_array_equal(samples[index].rgb, room.rgb)
        np.testing.assert_array_equal(samples[index].labels, room.labels)
        np.testing.assert_allclose(samples[index].depth, room.depth, atol=0.00051)
        assert samples[index].intrinsics == room.intrinsics
    assert main(["check", str(out)]) == 0


def test_a_folder_with_frames_is_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "rgb" / "mine.png", np.zeros((H, W, 3), np.uint8))
    rooms = ["rooms", "--seed", "1", "--count"]
    assert main([*rooms, "1", "--out", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "already contains frames" in message and str(tmp_path) in message
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["mine.png"]
    assert main([*rooms, "0", "--out", str(tmp_path / "new")]) == 2
    assert "--count" in capsys.readouterr().err


def test_ctrl_c_says_that_the_folder_is_not_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    render = Rooms.__getitem__

    def interrupted(self: Rooms, index: int) -> Sample:
        if index == 1:
            raise KeyboardInterrupt
        return render(self, index)

    monkeypatch.setattr(Rooms, "__getitem__", interrupted)
    out = tmp_path / "rooms"
    command = ["rooms", "--seed", "5", "--count", "2", "--size", "48x36", "--out", str(out)]
    assert main(command) == 130
    assert f"{out} is not complete, remove it" in capsys.readouterr().err
    with pytest.raises(DatasetError, match=r"classes.json does not exist"):
        open_dataset(str(out), SIZE)


class OneFrame:
    """A data set of a single frame with classes of its own."""

    label_set = LabelSet("lab", ("a", "b"), ((1, 2, 3), (4, 5, 6)))
    names = ("only",)

    def __getitem__(self, index: int) -> Sample:
        depth = np.full((H, W), 70.0, np.float32)
        depth[0] = 1.2345
        rgb, labels = np.zeros((H, W, 3), np.uint8), np.ones((H, W), np.uint8)
        return Sample(rgb, depth, labels, Intrinsics(np.float64(7), 7, 3, 2, W, H))


def test_writing_rounds_depth_and_keeps_classes(tmp_path: Path) -> None:
    write_folder(tmp_path, {"": OneFrame()})
    samples, classes = open_dataset(str(tmp_path), SIZE)
    assert classes == OneFrame.label_set
    # 65.535 m is the last millimeter that 16 bits hold: farther is missing, not wrapped around.
    np.testing.assert_allclose(samples[0].depth[:2, 0], [1.234, 0], atol=0.00051)
    write_folder(tmp_path / "centimeters", {"": OneFrame()}, depth_scale=0.01)
    far = open_dataset(str(tmp_path / "centimeters"), SIZE)[0][0].depth
    np.testing.assert_allclose(far[:2, 0], [1.23, 70], rtol=1e-6)
