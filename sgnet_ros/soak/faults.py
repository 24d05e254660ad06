"""Faults of a soak run.

Each function injects its fault once and restores the previous state. Afterwards, the node has to
segment frames correctly again.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lifecycle_msgs.msg import Transition
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, Image

from sgnet_ros.messages.headers import COLOR_FRAME
from sgnet_ros.soak import hostile
from sgnet_ros.soak.tester import PERIOD_NS, CameraNode, Tester, stamp

_OUTPUTS = ("confidence", "overlay", "color")


@dataclass
class FaultContext:
    """Context of a fault.

    Attributes:
        tester: sends frames and receives the answers.
        rng: source of randomness.
        model: path of the node's model file, in a temporary folder.
    """

    tester: Tester
    rng: random.Random
    model: Path


def camera_restart(run: FaultContext) -> None:
    """Restart the driver."""
    run.tester.camera.destroy_node()
    run.tester.wait(run.rng.choice((0.0, 0.05)))
    run.tester.camera = CameraNode()
    run.tester.wait_for_subscriptions()


def clock_forward(run: FaultContext) -> None:
    """Set the clock up to an hour forward."""
    run.tester.jump(run.rng.randint(1, 3600) * 10**9)


def clock_backward(run: FaultContext) -> None:
    """Set the clock up to an hour back."""
    run.tester.jump(-run.rng.randint(1, 3600) * 10**9)


def clock_stutter(run: FaultContext) -> None:
    """Set the clock back by about a frame."""
    run.tester.jump(-run.rng.randint(1, 3 * PERIOD_NS))


def stamps_of_zero(run: FaultContext) -> None:
    """Send images with a stamp of zero."""
    tester = run.tester
    tester.jump(0)
    for _ in range(3):
        rgb, depth, number = tester.next_scene()
        stamp(rgb, 0)
        stamp(depth, 0)
        tester.publish_rgb(rgb, number)
        tester.publish_depth(depth)
    tester.wait(0.05)
    tester.jump(0)


def duplicates(run: FaultContext) -> None:
    """Send each image twice."""
    rgb, depth, number = run.tester.next_scene()
    for _ in range(2):
        run.tester.publish_rgb(rgb, number)
        run.tester.publish_depth(depth)
    run.tester.wait(0.05)


def stalled_stream(run: FaultContext) -> None:
    """Pause one of the two streams."""
    rgb_only = run.rng.random() < 0.5
    for _ in range(run.rng.randint(1, 8)):
        rgb, depth, number = run.tester.next_scene()
        if rgb_only:
            run.tester.publish_rgb(rgb, number)
        else:
            run.tester.publish_depth(depth)
        run.tester.wait(0.005)


def skewed_stamps(run: FaultContext) -> None:
    """Stamp color and depth apart, within the slop."""
    for _ in range(5):
        run.tester.send(skew_ns=run.rng.randint(-9, 9) * 10**6)
        run.tester.wait(0.02)


def burst(run: FaultContext) -> None:
    """Send more frames at once than the node can segment."""
    for _ in range(8):
        run.tester.send()
    run.tester.wait(0.05)


def malformed_images(run: FaultContext) -> None:
    """Send images whose fields contradict each other."""
    tester = run.tester
    for _ in range(3):
        good_rgb, good_depth, _ = tester.next_scene()
        rgb, depth = hostile.image(run.rng), hostile.image(run.rng, hostile.DEPTHS)
        which = run.rng.randrange(3)
        for message in (rgb, depth):
            message.header.frame_id = run.rng.choice((COLOR_FRAME, "", "x" * 1000))
            stamp(message, tester.now_ns)
        if which == 0:
            tester.publish_rgb(rgb)
            tester.publish_depth(good_depth)
        elif which == 1:
            tester.publish_rgb(good_rgb)
            tester.publish_depth(depth)
        else:
            tester.publish_rgb(rgb)
            tester.publish_depth(depth)
        tester.wait(0.02)


def malformed_camera_info(run: FaultContext) -> None:
    """Send invalid calibrations."""
    for _ in range(3):
        run.tester.camera.info.publish(hostile.camera_info(run.rng))
    rgb, depth, _ = run.tester.next_scene()
    run.tester.publish_rgb(rgb)
    run.tester.publish_depth(depth)
    run.tester.wait(0.03)


def malformed_bytes(run: FaultContext) -> None:
    """Send bytes that are not a serialized message."""
    camera = run.tester.camera
    publisher, message = run.rng.choice(
        [
            (camera.rgb, Image(width=4, height=4, step=12, encoding="rgb8", data=bytes(48))),
            (camera.depth, Image(width=4, height=4, step=8, encoding="16UC1", data=bytes(32))),
            (camera.info, CameraInfo(width=4, height=4)),
        ]
    )
    publisher.publish(hostile.serialized(run.rng, serialize_message(message)))
    run.tester.wait(0.03)
    run.tester.jump(-(10**9))  # bytes that happen to be a message may have any stamp


def parameters(run: FaultContext) -> None:
    """Set parameters to usable and to unusable values."""
    tester = run.tester
    for name, value in (
        ("slop", -1.0),
        ("device", "gpu"),
        ("precision", "int3"),
        ("model", "a.pt"),
    ):
        _require(not tester.set_parameter(name, value), f"{name}: {value} was not refused")
    for name, value in (
        ("overlay_alpha", run.rng.random()),
        ("slop", run.rng.uniform(0, 0.03)),
        ("slop", 0.02),
    ):
        _require(tester.set_parameter(name, value), f"{name}: {value} was refused")
        tester.frame()


def reload(run: FaultContext) -> None:
    """Load the model again; with a broken or missing file, the old model must keep running."""
    broken = run.model.with_name("broken.safetensors")
    for remains in (1000, None):
        broken.write_bytes(run.model.read_bytes())
        _require(run.tester.set_parameter("model", str(broken)), "a model file was refused")
        if remains is None:
            broken.unlink()
        else:
            broken.write_bytes(run.model.read_bytes()[:remains])
        _require(not run.tester.reload(), f"{broken} was loaded, although it is broken or missing")
        run.tester.frame()
    _require(run.tester.set_parameter("model", str(run.model)), "the model's path was refused")
    _require(run.tester.reload(), "a reload of the model failed")


def disabled(run: FaultContext) -> None:
    """Disable segmentation for a few frames."""
    run.tester.enable(False)
    for _ in range(3):
        run.tester.send()
        run.tester.wait(0.01)
    run.tester.enable(True)


def deactivated(run: FaultContext) -> None:
    """Deactivate the node between frames, and activate it again."""
    run.tester.send()
    run.tester.transition(Transition.TRANSITION_DEACTIVATE)
    run.tester.send()
    _activate(run)


def cleaned_up(run: FaultContext) -> None:
    """Clean the node up, and configure it again."""
    run.tester.send()
    run.tester.transition(Transition.TRANSITION_DEACTIVATE)
    run.tester.transition(Transition.TRANSITION_CLEANUP)
    run.tester.transition(Transition.TRANSITION_CONFIGURE)
    _activate(run)


def subscribers(run: FaultContext) -> None:
    """Subscribe to outputs, and unsubscribe again."""
    tester = run.tester
    received: list[Image] = []
    subscriptions = [
        tester.create_subscription(Image, f"/sgnet/{name}", received.append, 10)
        for name in run.rng.sample(_OUTPUTS, run.rng.randint(1, 3))
    ]
    for _ in range(5):
        tester.frame()
        tester.wait(0.01)
    for subscription in subscriptions:
        tester.destroy_subscription(subscription)


def _activate(run: FaultContext) -> None:
    run.tester.transition(Transition.TRANSITION_ACTIVATE)
    run.tester.activated()


def _require(condition: bool, failure: str) -> None:
    if not condition:
        raise AssertionError(failure)


FAULTS: dict[str, Callable[[FaultContext], None]] = {
    function.__name__: function
    for function in (
        camera_restart,
        clock_forward,
        clock_backward,
        clock_stutter,
        stamps_of_zero,
        duplicates,
        stalled_stream,
        skewed_stamps,
        burst,
        malformed_images,
        malformed_camera_info,
        malformed_bytes,
        parameters,
        reload,
        disabled,
        deactivated,
        cleaned_up,
        subscribers,
    )
}

LOSSES = frozenset(("camera_restart", "malformed_bytes", "deactivated", "cleaned_up"))
"""Faults that may lose images on the way, because connections are new or bytes were no message."""
