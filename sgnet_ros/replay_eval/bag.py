"""Evaluation of one bag in a process and DDS domain of its own, which replay_eval starts.

Every half second, the process prints its progress as JSON: {"done": frames, "of": frames}.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from sgnet_ros.recordings.errors import BagError
from sgnet_ros.replay_eval.answers import ReplayError
from sgnet_ros.replay_eval.options import add_arguments
from sgnet_ros.replay_eval.run import evaluate_bag
from sgnet_ros.system.environment import prepare_environment


def main(argv: Sequence[str] | None = None) -> int:
    """Run the process; return 0, or 1 with the reason on the standard error."""
    logging.basicConfig(format="[%(levelname)s] %(message)s")
    parser = argparse.ArgumentParser("python -m sgnet_ros.replay_eval.bag", description=__doc__)
    parser.add_argument("bag", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of result and logs")
    add_arguments(parser)
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    prepare_environment()
    try:
        evaluate_bag(args)
    except (BagError, ReplayError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
