"""Average the weights of model files of one architecture: ``python tools/average_weights.py``.

The average of models, each trained from the one before, is often better than each of them (Wortsman
et al., "Model soups", ICML 2022). The shipped weights are such an average.

    python tools/average_weights.py runs/third/last.safetensors runs/fourth/last.safetensors \\
        --out runs/average.safetensors

With one file, ``--half`` makes a smaller copy, which stores the kernels in float16.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from sgnet_core.models.model_file import load_model, save_model
from sgnet_core.models.sgnet import SGNet


def average(models: Sequence[SGNet]) -> SGNet:
    """Return the last model with the mean of all weights, including batch-norm statistics.

    Raises:
        ValueError: the models differ in architecture or classes.
    """
    last = models[-1]
    for model in models:
        if model.config != last.config or model.info.labels != last.info.labels:
            raise ValueError("the models differ in architecture or classes")
    states = [model.state_dict() for model in models]
    mean = {
        name: torch.stack([state[name] for state in states]).mean(0)
        for name, value in states[-1].items()
        if value.is_floating_point()
    }
    last.load_state_dict({**states[-1], **mean})
    return last


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python tools/average_weights.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("models", type=Path, nargs="+", metavar="F.safetensors")
    add("--out", type=Path, required=True, metavar="F.safetensors", help="file to write")
    add("--half", action="store_true", help="store kernels in float16")
    add(
        "--input-height",
        type=int,
        metavar="N",
        help="rows to which frames are resized (default: the last file's)",
    )
    args = parser.parse_args(argv)
    try:
        model = average([load_model(path) for path in args.models])
        if args.input_height is not None:
            model.info = replace(model.info, input_height=args.input_height or None)
        save_model(model, args.out, half=args.half)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
