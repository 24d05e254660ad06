"""Train a network: ``python -m sgnet_core.train --config config/train/rooms.yaml --output DIR``.

The same command resumes an interrupted run. Order of the data, augmentation and dropout depend only
on the seed and the iteration, so a resumed run computes the same as an uninterrupted one. Under
``torchrun``, several processes share each batch.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sgnet_core.training.divergence import Diverged

if TYPE_CHECKING:
    from sgnet_core.training.run import Run

INPUT_ERROR, WRITE_ERROR, DIVERGED = 2, 4, 3
"""Exit statuses. After signal N, the status is 128 + N."""


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    try:
        # These modules need packages of the extra "train".
        from sgnet_core.training.config import load_config
        from sgnet_core.training.config_help import keys_help
        from sgnet_core.training.distributed import join_world
        from sgnet_core.training.run import Run
    except ModuleNotFoundError as error:
        print(
            f"error: training needs {error.name}: pip install 'sgnet_ros[train]'", file=sys.stderr
        )
        return INPUT_ERROR
    parser = argparse.ArgumentParser(
        prog="python -m sgnet_core.train",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Train an SGNet. You can interrupt it at any time; the same command resumes "
        "it.\nOn several GPUs: torchrun --nproc-per-node N -m sgnet_core.train …",
        epilog="Any configuration key can be set with key=value, e.g. iterations=500 lr=1e-3 "
        f"model=sgnet_r50\naugment.flip=0.5. The keys, with their defaults:\n{keys_help()}\n\n"
        f"exit status: 0 done, {INPUT_ERROR} wrong input, {DIVERGED} the loss or gradient diverged,"
        f"\n{WRITE_ERROR} a file could not be written or read, 128 + N stopped by signal N",
    )
    parser.add_argument("--config", type=Path, help="YAML file, e.g. config/train/rooms.yaml")
    parser.add_argument("--output", type=Path, required=True, help="folder of the run")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, …")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_intermixed_args(argv)
    try:
        config = load_config(args.config, args.overrides)
        with join_world(args.device) as (world, device):
            return _train(Run.start(config, args.output, device, world))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return INPUT_ERROR
    except KeyboardInterrupt:  # before the first step, or a second signal
        print("\ninterrupted; the same command resumes from the last checkpoint", file=sys.stderr)
        return 128 + signal.SIGINT


def _train(run: Run) -> int:
    try:
        return run.train()
    except Diverged as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return DIVERGED
    except (ValueError, OSError) as error:
        print(
            f"\nerror: {error}\nThe files in {run.folder} are complete. Remove the cause; the "
            "same command then resumes from the last checkpoint.",
            file=sys.stderr,
        )
        return WRITE_ERROR


if __name__ == "__main__":
    sys.exit(main())
