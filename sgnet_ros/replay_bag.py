"""One bag of a replay, in a process and a DDS domain of its own; replay_eval starts it.

The standard output gets a line of JSON now and then: {"done": frames, "of": frames}.
"""

from __future__ import annotations

import argparse
import heapq
import json
import logging
import math
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from rclpy.signals import SignalHandlerOptions

from sgnet_core.data.folder import read_classes
from sgnet_core.data.frames import DatasetError, IdTable, to_classes
from sgnet_core.eval_report import image_uri, mask_uri
from sgnet_core.files import atomic_write
from sgnet_core.images import ImageFileError, overlay, read_labels
from sgnet_core.labels import LabelSet
from sgnet_core.metrics import ConfusionMatrix
from sgnet_ros.bag_source import BagSource, label_set_of, label_topics
from sgnet_ros.bags import Bag, BagError
from sgnet_ros.environment import prepare_environment, share_file
from sgnet_ros.frames import Frame, stamp_of
from sgnet_ros.processes import Child
from sgnet_ros.replay_play import Answers, Player, ReplayError, parse_rate
from sgnet_ros.replay_scores import Mask, Stability, Tally, stability

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
        files = {stamp_of(path.stem): path for path in sorted(images.glob("*.png"))}
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
        """(H, W) class ids of the frame of that stamp in ns; None if there is no file.

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
    """Goes through the bag once more and compares the answers with each other and the truth.

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
            labelled=len(answers.latency_ms),
            dropped=answers.dropped,
            seconds=answers.seconds,
            latency_ms=list(answers.latency_ms.values()),
            inference_ms=[answers.stats[s].inference_ms for s in sorted(answers.stats)],
            overhead_ms=[answers.stats[s].overhead_ms for s in sorted(answers.stats)],
        )
        self.worst: list[Shown] = []
        self._answers, self._classes, self._truth = answers, classes, truth
        self._last: tuple[Frame, Mask | None] | None = None

    def judge(self, frame: Frame) -> None:
        """Takes the next frame of the bag.

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
        self, badness: float, note: str, frame: Frame, labels: Mask, truth: Mask | None
    ) -> None:
        """Keeps the frame's pictures if it is among the worst."""
        if len(self.worst) == KEPT_PICTURES and badness <= self.worst[0].badness:
            return
        assert frame.stamp_ns is not None
        pictures = {
            "colour": image_uri(frame.rgb),
            "labels": image_uri(overlay(frame.rgb, labels, self._classes, _OVERLAY_ALPHA)),
        }
        if truth is not None:
            pictures["truth"] = mask_uri(truth, self._classes)
            wrong = (truth != labels) & (truth != self._classes.ignore_id)
            pictures["errors"] = image_uri(_marked(frame.rgb, wrong))
        heapq.heappush(self.worst, Shown(badness, frame.stamp_ns, note, pictures))
        if len(self.worst) > KEPT_PICTURES:
            heapq.heappop(self.worst)


def _marked(rgb: Any, where: Any) -> Any:
    """The picture in half its brightness, red where the mask is set."""
    marked = rgb // 2
    marked[where] = (230, 40, 40)
    return marked


def replay(args: argparse.Namespace) -> dict[str, Any]:
    """Plays a bag through a node that this starts, and judges the answers.

    Raises:
        BagError, ReplayError: it can't be done.
    """
    source = _source(args)
    truth = TruthFolder(args.truth) if args.truth else None
    node = Child("sgnet_ros.node", _node_arguments(args), args.out)
    try:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        answers, message = _answers(args, source, node)
    except ReplayError as error:
        raise ReplayError(f"{error}; the end of the node's log:\n{node.tail()}") from error
    finally:
        rclpy.try_shutdown()
        node.stop()
    classes = label_set_of(message)
    _require_same(classes, truth.classes if truth else source.classes, source, truth)
    judge = Judge(answers, classes, truth)
    for frame in source:
        judge.judge(frame)
    return {
        "bag": str(args.bag),
        "complete": source.complete,
        "rate": args.rate,
        "model": message.model,
        "classes": classes.to_dict(),
        "topics": source.topics._asdict() | ({"labels": str(args.truth)} if truth else {}),
        "size": [source.geometry.rgb.width, source.geometry.rgb.height],
        "tally": judge.tally.to_json(),
        "worst": [vars(shown) for shown in sorted(judge.worst, reverse=True)],
    }


