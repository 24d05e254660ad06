"""Entry point ``sgnet``: run the node."""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys

_ROS_ARGUMENTS = """
ROS arguments, after --ros-args:
  --params-file FILE     parameters of the node, for example config/sgnet.yaml
  -p NAME:=VALUE         one parameter, for example -p device:=cpu
  -r FROM:=TO            another name, for example -r rgb/image_raw:=/camera/color/image_raw

`ros2 launch sgnet_ros sgnet.launch.py camera:=realsense` starts the node with the topics of a
camera. config/sgnet.yaml explains every parameter.
"""


def main() -> int:
    """Run the node; Ctrl-C ends it without a traceback even while PyTorch is imported."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parser = argparse.ArgumentParser(
        "ros2 run sgnet_ros sgnet",
        "%(prog)s [-h] [--ros-args ...]",
        "Label every pixel of an RGB-D camera: rgb/image_raw and depth/image_raw in, "
        "/sgnet/labels out.",
        _ROS_ARGUMENTS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_known_args(list(itertools.takewhile("--ros-args".__ne__, sys.argv[1:])))
    # Spinning threads of PyTorch would take cores from other processes. OpenMP reads this variable
    # when PyTorch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from sgnet_ros.node.process import main as run_node

    return run_node()


if __name__ == "__main__":
    sys.exit(main())
