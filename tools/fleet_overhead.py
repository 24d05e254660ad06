"""Measure what a fleet run costs beside the network: python tools/fleet_overhead.py

Labels many recordings of one small frame with a model that answers at once: in this process, on a
local Ray, and on Ray again when all is done.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from sgnet_core.data.images import write_png
from sgnet_core.fleet.jobs import attempt
from sgnet_core.fleet.labeling import LabelingJob
from sgnet_core.fleet.manifest import Manifest
from sgnet_core.fleet.ray_workers import Workers, run_on_ray
from sgnet_core.fleet.storage import Source, find_sources
from sgnet_core.inference.frames import Calibration
from sgnet_core.inference.labeling import Labeler, LabelingOptions
from sgnet_core.inference.segmenter import Prediction, Segmenter
from sgnet_core.models.labels import NYU13

HEIGHT, WIDTH = 24, 32


class InstantSegmenter:
    """Answers class 0 for every pixel."""

    info = SimpleNamespace(name="instant")
    labels = NYU13
    device = "cpu"
    model = SimpleNamespace(config=SimpleNamespace(spatial="depth"))

    def segment(self, rgb: np.ndarray, *_: object, **__: object) -> Prediction:
        labels = np.zeros(rgb.shape[:2], np.uint8)
        return Prediction(labels, None, None, rgb, {})


@dataclass(frozen=True)
class InstantJob(LabelingJob):
    """The labeling job without its network."""

    def labeler(self) -> Labeler:
        return Labeler(cast(Segmenter, InstantSegmenter()), self.options)


def write_recordings(folder: Path, count: int) -> None:
    """Write plain folders of one frame, whose files are hard links of the first one's."""
    names = ("rgb/0.png", "depth/0.png", "camera.json")
    first = folder / "r00000"
    for kind in ("rgb", "depth"):
        (first / kind).mkdir(parents=True)
    write_png(first / names[0], np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    write_png(first / names[1], np.ones((HEIGHT, WIDTH), np.uint16))
    camera = {"width": WIDTH, "height": HEIGHT, "fx": 30, "fy": 30, "cx": 16, "cy": 12}
    (first / names[2]).write_text(json.dumps(camera))
    for index in range(1, count):
        other = folder / f"r{index:05d}"
        for kind in ("rgb", "depth"):
            (other / kind).mkdir(parents=True)
        for name in names:
            os.link(first / name, other / name)


def timed(name: str, tasks: int, run: Callable[[], Any]) -> None:
    """Run something and print its time in total and per task."""
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    print(f"{name}: {seconds:.2f} s, {tasks / seconds:.0f} recordings/s", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=10_000)
    count = parser.parse_args(argv).recordings
    print(f"load of the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="fleet_overhead_") as scratch:
        write_recordings(Path(scratch, "in"), count)
        sources = find_sources([f"{scratch}/in/*"])

        def job(name: str) -> InstantJob:
            options = LabelingOptions()
            place = str(Path(scratch, name))
            return InstantJob(place, "instant", b"", "cpu", "auto", Calibration(), options)

        def on_ray(name: str, sources: Sequence[Source]) -> None:
            outcomes = run_on_ray(job(name), sources, Workers())
            assert all(isinstance(outcome, Manifest) for _, outcome in outcomes)

        label = job("plain").start()
        timed("in this process", count, lambda: [attempt(label, source) for source in sources])
        timed("Ray, one recording (its start and stop)", 1, lambda: on_ray("one", sources[:1]))
        timed("Ray, all", count, lambda: on_ray("ray", sources))
        timed("Ray, all done before", count, lambda: on_ray("ray", sources))


if __name__ == "__main__":
    main()


if __name__ == "__main__":
    main()
