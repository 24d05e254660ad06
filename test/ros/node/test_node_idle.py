"""The node without subscribers."""

from __future__ import annotations

from typing import Any

from rclpy.parameter import Parameter
from sensor_msgs.msg import Image


def test_frames_are_not_segmented_while_nobody_subscribes(
    run_node: Any, robot: Any, scene: Any
) -> None:
    running = run_node("depth")
    robot.connect(scene.messages())
    counts = running.node._active.processor.counters.counts
    outputs = running.node._outputs
    robot.stop_listening("/sgnet/labels", "/sgnet/stats")
    robot.spin_until(lambda: not outputs.has_subscribers)
    robot.send_until(lambda: counts().drops.get("idle", 0) > 3, scene.messages())
    segmented, idle = counts().segmented, counts().drops["idle"]
    for _ in range(3):
        robot.send(*scene.messages())
        robot.spin_for(0.1)
    robot.spin_until(lambda: counts().drops["idle"] >= idle + 3)
    assert counts().segmented == segmented
    labels = robot.listen(Image, "/sgnet/labels")
    robot.spin_until(lambda: outputs.has_subscribers)
    stamp = robot.send(*scene.messages()).header.stamp  # the first frame with a subscriber
    robot.spin_until(lambda: stamp in [message.header.stamp for message in labels])
    robot.stop_listening("/sgnet/labels")
    robot.spin_until(lambda: not outputs.has_subscribers)
    assert running.node.set_parameters([Parameter("always_run", value=True)])[0].successful
    robot.spin_for(0.2)
    segmented, idle = counts().segmented, counts().drops["idle"]
    robot.send_until(lambda: counts().segmented >= segmented + 8, scene.messages())
    assert counts().drops["idle"] == idle
    running.stop()
