"""Throughput of a run, and its logs: ``log.csv`` and TensorBoard."""

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
class Throughput:
    """Time of the steps, time spent waiting for data, and number of images.

    Attributes:
        seconds: time of all steps, including waiting, but without the first, in which the loader
            starts.
        waited: part of ``seconds`` spent waiting for the loader.
        images: number of images of those steps.
    """

    seconds: float = 0.0
    waited: float = 0.0
    images: int = 0
    _first: bool = True
    _started: float = 0.0
    _ready: float = 0.0

    def timed(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items, measuring the wait for each."""
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
        """Record the end of the step on the last item; return its seconds."""
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
        """Images per second; 0 before the second step."""
        return self.images / self.seconds if self.seconds else 0.0

    @property
    def idle(self) -> float:
        """Share of the time spent waiting for data, 0..1."""
        return self.waited / self.seconds if self.seconds else 0.0

    def since(self, earlier: Throughput) -> Throughput:
        """Return the throughput between an earlier `snapshot` and now."""
        return Throughput(
            self.seconds - earlier.seconds,
            self.waited - earlier.waited,
            self.images - earlier.images,
        )

    def snapshot(self) -> Throughput:
        """Return a copy of the current counts."""
        return Throughput(self.seconds, self.waited, self.images)


def read_log(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a run's ``log.csv``, one per validation; [] without the file."""
    path = folder / "log.csv"
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


class RunLog:
    """``log.csv`` with a row per validation, and TensorBoard's event files.

    Args:
        folder: folder of the run.
        iteration: iteration at which the run starts or resumes. Rows of later iterations are
            dropped, because they will be computed again.
    """

    def __init__(self, folder: Path, iteration: int) -> None:
        self.path = folder / "log.csv"
        self.tensorboard = SummaryWriter(str(folder / "tensorboard"), purge_step=iteration + 1)
        rows = read_log(folder)
        kept = [row for row in rows if int(row["iteration"]) <= iteration]
        if len(kept) < len(rows):
            self._write(kept)

    def scalars(self, values: Mapping[str, float], iteration: int) -> None:
        """Add points to TensorBoard's curves."""
        for name, value in values.items():
            self.tensorboard.add_scalar(name, value, iteration)

    def add(self, record: Mapping[str, float]) -> None:
        """Write a row of ``log.csv``; it replaces an earlier row of the same iteration."""
        rows = read_log(self.path.parent)
        others = [row for row in rows if row["iteration"] != str(record["iteration"])]
        self._write([*others, record])

    def _write(self, rows: Iterable[Mapping[str, float | str]]) -> None:
        rows = list(rows)
        text = io.StringIO(newline="")
        # An older version may have written the first rows with fewer columns.
        columns = dict.fromkeys(name for row in rows for name in row)
        writer = csv.DictWriter(text, list(columns), restval="")
        writer.writeheader()
        writer.writerows(rows)
        with atomic_write(self.path) as file:
            file.write(text.getvalue().encode())

    def close(self) -> None:
        """Close the event file of TensorBoard."""
        self.tensorboard.close()
