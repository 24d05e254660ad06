"""Entry point ``sgnet``: the node, interruptible from the first moment on."""

from __future__ import annotations

import os
import signal
import sys


def main() -> int:
    """Run the node; an interrupt while PyTorch is imported, which takes seconds, just ends it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # PyTorch's threads would take the cores that others need while they wait for each other. Read
    # when its library is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from sgnet_ros.node.process import main as run_node

    return run_node()


if __name__ == "__main__":
    sys.exit(main())
