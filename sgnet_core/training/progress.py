"""How fast a run is, how long it waits for data, and the logs that keep it."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from torch.utils.tensorboard import SummaryWriter

from sgnet_core.files import atomic_write

T = TypeVar("T")


@dataclass
class Pace:
    """Time of the steps, the share of it that they waited for data, and their images.

    Attributes:
        seconds: of all steps but the first, in which the loader starts; waiting included.
        waited: of these, for the loader.
        images: in these.
    """

    seconds: float = 0.0
    waited: float = 0.0
    images: int = 0
    _first: bool = True
    _started: float = 0.0
    _ready: float = 0.0

    def timed(self, items: Iterable[T]) -> Iterator[T]:
        """The items; how long each was waited for is measured."""
        iterator = iter(items)
        while True:
            self._started = time.monotonic()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self._ready = time.monotonic()
            yield item

    def step_done(self, images: int) -> float:
        """To be called when the step on the last item is done; returns its seconds."""
        step = time.monotonic() - self._started
        if self._first:
            self._first = False
            return step
        self.seconds += step
        self.waited += self._ready - self._started
        self.images += images
        return step

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds if self.seconds else 0.0

    @property
    def idle(self) -> float:
        """Share of the time that was spent waiting for data, 0..1."""
        return self.waited / self.seconds if self.seconds else 0.0

    def since(self, earlier: Pace) -> Pace:
        """The pace between an earlier `snapshot` and now."""
        return Pace(
            self.seconds - earlier.seconds,
            self.waited - earlier.waited,
            self.images - earlier.images,
        )

    def snapshot(self) -> Pace:
        return Pace(self.seconds, self.waited, self.images)


def read_log(folder: Path) -> list[dict[str, str]]:
    """The rows of a run's ``log.csv``, one per validation."""
    path = folder / "log.csv"
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


class RunLog:
    """``log.csv``, a row per validation, and TensorBoard's event files.

    Args:
        folder: of the run.
        iteration: that the run starts or goes on from; what was logged after it is dropped, since
            it will be computed again.
    """

    def __init__(self, folder: Path, iteration: int) -> None:
        self.path = folder / "log.csv"
        self.tensorboard = SummaryWriter(str(folder / "tensorboard"), purge_step=iteration + 1)
        rows = read_log(folder)
        kept = [row for row in rows if int(row["iteration"]) <= iteration]
        if len(kept) < len(rows):
            self._write(kept)

    def scalars(self, values: Mapping[str, float], iteration: int) -> None:
        """Values for TensorBoard."""
        for name, value in values.items():
            self.tensorboard.add_scalar(name, value, iteration)

    def add(self, record: Mapping[str, float]) -> None:
        """A row of ``log.csv``, the only one of its ``iteration``, which is a column."""
        rows = read_log(self.path.parent)
        others = [row for row in rows if row["iteration"] != str(record["iteration"])]
        self._write([*others, record])

    def _write(self, rows: Iterable[Mapping[str, float | str]]) -> None:
        rows = list(rows)
        text = io.StringIO(newline="")
        # The columns of all rows: an older version of the program may have written the first ones.
        columns = dict.fromkeys(name for row in rows for name in row)
        writer = csv.DictWriter(text, list(columns), restval="")
        writer.writeheader()
        writer.writerows(rows)
        with atomic_write(self.path) as file:
            file.write(text.getvalue().encode())

    def close(self) -> None:
        self.tensorboard.close()
