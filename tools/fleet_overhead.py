"""Measure the overhead of a fleet run: python tools/fleet_overhead.py

The command labels many recordings of one small frame with a model that takes no time, or with
--network recordings of 480x640 frames with the shipped weights: in this process, on a local Ray
with a worker per core, and on Ray again when all recordings are labeled already.
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
from sgnet_core.fleet.labeling import LabelingJob, read_model
from sgnet_core.fleet.manifest import Manifest
from sgnet_core.fleet.ray_workers import Workers, run_on_ray
from sgnet_core.fleet.storage import Source, find_sources
from sgnet_core.inference.frames import Calibration
from sgnet_core.inference.labeling import Labeler, LabelingOptions
from sgnet_core.inference.segmenter import Prediction, Segmenter
from sgnet_core.models.labels import NYU13


class InstantSegmenter:
    """A model that takes no time and labels every pixel with class 0."""

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


def write_recordings(folder: Path, count: int, frames: int, size: tuple[int, int]) -> None:
    """Write plain folders of frames; their files are hard links to those of the first folder."""
    height, width = size
    rng = np.random.default_rng(0)
    names = [f"{kind}/{i:04d}.png" for i in range(frames) for kind in ("rgb", "depth")]
    first = folder / "r00000"
    for kind in ("rgb", "depth"):
        (first / kind).mkdir(parents=True)
    for name in names:
        shape = (height, width, 3) if name.startswith("rgb") else (height, width)
        numbers = np.uint8 if name.startswith("rgb") else np.uint16
        write_png(first / name, rng.integers(1, 256, shape).astype(numbers))
    optics = {"fx": width, "fy": width, "cx": width / 2, "cy": height / 2}
    camera = {"width": width, "height": height, **optics, "depth_scale": 0.01}
    (first / "camera.json").write_text(json.dumps(camera))
    for index in range(1, count):
        other = folder / f"r{index:05d}"
        for kind in ("rgb", "depth"):
            (other / kind).mkdir(parents=True)
        for name in (*names, "camera.json"):
            os.link(first / name, other / name)


def timed(name: str, tasks: int, run: Callable[[], Any]) -> float:
    """Run a function, print its time and its tasks per second, and return its seconds."""
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    print(f"{name}: {seconds:.2f} s, {tasks / seconds:.3g} recordings/s", flush=True)
    return seconds


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=10_000, metavar="N")
    parser.add_argument("--frames", type=int, default=1, metavar="N", help="per recording (1)")
    parser.add_argument(
        "--network",
        action="store_true",
        help="label frames of 480x640 with the shipped weights, not of 24x32 without a network",
    )
    args = parser.parse_args(argv)
    cores = os.cpu_count() or 1
    print(f"load of the machine before: {os.getloadavg()[0]:.1f} on {cores} cores")
    kind: type[LabelingJob] = LabelingJob if args.network else InstantJob
    model = read_model(None) if args.network else ("instant", b"")
    with tempfile.TemporaryDirectory(prefix="fleet_overhead_") as scratch:
        size = (480, 640) if args.network else (24, 32)
        write_recordings(Path(scratch, "in"), args.recordings, args.frames, size)
        sources = find_sources([f"{scratch}/in/*"])

        def job(name: str) -> LabelingJob:
            place = str(Path(scratch, name))
            return kind(place, *model, "cpu", "auto", Calibration(), LabelingOptions())

        def on_ray(name: str, sources: Sequence[Source]) -> None:
            outcomes = run_on_ray(job(name), sources, Workers(gpus=False))
            assert all(isinstance(outcome, Manifest) for _, outcome in outcomes)

        def label_all(job: LabelingJob) -> None:
            label = job.start()
            assert all(isinstance(attempt(label, source), Manifest) for source in sources)

        count = len(sources)
        plain = timed("in this process", count, lambda: label_all(job("plain")))
        start = timed(
            "Ray, one recording (its start and stop)", 1, lambda: on_ray("one", sources[:1])
        )
        ray = timed("Ray, all", count, lambda: on_ray("ray", sources))
        timed("Ray, all labeled before", count, lambda: on_ray("ray", sources))
        print(f"Ray against this process plus the start of Ray: {ray / (plain + start) - 1:+.1%}")


if __name__ == "__main__":
    main()
