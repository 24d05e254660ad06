"""Actions that the launch files share: commands of this package as processes, and RViz."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from launch.actions import DeclareLaunchArgument, ExecuteProcess, Shutdown
from launch.event import Event
from launch.events.process import ProcessExited
from launch.launch_context import LaunchContext
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from sgnet_ros.system.environment import prepare_environment, share_file

BOOLEANS = ("true", "false", "True", "False")
"""Values of a launch argument, as users and as other launch files write them."""

# Topics in config/sgnet.rviz.
_RVIZ_OUTPUTS = ("labels", "overlay", "color", "points", "camera_info")
_RVIZ_CAMERA = "/camera/camera/color/image_raw"


def value(context: LaunchContext, name: str) -> str:
    """Return the user's value of a launch argument, or its default."""
    return str(LaunchConfiguration(name).perform(context))


def is_true(context: LaunchContext, name: str) -> bool:
    """Return whether the value of a launch argument is true or True."""
    return value(context, name).lower() == "true"


def optional_arguments(descriptions: Mapping[str, str]) -> list[DeclareLaunchArgument]:
    """Declare arguments that may be left empty, with their descriptions."""
    return [
        DeclareLaunchArgument(name, default_value="", description=text)
        for name, text in descriptions.items()
    ]


def options(context: LaunchContext, names: Sequence[str]) -> list[str]:
    """Return the arguments that have a value as options of a command: ``--min-miou 0.5``."""
    given = {name: value(context, name) for name in names}
    pairs = [(f"--{name.replace('_', '-')}", text) for name, text in given.items() if text]
    return [word for pair in pairs for word in pair]


def command(module: str, arguments: Sequence[str]) -> ExecuteProcess:
    """Return ``python -m module`` as a process; when it ends, the launch ends with its status."""
    prepare_environment()

    def on_exit(event: Event, context: LaunchContext) -> LaunchDescriptionEntity | None:
        assert isinstance(event, ProcessExited)
        if event.returncode and not context.is_shutdown:
            # Only an exception makes `ros2 launch` exit with a status other than 0.
            raise RuntimeError(f"{module} ended with status {event.returncode}")
        return Shutdown(reason=f"{module} has ended")

    return ExecuteProcess(
        cmd=[sys.executable, "-m", module, *arguments],
        name=module.rpartition(".")[2],
        # The command would choose a domain of its own, where the other nodes cannot reach it.
        additional_env={"ROS_DOMAIN_ID": os.environ.get("ROS_DOMAIN_ID", "0")},
        output="screen",
        on_exit=on_exit,
    )


def rviz(
    node_name: str = "/sgnet", rgb_topic: str = _RVIZ_CAMERA, frame: str | None = None
) -> Node:
    """Return RViz with config/sgnet.rviz and its displays remapped to these topics.

    Args:
        node_name: name of the segmentation node, with its namespace.
        rgb_topic: topic of the color images.
        frame: fixed frame of RViz; None takes the one in the file.
    """
    topics = {f"/sgnet/{name}": f"{node_name}/{name}" for name in _RVIZ_OUTPUTS}
    topics[_RVIZ_CAMERA] = rgb_topic
    arguments = ["-d", str(share_file("config/sgnet.rviz"))]
    return Node(
        package="rviz2",
        executable="rviz2",
        name="rviz",
        arguments=[*arguments, *(["-f", frame] if frame else [])],
        remappings=[(shown, real) for shown, real in topics.items() if shown != real],
        output="log",
    )
