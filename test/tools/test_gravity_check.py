"""Estimated gravity against that of a data set's authors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gravity_check import main, read_up
from sgnet_core.data.datasets.folder_writer import write_folder
from sgnet_core.data.rooms import Rooms
from sgnet_core.models.labels import NYU40


def rotation_of(up: np.ndarray) -> np.ndarray:
    """A rotation of points (x, z, −y) whose third axis is ``up`` (x right, y down, z forward)."""
    third = np.array((up[0], up[2], -up[1]))
    first = np.cross((0.0, 1.0, 0.0), third)
    first /= np.linalg.norm(first)
    return np.stack((first, np.cross(third, first), third))


def test_rooms_whose_gravity_is_known_come_out_within_degrees(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rooms = Rooms(seed=3, length=4, size=(120, 160))
    ups = [rooms[i].up for i in range(4)]
    folder, file = tmp_path / "rooms", tmp_path / "gravity.txt"

    class Numbered:
        label_set = NYU40
        names = ("1", "2", "3", "4")

        def __getitem__(self, index: int):  # type: ignore[no-untyped-def]
            return rooms[index]

    write_folder(folder, {"": Numbered()})
    assert all(up is not None for up in ups)
    np.savetxt(file, np.concatenate([rotation_of(np.asarray(up, float)) for up in ups]))
    np.testing.assert_allclose(read_up(file), np.stack(ups), atol=1e-4)
    assert main([str(folder), "--rotations", str(file)]) == 0
    words = capsys.readouterr().out.split()
    assert words[:2] == ["4", "frames:"]
    assert float(words[3].strip("°,")) < 3


def test_a_file_of_another_kind_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gravity.txt"
    file.write_text("1 0 0\n0 2 0\n0 0 1\n")
    with pytest.raises(ValueError, match="not rotations"):
        read_up(file)
    file.write_text("1 0 0\n")
    with pytest.raises(ValueError, match="3x3"):
        read_up(file)