def _source(args: argparse.Namespace) -> BagSource:
    source = BagSource(args.bag, args.rgb_topic, args.depth_topic, args.labels_topic)
    if not args.truth and source.topics.labels is None:
        with Bag(args.bag) as bag:
            candidates = label_topics(bag)
        if candidates:
            raise BagError(
                f"{args.bag} has several label images: {', '.join(candidates)}; choose the truth "
                "with --labels-topic"
            )
    return source


def _answers(args: argparse.Namespace, source: BagSource, node: Child) -> tuple[Answers, Any]:
    told_at = 0.0

    def look_after() -> None:
        for line in node.new_warnings():
            print(line, flush=True)
        if not node.running:
            raise ReplayError(f"the node ended (status {node.process.returncode})")

    def progress(done: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at > 0.5:
            told_at = time.monotonic()
            print(json.dumps({"done": done, "of": source.count}), flush=True)

    player = Player(source, look_after, progress)
    player.connect()
    factor = parse_rate(args.rate)
    if factor == math.inf:
        player.play_lossless()
    else:
        player.play_recorded(factor)
    return player.answers, player.class_map


def _require_same(
    classes: LabelSet, truth: LabelSet | None, source: BagSource, folder: TruthFolder | None
) -> None:
    if truth is not None and truth.names != classes.names:
        place = folder.folder if folder else source.topics.labels
        raise ReplayError(
            f"the truth ({place}) is in {truth.name}, the model's classes are {classes.name}: give "
            "--model one that was trained on them, or --truth in the model's classes"
        )


def _node_arguments(args: argparse.Namespace) -> list[str]:
    parameters = args.params_file or share_file("config/sgnet.yaml")
    arguments = ["--ros-args", "--params-file", str(parameters)]
    for name in ("model", "device", "precision"):
        if value := getattr(args, name):
            arguments += ["-p", f"{name}:={value}"]
    return arguments


HANDED_ON = (
    *("rate", "truth", "rgb_topic", "depth_topic", "labels_topic"),
    *("model", "device", "precision", "params_file"),
)
"""Names of what `add_arguments` adds: replay_eval hands it on to this."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what a bag's evaluation takes."""
    parser.add_argument(
        "--rate",
        default="lossless",
        type=_rate,
        help="recorded, FACTORx such as 2x, or lossless (the default): the next frame when the "
        "node has answered, every frame once, the same figures every time",
    )
    parser.add_argument("--truth", type=Path, metavar="DIR", help="label images by stamp")
    parser.add_argument("--rgb-topic", help="colour images, if the bag holds several")
    parser.add_argument("--depth-topic", help="depth images, if the bag holds several")
    parser.add_argument("--labels-topic", help="ground truth, if the bag holds several")
    parser.add_argument("--model", help="of the node; default: as in the parameter file")
    parser.add_argument("--device", help="of the node: auto, cpu, cuda or cuda:N")
    parser.add_argument("--precision", help="of the node: auto, fp32 or fp16")
    parser.add_argument("--params-file", type=Path, metavar="YAML", help="the node's parameters")


def _rate(text: str) -> str:
    try:
        parse_rate(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """The process of one bag: writes OUT/result.json; 1 with the reason on the standard error."""
    logging.basicConfig(format="[%(levelname)s] %(message)s")
    parser = argparse.ArgumentParser("python -m sgnet_ros.replay_bag", description=__doc__)
    parser.add_argument("bag", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of result and logs")
    add_arguments(parser)
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    prepare_environment()
    try:
        result = replay(args)
    except (BagError, ReplayError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    with atomic_write(args.out / "result.json") as file:
        file.write(json.dumps(result).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
