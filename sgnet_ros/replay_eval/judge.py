"""Comparison of the node's label images with each other and with ground truth."""

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
_NEAR_NS = 1000  # because some names have microseconds


class TruthFolder:
    """Label images in files named after stamps, as `bag_export` writes them.

    Args:
        folder: contains NAME.png, or labels/NAME.png as in a plain folder. A classes.json in it
            gives the meaning of the ids; without it, they are ids of the model.

    Raises:
        ReplayError: there is no label image named after a stamp, or classes.json is wrong.
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
                f"{images} has no label image named after a stamp, such as "
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
        """Return (H, W) class ids of the frame with a stamp in ns; None if there is no file.

        Raises:
            ReplayError: the file is damaged or has ids that classes.json does not name.
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
class WorstFrame:
    """A frame for the report; comparison orders frames by `badness`, the worst last."""

    badness: float
    stamp_ns: int
    note: str
    pictures: Mapping[str, str]

    def __lt__(self, other: WorstFrame) -> bool:
        return (self.badness, self.stamp_ns) < (other.badness, other.stamp_ns)


class Judge:
    """Compare the label images of a bag with each other and with ground truth, frame by frame.

    Args:
        answers: answers of the node.
        classes: classes of the node.
        truth: ground truth in files; None if it is in the bag.

    Attributes:
        tally: counts and times so far.
        worst: frames with the lowest mIoU, or without ground truth those that changed most.
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
        self.worst: list[WorstFrame] = []
        self._answers, self._classes, self._truth = answers, classes, truth
        self._last: tuple[CameraFrame, Mask | None] | None = None

    def judge(self, frame: CameraFrame) -> None:
        """Compare the next frame of the bag.

        Raises:
            ReplayError: the ground truth is not in the node's classes, or is of another size.
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
                self._keep_if_worst(change.flip_rate, note, frame, labels, None)
            return
        confusion = self._compared(truth, labels, frame.stamp_ns)
        if confusion.counts.any():
            self._keep_if_worst(-confusion.miou, f"mIoU {confusion.miou:.3f}", frame, labels, truth)

    def _compared(self, truth: Mask, labels: Mask, stamp_ns: int) -> ConfusionMatrix:
        confusion = ConfusionMatrix(len(self._classes))
        try:
            confusion.update(truth, labels)
        except ValueError as error:
            raise ReplayError(
                f"the ground truth of frame {stamp_ns} does not fit the model's classes "
                f"({self._classes.name}): {error}"
            ) from error
        if self.tally.confusion is None:
            self.tally.confusion = ConfusionMatrix(len(self._classes))
        self.tally.confusion += confusion
        self.tally.compared += 1
        return confusion

    def _keep_if_worst(
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
        heapq.heappush(self.worst, WorstFrame(badness, frame.stamp_ns, note, pictures))
        if len(self.worst) > KEPT_PICTURES:
            heapq.heappop(self.worst)


def _marked(rgb: Any, where: Any) -> Any:
    """Return the picture at half its brightness, with the pixels of the mask in red."""
    marked = rgb // 2
    marked[where] = (230, 40, 40)
    return marked


def require_same(classes: LabelSet, truth: LabelSet | None, place: object) -> None:
    """Raise ReplayError if the ground truth at ``place`` is known to have other classes."""
    if truth is not None and truth.names != classes.names:
        raise ReplayError(
            f"the ground truth ({place}) has the classes {truth.name}, but the model has "
            f"{classes.name}: give a --model that was trained on them, or --truth with the model's "
            "classes"
        )
