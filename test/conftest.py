"""Give each test process the shipped transport profile and a DDS domain of its own."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

from domains import reserve_domain
from sgnet_ros.system.environment import prepare_environment

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs with the interrupt ignored, and the tests send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

prepare_environment()
# Nodes that happen to run on this machine, or tests in another process, must not take part.
os.environ["ROS_DOMAIN_ID"] = str(reserve_domain())
# Nodes run their small models in PyTorch, which needs no export of a minute.
os.environ["SGNET_ONNX_CACHE"] = "none"
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
# Hypothesis, too, takes as long as a busy machine needs.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
