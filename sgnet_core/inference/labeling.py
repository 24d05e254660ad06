"""Label frames and write label images, overlays and point clouds into a folder."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sgnet_core.data.depth_units import depth_doubt
from sgnet_core.data.images import write_png
from sgnet_core.data.ply import write_ply
from sgnet_core.geometry.holes import HolePolicy
from sgnet_core.geometry.spatial import NEEDS_INTRINSICS
from sgnet_core.inference.frames import Input, RgbdFrame
from sgnet_core.inference.segmenter import Prediction, Segmenter

OVERLAY_ALPHA = 0.5
_MAX_DOUBTS = 3  # frames with doubtful depth that are named one by one


@dataclass(frozen=True)
class LabelingOptions:
    """Options for the labels of a frame.

    Attributes:
        scales: factors of the input size whose scores are averaged.
        ply: write point clouds too.
        holes: policy that fills pixels without depth; None takes the model's.
    """

    scales: Sequence[float] = (1.0,)
    ply: bool = False
    holes: HolePolicy | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the result folders, which get one file per frame."""
        return ("labels", "overlay", "points")[: 3 if self.ply else 2]


@dataclass
class Labeled:
    """Result of `Labeler.label_all`.

    Attributes:
        frames: number of labeled frames.
        left_out: one reason for each frame that was left out.
        doubts: one reason for each labeled frame whose depth is doubtful.
        counts: (256,) number of pixels by class id.
    """

    frames: int = 0
    left_out: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))


@dataclass(frozen=True)
class Labeler:
    """Runs a model on frames and writes the results."""

    segmenter: Segmenter
    options: LabelingOptions

    def require_intrinsics(self, frame: RgbdFrame) -> None:
        """Raise ValueError if the intrinsics of the frame are needed but not known."""
        spatial = self.segmenter.model.config.spatial
        ply = self.options.ply
        if frame.intrinsics is not None or not (ply or spatial in NEEDS_INTRINSICS):
            return
        reason = "--ply" if ply else f"{self.segmenter.info.name} is guided by {spatial}"
        raise ValueError(
            f"{reason}, which needs the camera's intrinsics: give --intrinsics FX FY CX CY"
        )

    def label(self, frame: RgbdFrame, scores: bool = False) -> Prediction:
        """Return the prediction for a frame, with its overlay."""
        return self.segmenter.segment(
            frame.rgb,
            frame.depth,
            frame.intrinsics,
            scores=scores,
            overlay=OVERLAY_ALPHA,
            scales=self.options.scales,
            holes=self.options.holes,
        )

    def write(
        self, folder: Path, frame: RgbdFrame, prediction: Prediction, name: str | None
    ) -> list[Path]:
        """Write the results of a frame; every file appears only when it is complete.

        Returns:
            The files: ``folder/labels.png`` …, or with a name, ``folder/labels/NAME.png`` …

        Raises:
            OSError: a file cannot be written; it names the file.
        """

        def path(kind: str, suffix: str) -> Path:
            file = folder / (f"{kind}{suffix}" if name is None else f"{kind}/{name}{suffix}")
            file.parent.mkdir(parents=True, exist_ok=True)
            return file

        written = [path("labels", ".png"), path("overlay", ".png")]
        assert prediction.overlay is not None
        write_png(written[0], prediction.labels)
        write_png(written[1], prediction.overlay)
        if self.options.ply and frame.intrinsics is not None:
            written.append(path("points", ".ply"))
            colors, names = prediction.overlay, self.segmenter.labels.names
            write_ply(written[2], frame.depth, frame.intrinsics, colors, prediction.labels, names)
        return written

    def label_all(
        self,
        inputs: Sequence[Input],
        folder: Path,
        progress: Callable[[], object] = lambda: None,
        warn: Callable[[str], object] = lambda text: None,
    ) -> Labeled:
        """Label every frame of the inputs; leave out those that cannot be read.

        Args:
            inputs: inputs whose frames have different names.
            folder: folder for ``labels/NAME.png`` and so on; made with the first file.
            progress: called once per frame.
            warn: called with a line for each frame that is left out, and for the first frames with
                doubtful depth.

        Raises:
            ValueError: the camera's intrinsics are needed and not known.
            OSError: a result cannot be written.
        """
        labeled = Labeled()
        done: set[str] = set()

        def leave_out(reason: str) -> None:
            labeled.left_out.append(reason)
            warn(f"left out: {reason}")

        for unread in itertools.chain.from_iterable(one.frames for one in inputs):
            progress()
            name = unread.name
            try:
                frame = unread.read()
                if name in done:
                    raise ValueError(
                        f"two frames have the name {name}: label one of them into another folder"
                    )
            except ValueError as error:
                leave_out(str(error))
                continue
            self.require_intrinsics(frame)
            try:
                prediction = self.label(frame)
            except ValueError as error:
                leave_out(f"{name}: {error}")
                continue
            self.write(folder, frame, prediction, name)
            if doubt := depth_doubt(frame.depth):
                labeled.doubts.append(f"{name}: {doubt}")
                if len(labeled.doubts) <= _MAX_DOUBTS:
                    warn(f"labeled, but {labeled.doubts[-1]}")
            labeled.counts += np.bincount(prediction.labels.ravel(), minlength=256)
            done.add(name)
        labeled.frames = len(done)
        if len(labeled.doubts) > _MAX_DOUBTS:
            warn(f"the depth of {len(labeled.doubts)} of {labeled.frames} frames is doubtful")
        return labeled
