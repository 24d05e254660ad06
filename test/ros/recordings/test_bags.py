"""Bags: what is written is read back exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bag_messages import HEIGHT, ROS2, WIDTH, Maker, colors
from sgnet_ros.recordings.bag_writer import BagWriter
from sgnet_ros.recordings.bags import Bag


def test_a_truncated_recording_is_read_as_far_as_it_goes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make = Maker(1)
    messages = [
        ("/chatter", i + 1, make.types["std_msgs/msg/String"]("x" * 2000)) for i in range(4)
    ]
    path = make.write(tmp_path / "a.bag", messages)
    data = bytearray(path.read_bytes())
    with Bag(path) as bag:
        whole = [m.data for _, _, m in bag.messages(["/chatter"])]
    assert whole == ["x" * 2000] * 4
    at = [i for i in range(len(data)) if data[i : i + 4] == (2000).to_bytes(4, "little")]
    data[at[2] : at[2] + 4] = (10**6).to_bytes(4, "little")  # the third string claims 1 MB
    path.write_bytes(data)
    with Bag(path) as bag:
        assert bag.complete
        assert len(list(bag.messages(["/chatter"]))) == 2
        assert not bag.complete
    assert "a.bag is damaged after 2 messages" in caplog.text


def test_written_mcap_reads_back_byte_by_byte(tmp_path: Path) -> None:
    make = Maker(2)
    definition = "std_msgs/Header header\nfloat32 age_ms\nstring[] causes"
    writer = BagWriter(tmp_path / "out", {"made_up/msg/Stats": definition})
    writer.add_topic("/labels", "sensor_msgs/msg/Image")
    writer.add_topic("/stats", "made_up/msg/Stats", latched=True)
    sent = []
    for i in range(5):
        image = make.image(colors(i)[:, :, 0].copy(), "mono8", i, "cam")
        cdr = bytes(ROS2.serialize_cdr(image, "sensor_msgs/msg/Image"))
        sent.append(cdr)
        writer.write("/labels", cdr, 100 + i)
    assert not (tmp_path / "out").exists()  # a killed run leaves no half a bag under this name
    writer.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]

    from rosbags.rosbag2 import Reader

    with Reader(tmp_path / "out") as reader:
        got = [(c.topic, time, bytes(data)) for c, time, data in reader.messages()]
        qos = {c.topic: c.ext.offered_qos_profiles[0].durability.name for c in reader.connections}
    assert got == [("/labels", 100 + i, cdr) for i, cdr in enumerate(sent)]
    assert qos == {"/labels": "VOLATILE", "/stats": "TRANSIENT_LOCAL"}

    with Bag(tmp_path / "out") as bag:
        assert bag.topics["/stats"] == "made_up/msg/Stats"
        images = [m for _, _, m in bag.messages(["/labels"])]
    np.testing.assert_array_equal(images[3].data.reshape(HEIGHT, WIDTH), colors(3)[:, :, 0])


def test_a_second_run_replaces_the_bag_and_the_remains_of_a_killed_run(tmp_path: Path) -> None:
    for value in (b"first", b"second"):
        writer = BagWriter(tmp_path / "out")
        writer.add_topic("/text", "std_msgs/msg/String")
        text = Maker(2).types["std_msgs/msg/String"](value.decode())
        writer.write("/text", bytes(ROS2.serialize_cdr(text, "std_msgs/msg/String")), 1)
        if value == b"first":
            writer.close()
    assert (tmp_path / ".out.partial").exists()  # the second one never got to close
    writer = BagWriter(tmp_path / "out")
    writer.add_topic("/text", "std_msgs/msg/String")
    writer.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    with Bag(tmp_path / "out") as bag:
        assert bag.counts["/text"] == 0
