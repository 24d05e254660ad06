"""The live viewer shows what camera and node published."""

from __future__ import annotations

import io
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from PIL import Image as PilImage
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import Header

from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.geometry.lens import Camera
from sgnet_core.models.labels import IGNORE_ID
from sgnet_ros.messages.clouds import point_cloud
from sgnet_ros.view import __main__ as view
from sgnet_ros.view.log import ViewError, ViewLog
from waiting import wait_until


class SpiedLog(ViewLog):
    """Remembers which entities were logged."""

    def __init__(self, save: Path) -> None:
        self.seen: set[str] = set()
        super().__init__(save)

    def _log(self, entity: str, stamp_ns: int, what: Any) -> None:
        self.seen.add(entity)
        super()._log(entity, stamp_ns, what)


def read_back(path: Path) -> dict[str, dict[str, dict[int, Any]]]:
    """Entity → component → stamp in ns → value; static components have the stamp 0."""
    reader = pytest.importorskip("rerun.chunk", reason="this rerun reads no files").RrdReader
    found: dict[str, dict[str, dict[int, Any]]] = {}
    for chunk in reader(path).stream():
        table = chunk.to_record_batch()
        stamps = [0] * table.num_rows
        if "stamp" in chunk.timeline_names:
            stamps = table.column("stamp").cast("int64").to_pylist()
        for name in table.schema.names:
            if ":" in name and not name.startswith("RecordingInfo"):
                values = table.column(name).to_pylist()
                entity = found.setdefault(chunk.entity_path, {})
                entity.setdefault(name, {}).update(zip(stamps, values, strict=True))
    return found


def stamp_ns(message: Any) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def test_what_is_shown_is_what_was_published(
    tmp_path: Path, run_node, robot, scene, segmenters, monkeypatch
) -> None:
    pytest.importorskip("rerun", reason="comes with the extra `viz`")
    running = run_node("depth")
    file = tmp_path / "new" / "frames.rrd"
    monkeypatch.setattr(view, "_WARN_EVERY_S", math.inf)
    log = SpiedLog(file)
    assert not file.exists()  # until it is complete
    node = view.ViewNode(log, context=robot.context)
    executor = SingleThreadedExecutor(context=robot.context)
    executor.add_node(node)
    info = scene.camera_info()
    unreadable = scene.message(scene.rgb, "rgb8")
    unreadable.encoding = "unheard_of"
    wanted = {
        *("camera/image/rgb", "camera/image/labels", "camera/points", "depth"),
        *("times/age", "times/inference", "times/overhead"),
    }

    def complete() -> bool:
        robot.rgb.publish(unreadable)
        robot.info.publish(info)
        for _ in range(20):
            executor.spin_once(timeout_sec=0.01)
        return wanted <= log.seen

    robot.send_until(complete, scene.messages())
    warnings = [m.msg for m in robot.log if m.name == "sgnet_view"]
    node.destroy_node()
    log.close()
    running.stop()

    assert len(warnings) == 1  # though it came often
    assert warnings[0].startswith("/rgb/image_raw: encoding: 'unheard_of'")
    shown = read_back(file)
    stamps = {stamp_ns(message): message for message in robot.labels}

    masks = shown["/camera/image/labels"]["SegmentationImage:buffer"]
    assert masks
    for stamp, (pixels,) in masks.items():
        assert bytes(pixels) == bytes(stamps[stamp].data)
    (pixels,) = max(shown["/depth"]["DepthImage:buffer"].items())[1]
    assert np.array_equal(np.frombuffer(bytes(pixels), np.uint16), scene.depth.ravel())
    assert set(map(tuple, shown["/depth"]["DepthImage:meter"].values())) == {(1000.0,)}
    (jpeg,) = max(shown["/camera/image/rgb"]["EncodedImage:blob"].items())[1]
    picture = np.asarray(PilImage.open(io.BytesIO(bytes(jpeg))), np.int16)
    assert np.abs(picture - scene.rgb).mean() < 10  # blue for red would be 60 off

    v, u = np.nonzero(scene.depth)
    z = scene.meters[v, u]
    f, cx, cy = info.k[0], info.k[2], info.k[5]
    expected = np.stack([(u - cx) / f * z, (v - cy) / f * z, z], axis=-1)
    stamp, positions = max(shown["/camera/points"]["Points3D:positions"].items())
    assert np.allclose(positions, expected, atol=1e-5)
    mask = np.frombuffer(bytes(stamps[stamp].data), np.uint8).reshape(scene.depth.shape)
    assert shown["/camera/points"]["Points3D:class_ids"][stamp] == mask[v, u].tolist()
    columns = [[f, 0, 0, 0, f, 0, cx, cy, 1]]
    assert np.allclose(shown["/camera/image"]["Pinhole:image_from_camera"][0], columns)

    stats = {stamp_ns(message): message for message in robot.stats}
    for name in ("age", "inference", "overhead"):
        curve = shown[f"/times/{name}"]["Scalars:scalars"]
        assert curve == {stamp: [getattr(stats[stamp], f"{name}_ms")] for stamp in curve}

    labels = segmenters["depth"].labels
    (context,) = shown["/"]["AnnotationContext:context"][0]
    described = [entry["class_description"]["info"] for entry in context]
    assert [d["label"] for d in described] == [*labels.names, "unlabeled"]
    assert [d["id"] for d in described] == [*labels.ids, IGNORE_ID]
    assert [d["color"] >> 8 for d in described[:-1]] == [
        r << 16 | g << 8 | b for r, g, b in labels.colors
    ]


