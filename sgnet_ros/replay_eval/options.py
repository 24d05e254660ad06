"""Arguments of replay_eval that are forwarded to the process of each bag."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

FORWARDED = (
    *("rate", "truth", "rgb_topic", "depth_topic", "labels_topic"),
    *("model", "device", "precision", "backend", "params_file"),
)
"""Names of the arguments that `add_arguments` adds."""

PATHS = ("truth", "model", "params_file")
"""Those arguments that may be paths."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for the evaluation of a bag."""
    parser.add_argument(
        "--rate",
        default="lossless",
        type=_rate,
        help="recorded, FACTORx such as 2x, or lossless (the default): send each frame when the "
        "node has answered the one before, which gives the same figures every time",
    )
    parser.add_argument("--truth", type=Path, metavar="DIR", help="label images named after stamps")
    parser.add_argument("--rgb-topic", help="topic of the color images, if the bag has several")
    parser.add_argument("--depth-topic", help="topic of the depth images, if the bag has several")
    parser.add_argument("--labels-topic", help="topic of the ground truth, if the bag has several")
    parser.add_argument("--model", help="model file; default: as in the parameter file")
    parser.add_argument("--device", help="of the node: auto, cpu, cuda or cuda:N")
    parser.add_argument("--precision", help="of the node: auto, fp32, fp16 or bf16")
    parser.add_argument("--backend", help="of the node: auto, torch or onnx")
    parser.add_argument("--params-file", type=Path, metavar="YAML", help="of the node's parameters")


def _rate(text: str) -> str:
    try:
        parse_rate(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def parse_rate(text: str) -> float:
    """Parse a rate: ``recorded`` is 1, ``0.5x`` is 0.5, ``lossless`` is infinity.

    Raises:
        ValueError: the text is none of these.
    """
    if text == "recorded":
        return 1.0
    if text == "lossless":
        return math.inf
    factor = float(text.removesuffix("x"))
    if not (text.endswith("x") and 0 < factor < math.inf):
        raise ValueError(f"a rate is recorded, FACTORx or lossless, got {text}")
    return factor
