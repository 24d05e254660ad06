"""Show the whole path without a camera: rooms, images or a bag, the node, its results.

ros2 launch sgnet_ros demo.launch.py source:=drive.mcap rviz:=true
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction

from sgnet_ros.system.launching import command, optional_arguments, options, rviz, value

OPTIONS = {
    "rate": "Hz; empty: what the device can follow",
    "seconds": "How long; empty: rooms 20, recordings once, 60 at most",
    "size": "WxH; empty: what the device can follow",
    "model": "Model file; empty: the one that comes with the package",
    "rgb_topic": "Color images of a bag, if it holds several",
    "depth_topic": "Depth images of a bag, if it holds several",
}


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The demo, and RViz if it is wanted."""
    arguments = options(context, ["source", "out", "device", *OPTIONS])
    entities: list[LaunchDescriptionEntity] = [command("sgnet_ros.demo", arguments)]
    if value(context, "rviz") == "true":
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
                choices=["true", "false"],
                description="Show it in RViz",
            ),
            OpaqueFunction(function=start),
        ]
    )
