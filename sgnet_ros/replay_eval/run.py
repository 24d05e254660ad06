"""Evaluate one bag with a running node: play, listen, compare."""

from __future__ import annotations

import argparse
import json
import math
import time
from typing import Any

import rclpy
from rclpy.signals import SignalHandlerOptions

from sgnet_core.files import atomic_write
from sgnet_ros.messages.class_map import label_set_of
from sgnet_ros.node.diagnostics import NOT_CONFIGURED
from sgnet_ros.recordings.bag_source import BagSource
from sgnet_ros.recordings.bag_topics import label_topics
from sgnet_ros.recordings.bags import Bag
from sgnet_ros.recordings.errors import BagError
from sgnet_ros.replay_eval.judge import Judge, TruthFolder, require_same
from sgnet_ros.replay_eval.options import parse_rate
from sgnet_ros.replay_eval.play import Answers, Player, ReplayError
from sgnet_ros.system.processes import Child


def evaluate_bag(args: argparse.Namespace, node: Child) -> None:
    """Play a bag to the node and write OUT/result.json.

    Raises:
        BagError, ReplayError: it can't be done.
    """
    source = _source(args)
    truth = TruthFolder(args.truth) if args.truth else None
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        answers, message = _answers(args, source, truth, node)
    except ReplayError as error:
        raise ReplayError(f"{error}; the end of the node's log:\n{node.tail()}") from error
    finally:
        rclpy.try_shutdown()
    node.stop()  # what follows needs the processor, too
    classes = label_set_of(message)
    judge = Judge(answers, classes, truth)
    for frame in source:
        judge.judge(frame)
    result = {
        "bag": str(args.bag),
        "complete": source.complete,
        "rate": args.rate,
        "model": message.model,
        "classes": classes.to_dict(),
        "topics": source.topics._asdict() | ({"labels": str(args.truth)} if truth else {}),
        "size": list(source.geometry.size),
        "tally": judge.tally.to_json(),
        "worst": [vars(shown) for shown in sorted(judge.worst, reverse=True)],
    }
    with atomic_write(args.out / "result.json") as file:
        file.write(json.dumps(result).encode())


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


def _answers(
    args: argparse.Namespace, source: BagSource, truth: TruthFolder | None, node: Child
) -> tuple[Answers, Any]:
    told_at = 0.0

    def look_after() -> None:
        for line in node.new_warnings():
            print(line, flush=True)
            if NOT_CONFIGURED in line:
                raise ReplayError(f"the node is {line[line.index(NOT_CONFIGURED) :]}")
        if not node.running:
            raise ReplayError(f"the node ended (status {node.process.returncode})")

    def progress(done: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at > 0.5:
            told_at = time.monotonic()
            print(json.dumps({"done": done, "of": source.count}), flush=True)

    player = Player(source, look_after, progress)
    classes = label_set_of(player.wait_for_classes())
    if truth:
        require_same(classes, truth.classes, truth.folder)
    else:
        require_same(classes, source.classes, source.topics.labels)
    player.connect()
    factor = parse_rate(args.rate)
    if factor == math.inf:
        player.play_lossless()
    else:
        player.play_recorded(factor)
    return player.answers, player.class_map
