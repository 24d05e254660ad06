"""Generated messages against the conversions and the node's path."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.inference.segmenter import Prediction, Segmenter
from sgnet_ros.messages import images
from sgnet_ros.messages.camera_model import intrinsics_of
from sgnet_ros.messages.images import ImageError, depth_view, rgb_view
from sgnet_ros.node.frame import Frame
from sgnet_ros.node.matcher import Pair
from sgnet_ros.soak import hostile

# bytes a pixel has, and where red, green and blue lie
COLORS = {
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "8UC3": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
    "mono8": (1, (0, 0, 0)),
}
DEPTHS = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}


@pytest.fixture(params=[1500, pytest.param(100_000, marks=pytest.mark.slow)])
def count(request: pytest.FixtureRequest) -> int:
    """Return the number of messages."""
    return int(request.param)


def rows(message: Image, pixel_bytes: int) -> list[bytes] | None:
    """Return the bytes of each row's pixels, or None if the message does not hold them."""
    data, row = message.data.tobytes(), message.width * pixel_bytes
    if not (message.width and message.height) or message.step < row:
        return None
    if len(data) < message.step * message.height:
        return None
    return [data[y * message.step :][:row] for y in range(message.height)]


def reference_rgb(message: Image) -> np.ndarray | None:
    """Read a color image slowly; return None if it is broken."""
    pixel_bytes, order = COLORS.get(message.encoding, (0, ()))
    found = rows(message, pixel_bytes) if pixel_bytes else None
    if found is None:
        return None
    pixels = [
        [[row[x * pixel_bytes + at] for at in order] for x in range(message.width)] for row in found
    ]
    return np.array(pixels, np.uint8)


def reference_depth(message: Image) -> np.ndarray | None:
    """Read a depth image row by row; return None if it is broken."""
    code = DEPTHS.get(message.encoding)
    found = rows(message, int(code[1])) if code else None
    if found is None:
        return None
    order = ">" if message.is_bigendian else "<"
    return np.stack([np.frombuffer(row, order + code).astype("=" + code) for row in found])


def assert_inside(array: np.ndarray, message: Image) -> None:
    """A view lies wholly in the message's buffer."""
    first = array.__array_interface__["data"][0]
    last = first + sum((n - 1) * s for n, s in zip(array.shape, array.strides, strict=True))
    begin, size = message.data.buffer_info()
    assert min(array.strides) >= 0
    assert begin <= first
    assert last + array.itemsize <= begin + size


def test_every_image_is_read_as_it_is_or_refused(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(images, "_cv_bridge", lambda: None)
    rng = random.Random(1)
    outcomes: Counter[str] = Counter()
    for _ in range(count):
        message = hostile.image(rng)
        for read, reference in ((rgb_view, reference_rgb), (depth_view, reference_depth)):
            expected = reference(message)
            try:
                array, copies = read(message)
            except ImageError as error:
                assert expected is None, error
                assert error.field in ("height", "width", "step", "data", "encoding")
                outcomes[f"{read.__name__}: {error.field}"] += 1
                continue
            assert expected is not None
            assert array.dtype == expected.dtype
            np.testing.assert_array_equal(array.view(np.uint8), expected.view(np.uint8))
            if copies == 0:
                assert_inside(array, message)
            outcomes[f"{read.__name__}: valid"] += 1
    assert len(outcomes) == 12, outcomes  # every outcome of both was there
    assert outcomes["rgb_view: valid"] > count / 10


def test_every_camera_info_is_read_or_refused(count: int) -> None:
    rng = random.Random(2)
    outcomes: Counter[str] = Counter()
    for _ in range(count):
        message = hostile.camera_info(rng)
        width, height = rng.randint(1, 64), rng.randint(1, 64)
        if rng.random() < 0.7:
            width, height = message.width, message.height
        try:
            camera = intrinsics_of(message, width, height)
        except ValueError as error:
            assert str(error)
            outcomes["refused"] += 1
            continue
        outcomes["camera"] += 1
        assert (camera.width, camera.height) == (width, height)
        numbers = (camera.fx, camera.fy, camera.cx, camera.cy)
        assert np.isfinite(numbers).all(), message
        assert camera.fx != 0
        assert camera.fy != 0
    assert min(outcomes["refused"], outcomes["camera"]) > count / 10, outcomes


def test_the_node_labels_or_drops_and_counts_every_pair(
    run_node: Any, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    def read(
        self: Segmenter, rgb: Any, depth: Any, intrinsics: Any = None, **kwargs: Any
    ) -> Prediction:
        """In the place of inference: reads every byte that it is given."""
        assert rgb.shape == (*depth.shape, 3)
        assert rgb.dtype == np.uint8
        assert depth.dtype in (np.uint16, np.float32)
        assert isinstance(intrinsics, Intrinsics)
        int(rgb.sum()), float(np.nan_to_num(depth).astype(np.float64).sum())
        stages = dict.fromkeys(("preprocess", "network", "postprocess"), 0.0)
        return Prediction(np.zeros(depth.shape, np.uint8), None, None, None, stages)

    rng = random.Random(3)
    node = run_node("points").node
    monkeypatch.setattr(Segmenter, "segment", read)
    for number in range(count // 2):
        size = (rng.randint(1, 12), rng.randint(1, 12))
        rgb = hostile.image(rng, hostile.COLORS, size)
        depth = hostile.image(rng, hostile.DEPTHS, size)
        info = hostile.camera_info(rng)
        if rng.random() < 0.7:
            info.height, info.width = size
        pair = Pair(rgb, depth, number, number)
        node._active.processor.process(Frame(pair, info, None, None, 0.0, time.perf_counter()))
    counts = node._active.processor.counters.counts()
    assert counts.segmented + sum(counts.drops.values()) == count // 2
    assert counts.segmented > count / 100
    assert set(counts.drops) == {"bad_rgb", "bad_depth", "not_registered", "no_camera_info"}


def test_invalid_bytes_do_not_stop_the_node(run_node: Any, robot: Any, scene: Any) -> None:
    rng = random.Random(4)
    running = run_node("depth")
    robot.connect(scene.messages())
    for message, publisher in zip(
        (*scene.messages(), scene.camera_info()), (robot.rgb, robot.depth, robot.info), strict=True
    ):
        good = serialize_message(message)
        for _ in range(50):
            publisher.publish(hostile.serialized(rng, good))
            robot.spin_for(0.001)
    robot.forget()
    robot.send_until(lambda: robot.labels, scene.messages())
    running.stop()
