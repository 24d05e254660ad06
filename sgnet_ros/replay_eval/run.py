"""Evaluate one bag with a node of its own."""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from collections.abc import Sequence
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
from sgnet_ros.replay_eval.answers import Answers, ReplayError
from sgnet_ros.replay_eval.judge import Judge, TruthFolder, require_same
from sgnet_ros.replay_eval.options import parse_rate
from sgnet_ros.replay_eval.play import Player
from sgnet_ros.replay_eval.recorded import Recording
from sgnet_ros.system.environment import share_file
from sgnet_ros.system.processes import Child

logger = logging.getLogger(__name__)


def node_arguments(args: argparse.Namespace, recorded: Sequence[str] = ()) -> list[str]:
    """Return the node's command line, with the arguments that the recording needs."""
    parameters = args.params_file or share_file("config/sgnet.yaml")
    arguments = ["--ros-args", "--params-file", str(parameters), *recorded]
    for name in ("model", "device", "precision", "backend"):
        if value := getattr(args, name):
            arguments += ["-p", f"{name}:={value}"]
    return arguments


def evaluate_bag(args: argparse.Namespace) -> None:
    """Play a bag to a node and write OUT/result.json.

    Raises:
        BagError, ReplayError: the bag cannot be evaluated.
    """
    source = _source(args)
    truth = TruthFolder(args.truth) if args.truth else None
    recording = Recording(source)
    if recording.changed:
        logger.warning("not sent as recorded: %s", recording.changed)
    node = Child("sgnet_ros.node", node_arguments(args, recording.node_arguments), args.out)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        answers, message = _answers(args, recording, truth, node)
    except ReplayError as error:
        raise ReplayError(f"{error}; the end of the node's log:\n{node.tail()}") from error
    finally:
        rclpy.try_shutdown()
        node.stop()  # frees the CPU for the comparison
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
        "changed": recording.changed,
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
                f"{args.bag} has several label images: {', '.join(candidates)}; choose one with "
                "--labels-topic"
            )
    return source


def _answers(
    args: argparse.Namespace, recording: Recording, truth: TruthFolder | None, node: Child
) -> tuple[Answers, Any]:
    printed_at, source = 0.0, recording.source

    def check_node() -> None:
        for line in node.new_warnings():
            print(line, flush=True)
            if NOT_CONFIGURED in line:
                raise ReplayError(f"the node is {line[line.index(NOT_CONFIGURED) :]}")
        if not node.running:
            raise ReplayError(f"the node ended (status {node.process.returncode})")

    def progress(done: int) -> None:
        nonlocal printed_at
        if time.monotonic() - printed_at > 0.5:
            printed_at = time.monotonic()
            print(json.dumps({"done": done, "of": source.count}), flush=True)

    player = Player(recording, check_node, progress)
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
