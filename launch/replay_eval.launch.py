"""Judge the node by recordings; the same as `python -m sgnet_ros.replay_eval`.

ros2 launch sgnet_ros replay_eval.launch.py bag:=drive.mcap html:=drive.html
"""

from __future__ import annotations

import shlex

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction

from sgnet_ros.system.launching import command, optional_arguments, options, value

OPTIONS = {
    "truth": "Folder of label images named after stamps; empty: a label topic of the bag",
    "rgb_topic": "Color images, if the bag holds several",
    "depth_topic": "Depth images, if the bag holds several",
    "labels_topic": "Ground truth, if the bag holds several label images",
    "model": "Model file; empty: as in params_file",
    "device": "auto, cpu, cuda or cuda:N; empty: as in params_file",
    "precision": "auto, fp32, fp16 or bf16; empty: as in params_file",
    "backend": "auto, torch or onnx; empty: as in params_file",
    "params_file": "YAML file with the node's parameters; empty: the package's own",
    "json": "File for all figures",
    "csv": "File for one row per bag",
    "html": "File for a page with the worst frames",
    "min_miou": "Fail below this mean IoU, 0 to 1",
    "max_p95_ms": "Fail above this 95th percentile of the latency",
}


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The evaluation; the launch ends with it, and fails with it."""
    arguments = options(context, ["rate", "jobs", *OPTIONS])
    return [command("sgnet_ros.replay_eval", [*shlex.split(value(context, "bag")), *arguments])]


def generate_launch_description() -> LaunchDescription:
    """Return the launch description."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "bag",
                description="One recording or several, with spaces between them: .bag, "
                ".mcap, .db3, or rosbag2 folders",
            ),
            DeclareLaunchArgument(
                "rate",
                default_value="lossless",
                description="recorded, FACTORx such as 2x, or lossless: as fast as the node is",
            ),
            DeclareLaunchArgument("jobs", default_value="1", description="Bags at a time"),
            *optional_arguments(OPTIONS),
            OpaqueFunction(function=start),
        ]
    )
