"""Run the demo without a camera: a source (rooms, images or a bag), the node, and its results.

ros2 launch sgnet_ros demo.launch.py source:=drive.mcap rviz:=true
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction

from sgnet_ros.system.launching import (
    BOOLEANS,
    command,
    is_true,
    optional_arguments,
    options,
    rviz,
)

OPTIONS = {
    "rate": "Frames per second; empty: as many as the device can process",
    "seconds": "Duration in seconds; empty: 20 for rooms, the length of a recording but at most 60",
    "size": "WxH of the images; empty: chosen by the speed of the device",
    "model": "Model file; empty: the shipped weights",
    "rgb_topic": "Topic of the color images, if the bag has several",
    "depth_topic": "Topic of the depth images, if the bag has several",
}


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the actions that start the demo, and RViz on request."""
    arguments = options(context, ["source", "out", "device", *OPTIONS])
    entities: list[LaunchDescriptionEntity] = [command("sgnet_ros.demo", arguments)]
    if is_true(context, "rviz"):
        entities.append(rviz(rgb_topic="/rgb/image_raw"))
    return entities


def generate_launch_description() -> LaunchDescription:
    """Return the launch description."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "source",
                default_value="rooms",
                description="rooms (procedural, with labels), a folder of images, or a bag",
            ),
            DeclareLaunchArgument(
                "out",
                default_value="out/demo",
                description="Folder of the results: summary.json, pictures, logs, and a bag that "
                "Foxglove shows with config/foxglove.json",
            ),
            DeclareLaunchArgument(
                "device", default_value="auto", description="auto, cpu, cuda or cuda:N"
            ),
            *optional_arguments(OPTIONS),
            DeclareLaunchArgument(
                "rviz",
                default_value="false",
                choices=list(BOOLEANS),
                description="Show the demo in RViz",
            ),
            OpaqueFunction(function=start),
        ]
    )
