"""Types of command-line arguments, and arguments that several commands have."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def positive(text: str) -> float:
    """Parse a positive, finite number."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text}")
    return value


def not_negative(text: str) -> float:
    """Parse a finite number that is not negative."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of at least 0, got {text}")
    return value


def count(text: str) -> int:
    """Parse an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text}")
    return int(text)


def whole(text: str) -> int:
    """Parse an integer of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, got {text}")
    return int(text)


def share(text: str) -> float:
    """Parse a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1, got {text}")
    return value


def image_size(text: str) -> tuple[int, int]:
    """Parse WxH, for example 640x480; return (H, W)."""
    try:
        width, height = (int(number) for number in text.lower().split("x"))
        if width < 1 or height < 1:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be WxH, as in 640x480, got {text}") from None
    return height, width


def frame_size(text: str) -> tuple[int, int]:
    """Parse WxH, for example 640x480; return (W, H)."""
    height, width = image_size(text)
    return width, height


def add_scales(parser: argparse.ArgumentParser) -> None:
    """Add ``--scales S ...``, a list of floats, the factors of the input size."""
    parser.add_argument(
        "--scales",
        type=positive,
        nargs="+",
        default=[1.0],
        metavar="S",
        help="factors of the input size whose scores are averaged (default: 1)",
    )


def add_device(parser: argparse.ArgumentParser, precisions: Sequence[str]) -> None:
    """Add ``--device`` and ``--precision``, strings that are "auto" by default.

    Args:
        parser: parser of the command.
        precisions: choices, of `sgnet_core.models.precision`, which needs PyTorch.
    """
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: auto)")
    parser.add_argument(
        "--precision",
        default="auto",
        choices=precisions,
        help="default: auto (fp16 on a GPU, else fp32)",
    )
