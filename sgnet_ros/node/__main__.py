"""Entry point ``sgnet``: run the node."""

from __future__ import annotations

import os
import signal
import sys


def main() -> int:
    """Run the node; Ctrl-C ends it without a traceback even while PyTorch is imported."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Spinning threads of PyTorch would take cores from other processes. OpenMP reads this variable
    # when PyTorch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from sgnet_ros.node.process import main as run_node

    return run_node()


if __name__ == "__main__":
    sys.exit(main())
