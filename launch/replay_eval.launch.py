"""Evaluate the node on recordings, in the same way as `python -m sgnet_ros.replay_eval`.

ros2 launch sgnet_ros replay_eval.launch.py bag:=drive.mcap html:=drive.html
"""

from __future__ import annotations

import shlex

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction

from sgnet_ros.system.launching import command, optional_arguments, options, value

OPTIONS = {
    "truth": "Folder of label images named after stamps; empty: a label topic of the bag",
    "rgb_topic": "Topic of the color images, if the bag has several",
    "depth_topic": "Topic of the depth images, if the bag has several",
    "labels_topic": "Topic of the ground truth, if the bag has several label topics",
    "model": "Model file; empty: as in params_file",
    "device": "auto, cpu, cuda or cuda:N; empty: as in params_file",
    "precision": "auto, fp32, fp16 or bf16; empty: as in params_file",
    "backend": "auto, torch or onnx; empty: as in params_file",
    "params_file": "YAML file with the node's parameters; empty: the package's own",
    "json": "JSON file for all figures",
    "csv": "CSV file with one row per bag",
    "html": "HTML file for a report with the worst frames",
    "min_miou": "Fail below this mean IoU, 0 to 1",
    "max_p95_ms": "Fail above this 95th percentile of the latency",
}


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the action that runs the evaluation; the launch ends with it and fails with it."""
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
                description="recorded, a factor such as 2x, or lossless: as fast as the node "
                "processes frames",
            ),
            DeclareLaunchArgument(
                "jobs", default_value="1", description="Number of bags evaluated in parallel"
            ),
            *optional_arguments(OPTIONS),
            OpaqueFunction(function=start),
        ]
    )
