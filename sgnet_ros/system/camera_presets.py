"""Topics and conventions of camera drivers and simulators, from public documentation and use.

Launch files import this module, so it needs nothing but the standard library.
"""

from __future__ import annotations

from typing import NamedTuple


class CameraPreset(NamedTuple):
    """Driver whose depth is registered to color.

    Attributes:
        rgb, depth, camera_info, depth_info: topics with the driver's default names.
        frame: frame of the color images, for RViz; None if the user chooses it.
        driver: package that publishes them, and what to set there.
        encoding: encoding and unit of depth.
        source: page on which the topics and the depth are documented.
    """

    rgb: str
    depth: str
    camera_info: str
    depth_info: str
    frame: str | None
    driver: str
    encoding: str
    source: str


CAMERAS = {
    "realsense": CameraPreset(
        "/camera/camera/color/image_raw",
        "/camera/camera/aligned_depth_to_color/image_raw",
        "/camera/camera/color/camera_info",
        "/camera/camera/aligned_depth_to_color/camera_info",
        "camera_color_optical_frame",
        "realsense2_camera, `rs_launch.py align_depth.enable:=true`",
        "16UC1, millimeters",
        "https://github.com/IntelRealSense/realsense-ros",
    ),
    "orbbec": CameraPreset(
        "/camera/color/image_raw",
        "/camera/depth/image_raw",
        "/camera/color/camera_info",
        "/camera/depth/camera_info",
        "camera_color_optical_frame",
        "orbbec_camera, the camera's launch file with `depth_registration:=true`",
        "16UC1, millimeters",
        "https://orbbec.github.io/OrbbecSDK_ROS2/en/source/4_application_guide/topics.html",
    ),
    "azure_kinect": CameraPreset(
        "/rgb/image_raw",
        "/depth_to_rgb/image_raw",
        "/rgb/camera_info",
        "/depth_to_rgb/camera_info",
        "rgb_camera_link",
        "azure_kinect_ros_driver, `driver.launch.py`",
        "16UC1, millimeters, or 32FC1, meters, by its `depth_unit`",
        "https://github.com/microsoft/Azure_Kinect_ROS_Driver/blob/melodic/docs/usage.md",
    ),
    # Stereo aligned to color.
    "oak": CameraPreset(
        "/oak/rgb/image_raw",
        "/oak/stereo/image_raw",
        "/oak/rgb/camera_info",
        "/oak/stereo/camera_info",
        "oak_rgb_camera_optical_frame",
        "depthai_ros_driver, `rgbd_pcl.launch.py` or `camera.launch.py`",
        "16UC1, millimeters",
        "https://docs.luxonis.com/software/ros/depthai-ros/driver/",
    ),
    # Names of version 5.1 and later; before, color was rgb/image_rect_color and its calibration
    # rgb/camera_info. Color is the rectified left image, to which the SDK registers depth.
    "zed": CameraPreset(
        "/zed/zed_node/rgb/color/rect/image",
        "/zed/zed_node/depth/depth_registered",
        "/zed/zed_node/rgb/color/rect/camera_info",
        "/zed/zed_node/depth/camera_info",
        "zed_left_camera_frame_optical",
        "zed_wrapper 5.1 or later, `zed_camera.launch.py camera_name:=zed`",
        "32FC1, meters; 16UC1, millimeters, with `depth.openni_depth_mode`",
        "https://www.stereolabs.com/docs/ros2/zed-node",
    ),
    # One sensor gives color and depth, with one calibration. Their frame is the sensor's
    # optical_frame_id, or else its link, whose x axis points forward.
    "gazebo": CameraPreset(
        "/rgbd_camera/image",
        "/rgbd_camera/depth_image",
        "/rgbd_camera/camera_info",
        "/rgbd_camera/camera_info",
        None,
        "ros_gz_bridge; a sensor of type `rgbd_camera` with the topic `rgbd_camera` and "
        "`<optical_frame_id>`; here `use_sim_time:=true`",
        "32FC1, meters, ±Inf beyond the clip distances",
        "https://github.com/gazebosim/ros_gz/tree/ros2/ros_gz_sim_demos",
    ),
    # Defaults of the OmniGraph nodes ROS2CameraHelper (types rgb and depth) and
    # ROS2CameraInfoHelper on one render product; depth is the distance to the image plane.
    "isaac_sim": CameraPreset(
        "/rgb",
        "/depth",
        "/camera_info",
        "/camera_info",
        "sim_camera",
        "the simulator's ROS 2 bridge, camera helpers with types `rgb` and `depth`; here "
        "`use_sim_time:=true`",
        "32FC1, meters",
        "https://docs.isaacsim.omniverse.nvidia.com/latest/ros2_tutorials/tutorial_ros2_camera.html",
    ),
    # The node's own names, in its namespace.
    "custom": CameraPreset(
        "rgb/image_raw",
        "depth/image_raw",
        "rgb/camera_info",
        "depth/camera_info",
        None,
        "any; the arguments `rgb_topic`, `depth_topic`, … name its topics",
        "as [sensor_msgs/Image](#sensor_msgsimage)",
        "",
    ),
}
