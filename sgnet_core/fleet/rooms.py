"""Render procedural rooms into a plain folder, as a job for Ray's workers."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sgnet_core.data.datasets.folder import MILLIMETERS, camera_values, classes_values
from sgnet_core.data.datasets.folder_writer import require_no_frames, write_frame, write_json
from sgnet_core.data.datasets.frame_files import DatasetError
from sgnet_core.data.rooms import Rooms
from sgnet_core.models.labels import LabelSet

BLOCK = 16
"""Number of frames per task, which take seconds to render."""


@dataclass(frozen=True)
class RoomsJob:
    """Render rooms into a plain folder; skip existing frames.

    Attributes:
        folder: folder of the data set.
        seed, count, size: arguments of `Rooms`.
    """

    folder: Path
    seed: int
    count: int
    size: tuple[int, int]

    def blocks(self) -> list[range]:
        """Return the tasks: indices of neighboring frames."""
        return [
            range(start, min(start + BLOCK, self.count)) for start in range(0, self.count, BLOCK)
        ]

    def prepare(self) -> None:
        """Write the seed and size of the rooms, and the camera of the first frame.

        Raises:
            DatasetError: the folder contains other frames.
            OSError: a file cannot be written.
        """
        record = self.folder / "rooms.json"
        wanted = {"seed": self.seed, "size": list(self.size)}
        if record.exists():
            if json.loads(record.read_text()) != wanted:
                raise DatasetError(f"{record} is for other rooms: choose another --out")
        else:
            require_no_frames(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(record, wanted)
        (self.folder / "classes.json").unlink(missing_ok=True)
        camera = camera_values(self._rooms()[0].intrinsics, MILLIMETERS)
        write_json(self.folder / "camera.json", camera)

    def _rooms(self) -> Rooms:
        return Rooms(self.seed, self.count, self.size)

    def start(self) -> Callable[[range], int]:
        """Return the function that renders the frames of a task and returns their number."""
        first: dict[str, float] = json.loads((self.folder / "camera.json").read_text())
        return functools.partial(self._render, self._rooms(), first)

    def _render(self, rooms: Rooms, first: dict[str, float], block: range) -> int:
        for index in block:
            name = f"{index:06d}"
            if not (self.folder / "labels" / f"{name}.png").exists():
                write_frame(self.folder, name, rooms[index], MILLIMETERS, first)
        return len(block)

    def finish(self, label_set: LabelSet) -> None:
        """Write the classes; without them, an incomplete folder cannot be opened."""
        write_json(self.folder / "classes.json", classes_values(label_set))
