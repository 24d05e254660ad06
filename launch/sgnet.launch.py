"""Start the segmentation node for an RGB-D camera and activate it.

ros2 launch sgnet_ros sgnet.launch.py camera:=oak rviz:=true
"""

from __future__ import annotations

from typing import Any

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

from sgnet_ros.node.parameters import DEFAULTS, PARAMETERS, parse
from sgnet_ros.system.camera_presets import CAMERAS, CameraPreset
from sgnet_ros.system.environment import DDS_PROFILE, prepare_environment, share_file
from sgnet_ros.system.launching import BOOLEANS, is_true, optional_arguments, rviz, value
from sgnet_ros.system.names import camera_names

TOPICS = {
    "rgb_topic": "Color images (sensor_msgs/Image)",
    "depth_topic": "Depth images, registered to the color images or not (sensor_msgs/Image)",
    "camera_info_topic": "Calibration of the color camera (sensor_msgs/CameraInfo)",
    "depth_info_topic": "Calibration of the depth camera, for depth that is not registered",
    "imu_topic": "Orientation (sensor_msgs/Imu), for use_imu:=true",
}

PARAMETER_ARGUMENTS = [name for name in PARAMETERS if name not in ("cameras", "autostart")]
"""Launch arguments that only set a parameter of the node."""


def choices(name: str) -> list[str] | None:
    """Return the allowed values of an argument; None if others are possible."""
    if isinstance(DEFAULTS[name], bool):
        return ["", *BOOLEANS]
    return ["", *PARAMETERS[name].choices] if PARAMETERS[name].choices else None


def declare_arguments() -> list[DeclareLaunchArgument]:
    """Declare the launch arguments; an empty value leaves a parameter as in the parameter file."""
    arguments = [
        DeclareLaunchArgument(
            "camera",
            default_value="realsense",
            choices=list(CAMERAS),
            description="Preset of the topics of a driver; custom: rgb/image_raw, depth/image_raw, "
            "rgb/camera_info in the node's namespace",
        )
    ]
    arguments += optional_arguments(
        {name: f"{text}; empty: from the preset of the camera" for name, text in TOPICS.items()}
    )
    for name in PARAMETER_ARGUMENTS:
        parameter = PARAMETERS[name]
        values = f" Values: {parameter.values}." if parameter.values else ""
        arguments.append(
            DeclareLaunchArgument(
                name,
                default_value="",
                choices=choices(name),
                description=f"{parameter.description}{values} Default: as in params_file, "
                f"{DEFAULTS[name] if DEFAULTS[name] != '' else 'empty'} in the package's own.",
            )
        )
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
            "cameras",
            default_value="",
            description="Namespaces of several cameras, such as '[front, rear]': one process with "
            "a node in each namespace and one model for all. The topics are then those of "
            "custom in each namespace (/front/rgb/image_raw); topics given as arguments must "
            "be relative",
        ),
        DeclareLaunchArgument(
            "autostart",
            default_value=str(DEFAULTS["autostart"]).lower(),
            choices=list(BOOLEANS),
            description=PARAMETERS["autostart"].description,
        ),
        DeclareLaunchArgument(
            "use_sim_time",
            default_value="",
            choices=["", *BOOLEANS],
            description="Take the time from /clock, which simulators and `ros2 bag play --clock` "
            "publish. Default: as in params_file, false in the package's own.",
        ),
        DeclareLaunchArgument(
            "dds_profile",
            default_value="node",
            choices=["node", "launch", "none"],
            description="Processes that use this package's Fast DDS profile, without which Fast "
            "DDS loses best-effort images: node (only the node), launch (also processes that "
            "start later, such as a camera driver in the same launch file), or none",
        ),
        DeclareLaunchArgument(
            "rviz",
            default_value="false",
            choices=list(BOOLEANS),
            description="Show camera, overlay, labels and the semantic cloud in RViz. The node "
            "computes overlay, colors and points only while they have a subscriber such as "
            "RViz",
        ),
    ]
    return arguments


def remappings(context: LaunchContext, camera: CameraPreset) -> list[tuple[str, str]]:
    """Return remappings from the node's topics to the given ones, or else to the camera's."""
    topics = {**dict(zip(TOPICS, camera[:4], strict=False)), "imu_topic": "imu"}
    rgb, depth, info, depth_info, imu = (value(context, n) or topic for n, topic in topics.items())
    return [
        ("rgb/image_raw", rgb),
        ("rgb/image_raw/compressed", f"{rgb}/compressed"),
        ("depth/image_raw", depth),
        ("depth/image_raw/compressedDepth", f"{depth}/compressedDepth"),
        ("rgb/camera_info", info),
        ("depth/camera_info", depth_info),
        ("imu", imu),
    ]


