"""Starts the segmentation node beside an RGB-D camera and brings it to active.

ros2 launch sgnet_ros sgnet.launch.py rgb_topic:=/camera/rgb/image_raw depth_topic:=...
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

from sgnet_ros.environment import prepare_environment, share_file

# The topics that realsense-ros publishes with align_depth.enable:=true
REMAPPINGS = {
    "rgb_topic": ("rgb/image_raw", "/camera/camera/color/image_raw", "Colour images"),
    "depth_topic": (
        "depth/image_raw",
        "/camera/camera/aligned_depth_to_color/image_raw",
        "Depth images, registered to the colour images",
    ),
    "camera_info_topic": (
        "rgb/camera_info",
        "/camera/camera/color/camera_info",
        "Calibration of the colour camera",
    ),
}
PARAMETERS = {
    "model": (str, "Model file (.safetensors)"),
    "device": (str, "auto, cpu, cuda or cuda:N"),
    "precision": (str, "auto, fp32 or fp16"),
    "overlay_alpha": (float, "Opacity of the labels on ~/overlay, 0 to 1"),
}


def declare_arguments() -> list[DeclareLaunchArgument]:
    """The launch arguments; an empty one leaves a parameter as the parameter file has it."""
    arguments = [
        DeclareLaunchArgument(name, default_value=topic, description=f"{text}: {relative}")
        for name, (relative, topic, text) in REMAPPINGS.items()
    ]
    arguments += [
        DeclareLaunchArgument(
            name, default_value="", description=f"{text}; empty: as in params_file"
        )
        for name, (_, text) in PARAMETERS.items()
    ]
    arguments += [
        DeclareLaunchArgument(
            "params_file",
            default_value=str(share_file("config/sgnet.yaml")),
            description="YAML file with the node's parameters",
        ),
        DeclareLaunchArgument(
            "namespace", default_value="", description="Namespace of the node and its outputs"
        ),
        DeclareLaunchArgument(
            "autostart",
            default_value="true",
            choices=["true", "false"],
            description="Configure and activate the node; false leaves it to a lifecycle manager",
        ),
    ]
    return arguments


def start_node(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node with the given arguments, and the events that bring it to active."""
    # for this node and for every driver that is launched after it
    prepare_environment()
    given = {name: LaunchConfiguration(name).perform(context) for name in PARAMETERS}
    overrides = {name: PARAMETERS[name][0](value) for name, value in given.items() if value}
    node = LifecycleNode(
        package="sgnet_ros",
        executable="sgnet",
        name="sgnet",
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("params_file"), overrides, {"autostart": False}],
        remappings=[
            (relative, LaunchConfiguration(name)) for name, (relative, _, _) in REMAPPINGS.items()
        ],
        output="screen",
    )
    autostart = IfCondition(LaunchConfiguration("autostart"))

    def change_state(transition: int) -> EmitEvent:
        event = ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition)
        return EmitEvent(event=event, condition=autostart)

    configure = OnProcessStart(
        target_action=node, on_start=[change_state(Transition.TRANSITION_CONFIGURE)]
    )
    activate = OnStateTransition(
        target_lifecycle_node=node,
        start_state="configuring",
        goal_state="inactive",
        entities=[change_state(Transition.TRANSITION_ACTIVATE)],
    )
    # the handlers first: an event finds those that are registered
    return [RegisterEventHandler(configure), RegisterEventHandler(activate), node]


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    return LaunchDescription([*declare_arguments(), OpaqueFunction(function=start_node)])