def test_of_large_clouds_every_second_row_and_column_is_shown(robot) -> None:
    shown = Mock()
    node = view.ViewNode(shown, context=robot.context)
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 2, (400, 600)).astype(np.float32)
    depth[2, 4] = np.nan
    labels = rng.integers(0, 13, depth.shape, np.uint8)
    camera = Camera(Intrinsics(500.0, 510.0, 299.5, 199.5, 600, 400))
    header = Header(stamp=Time(sec=3, nanosec=4))
    rgb = np.zeros((*depth.shape, 3), np.uint8)
    node._on_points(point_cloud(header, depth, camera, rgb, labels, labels))
    node.destroy_node()

    ((stamp, positions, classes),) = [call.args for call in shown.points.call_args_list]
    measured = np.isfinite(depth[::2, ::2])
    assert stamp == 3_000_000_004
    assert len(positions) == 60_000 - 1
    assert np.array_equal(positions[:, 2], depth[::2, ::2][measured])
    assert np.array_equal(classes, labels[::2, ::2][measured])
    assert np.allclose(positions[1, :2] / positions[1, 2], [(2 - 299.5) / 500, -199.5 / 510])


def test_depth_in_meters_stays_in_meters(tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="comes with the extra `viz`")
    log = ViewLog(tmp_path / "a.rrd")
    depth = np.array([[0.5, np.nan], [2.25, np.inf]], np.float32)
    log.depth(7, depth[:, ::-1])  # not contiguous
    log.close()

    shown = read_back(tmp_path / "a.rrd")["/depth"]
    assert shown["DepthImage:meter"] == {7: [1.0]}
    (pixels,) = shown["DepthImage:buffer"][7]
    read = np.frombuffer(bytes(pixels), np.float32).reshape(2, 2)
    assert np.array_equal(read, depth[:, ::-1], equal_nan=True)


def test_without_rerun_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["view", "--ros-args", "-r", "a:=b"])
    with pytest.raises(ViewError, match=r"pip install 'sgnet_ros\[viz\]'"):
        ViewLog()
    with pytest.raises(SystemExit, match=r"view: .*pip install 'sgnet_ros\[viz\]'"):
        view.main()
    assert not rclpy.ok()


def test_targets_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="comes with the extra `viz`")
    (tmp_path / "file").touch()
    for target in ({"save": tmp_path / "file" / "a.rrd"}, {"connect": "nonsense"}):
        with pytest.raises(ViewError, match=str(*target.values())):
            ViewLog(**target)


def test_without_a_screen_the_error_names_the_alternatives(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rerun", reason="comes with the extra `viz`")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(ViewError, match=r"--save FILE\.rrd or --connect URL"):
        ViewLog()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_viewer_with_a_complete_file(
    tmp_path: Path, robot, number: signal.Signals
) -> None:
    pytest.importorskip("rerun", reason="comes with the extra `viz`")
    file = tmp_path / "a.rrd"
    command = [sys.executable, "-m", "sgnet_ros.view", "--save", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: list(tmp_path.iterdir()) or process.poll() is not None)
        if number == signal.SIGINT:  # while it waits for messages; the other one while it starts
            robot.spin_until(lambda: "sgnet_view" in robot.get_node_names())
            robot.spin_for(0.5)
        process.send_signal(number)
        out, errors = process.communicate()
    finally:
        process.kill()
    assert (process.returncode, errors) == (0, "")
    assert str(file) in out
    assert list(tmp_path.iterdir()) == [file]
    assert "/camera" in read_back(file)