def overrides(context: LaunchContext) -> dict[str, Any]:
    """Return the node's parameters given as launch arguments.

    Raises:
        ValueError: a value cannot be used; the message names its argument.
    """
    given = {name: value(context, name) for name in PARAMETER_ARGUMENTS}
    values = {name: parse(name, text) for name, text in given.items() if text}
    if value(context, "use_sim_time"):
        values["use_sim_time"] = is_true(context, "use_sim_time")
    return values


def environment(context: LaunchContext) -> dict[str, str]:
    """Return additional environment variables of the node's process."""
    return {DDS_PROFILE: "none"} if value(context, "dds_profile") == "none" else {}


def start_node(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the node with the given arguments, and the event handlers that activate it."""
    prepare_environment(dds_profile=value(context, "dds_profile") == "launch")
    if value(context, "cameras"):
        return start_cameras(context)
    camera = CAMERAS[value(context, "camera")]
    names, namespace = remappings(context, camera), value(context, "namespace").strip("/")
    node = LifecycleNode(
        package="sgnet_ros",
        executable="sgnet",
        name="sgnet",
        namespace=namespace,
        parameters=[value(context, "params_file"), overrides(context), {"autostart": False}],
        remappings=names,
        additional_env=environment(context),
        output="screen",
    )
    entities: list[LaunchDescriptionEntity] = []
    if is_true(context, "autostart"):
        entities += bring_up(node)
    entities.append(node)
    if is_true(context, "rviz"):
        prefix, rgb = absolute_namespace(context), dict(names)["rgb/image_raw"]
        topic = rgb if rgb.startswith("/") else f"{prefix}/{rgb}"
        entities.append(rviz(f"{prefix}/sgnet", topic, camera.frame))
    return entities


def absolute_namespace(context: LaunchContext) -> str:
    """Return the node's namespace including those of PushRosNamespace; empty for the root."""
    pushed = context.launch_configurations.get("ros_namespace", "").strip("/")
    names = [name for name in (pushed, value(context, "namespace").strip("/")) if name]
    return "".join(f"/{name}" for name in names)


def start_cameras(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return one process with a node for each camera, which activates its nodes itself.

    Raises:
        ValueError: a topic is absolute, so that all cameras would share it.
    """
    names = remappings(context, CAMERAS["custom"])
    for name in TOPICS:
        if value(context, name).startswith("/"):
            raise ValueError(
                f"{name} must be relative: with cameras, it is resolved in the namespace of each "
                "camera"
            )
    cameras = camera_names(value(context, "cameras"))
    node = Node(
        package="sgnet_ros",
        executable="sgnet",
        namespace=value(context, "namespace").strip("/"),
        parameters=[
            value(context, "params_file"),
            overrides(context),
            {"cameras": " ".join(cameras), "autostart": is_true(context, "autostart")},
        ],
        remappings=names,
        additional_env=environment(context),
        output="screen",
    )
    entities: list[LaunchDescriptionEntity] = [node]
    if is_true(context, "rviz"):
        prefix = f"{absolute_namespace(context)}/{cameras[0]}"
        entities.append(rviz(f"{prefix}/sgnet", f"{prefix}/{dict(names)['rgb/image_raw']}"))
    return entities


def bring_up(node: LifecycleNode) -> list[LaunchDescriptionEntity]:
    """Configure the node when it has started, then activate it."""

    def change_state(transition: int) -> EmitEvent:
        return EmitEvent(
            event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition)
        )

    configure = OnProcessStart(
        target_action=node, on_start=[change_state(Transition.TRANSITION_CONFIGURE)]
    )
    activate = OnStateTransition(
        target_lifecycle_node=node,
        start_state="configuring",
        goal_state="inactive",
        entities=[change_state(Transition.TRANSITION_ACTIVATE)],
    )
    # registered before the node starts, so that no event is missed
    return [RegisterEventHandler(configure), RegisterEventHandler(activate)]


def generate_launch_description() -> LaunchDescription:
    """Return the launch description."""
    return LaunchDescription([*declare_arguments(), OpaqueFunction(function=start_node)])
