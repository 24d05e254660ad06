"""Comparison of the node's answers with each other and with the truth."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgnet_core.data.datasets.folder import read_classes
from sgnet_core.data.datasets.frame_files import DatasetError, IdTable, to_classes
from sgnet_core.data.images import ImageFileError, overlay, read_labels
from sgnet_core.evaluation.metrics import ConfusionMatrix
from sgnet_core.evaluation.report import image_uri, mask_uri
from sgnet_core.files import not_hidden
from sgnet_core.models.labels import IGNORE_ID, LabelSet
from sgnet_ros.recordings.frames import CameraFrame, stamp_of
from sgnet_ros.replay_eval.answers import Answers, ReplayError
from sgnet_ros.replay_eval.scores import Mask, Stability, Tally, stability

KEPT_PICTURES = 6
_OVERLAY_ALPHA = 0.55
_NEAR_NS = 1000  # names that give microseconds


class TruthFolder:
    """Label images in files named after stamps, as `bag_export` names them.

    Args:
        folder: with NAME.png, or labels/NAME.png as in a plain folder; a classes.json beside says
            what the ids mean, else they are taken for the model's.

    Raises:
        ReplayError: there is no such file, or classes.json is wrong.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        images = folder / "labels" if (folder / "labels").is_dir() else folder
        found = [path for path in not_hidden(images.glob("*")) if path.suffix.lower() == ".png"]
        files = {stamp_of(path.stem): path for path in found}
        self._files = {stamp: path for stamp, path in files.items() if stamp is not None}
        self._stamps = sorted(self._files)
        if not self._files:
            raise ReplayError(
                f"{images} holds no label image named after a stamp, such as "
                "1700000000123456789.png (ns) or 1305031102.175304.png (s)"
            )
        self.classes: LabelSet | None = None
        self._table: IdTable | None = None
        try:
            if (path := folder / "classes.json").is_file():
                classes = read_classes(path)
                self.classes, self._table = classes.label_set, classes.table
        except DatasetError as error:
            raise ReplayError(str(error)) from error

    def __getitem__(self, stamp: int) -> Mask | None:
        """Return (H, W) class ids of the frame of that stamp in ns; None if there is no file.

        Raises:
            ReplayError: the file is damaged or holds ids that classes.json doesn't name.
        """
        path = self._files.get(stamp)
        if path is None:
            nearest = min(self._stamps, key=lambda s: abs(s - stamp))
            if abs(nearest - stamp) > _NEAR_NS:
                return None
            path = self._files[nearest]
        try:
            ids = read_labels(path)
            return ids if self._table is None else to_classes(ids, self._table, path)
        except (ImageFileError, DatasetError) as error:
            raise ReplayError(str(error)) from error


@dataclass(frozen=True)
class Shown:
    """A frame for the report: ordered by how bad it is, worst last; compares by that alone."""

    badness: float
    stamp_ns: int
    note: str
    pictures: Mapping[str, str]

    def __lt__(self, other: Shown) -> bool:
        return (self.badness, self.stamp_ns) < (other.badness, other.stamp_ns)


class Judge:
    """Comparison of a bag's answers with each other and with the truth, frame by frame.

    Args:
        answers: of the node.
        classes: of the node.
        truth: label images in files, where they are not in the bag.

    Attributes:
        tally: the outcome so far.
        worst: the frames with the lowest mIoU, or without truth those that changed most.
    """

    def __init__(self, answers: Answers, classes: LabelSet, truth: TruthFolder | None) -> None:
        self.tally = Tally(
            frames=len(set(answers.sent)),
            labeled=len(answers.latency_ms),
            dropped=answers.dropped,
            seconds=answers.seconds,
            latency_ms=list(answers.latency_ms.values()),
            inference_ms=[answers.stats[s].inference_ms for s in sorted(answers.stats)],
            overhead_ms=[answers.stats[s].overhead_ms for s in sorted(answers.stats)],
        )
        self.worst: list[Shown] = []
        self._answers, self._classes, self._truth = answers, classes, truth
        self._last: tuple[CameraFrame, Mask | None] | None = None

    def judge(self, frame: CameraFrame) -> None:
        """Take the next frame of the bag.

        Raises:
            ReplayError: the truth isn't in the node's classes, or of another size.
        """
        assert frame.stamp_ns is not None
        labels = self._answers.labels(frame.stamp_ns)
        last, self._last = self._last, (frame, labels)
        if labels is None:
            return
        change = Stability()
        if last is not None and last[1] is not None and last[1].shape == labels.shape:
            change = stability((last[0].depth, frame.depth), (last[1], labels))
            self.tally.stability += change
        truth = frame.labels if self._truth is None else self._truth[frame.stamp_ns]
        if truth is None:
            if change.flip_rate is not None:
                note = f"{change.flip_rate:.1%} of the static pixels changed"
                self._show(change.flip_rate, note, frame, labels, None)
            return
        confusion = self._compared(truth, labels, frame.stamp_ns)
        if confusion.counts.any():
            self._show(-confusion.miou, f"mIoU {confusion.miou:.3f}", frame, labels, truth)

    def _compared(self, truth: Mask, labels: Mask, stamp_ns: int) -> ConfusionMatrix:
        confusion = ConfusionMatrix(len(self._classes))
        try:
            confusion.update(truth, labels)
        except ValueError as error:
            raise ReplayError(
                f"the truth of the frame {stamp_ns} doesn't fit the model's classes "
                f"({self._classes.name}): {error}"
            ) from error
        if self.tally.confusion is None:
            self.tally.confusion = ConfusionMatrix(len(self._classes))
        self.tally.confusion += confusion
        self.tally.compared += 1
        return confusion

    def _show(
        self, badness: float, note: str, frame: CameraFrame, labels: Mask, truth: Mask | None
    ) -> None:
        """Keep the frame's pictures if it is among the worst."""
        if len(self.worst) == KEPT_PICTURES and badness <= self.worst[0].badness:
            return
        assert frame.stamp_ns is not None
        pictures = {
            "color": image_uri(frame.rgb),
            "labels": image_uri(overlay(frame.rgb, labels, self._classes, _OVERLAY_ALPHA)),
        }
        if truth is not None:
            pictures["truth"] = mask_uri(truth, self._classes)
            wrong = (truth != labels) & (truth != IGNORE_ID)
            pictures["errors"] = image_uri(_marked(frame.rgb, wrong))
        heapq.heappush(self.worst, Shown(badness, frame.stamp_ns, note, pictures))
        if len(self.worst) > KEPT_PICTURES:
            heapq.heappop(self.worst)


def _marked(rgb: Any, where: Any) -> Any:
    """Return the picture in half its brightness, red where the mask is set."""
    marked = rgb // 2
    marked[where] = (230, 40, 40)
    return marked


def require_same(classes: LabelSet, truth: LabelSet | None, place: object) -> None:
    """Raise ReplayError if the truth, found at ``place``, is known to be in other classes."""
    if truth is not None and truth.names != classes.names:
        raise ReplayError(
            f"the truth ({place}) is in {truth.name}, the model's classes are {classes.name}: give "
            "--model one that was trained on them, or --truth in the model's classes"
        )
