"""ROS tests run with the shipped transport profile, on a DDS domain of their own."""

from __future__ import annotations

import os

from sgnet_ros.system.environment import prepare_environment

prepare_environment()
os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
