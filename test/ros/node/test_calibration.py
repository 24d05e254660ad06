"""The CameraInfo that applies to an image."""

from __future__ import annotations

from sensor_msgs.msg import CameraInfo

from sgnet_ros.node.calibration import CameraInfos

SECOND = 10**9


def info(focal: float, stamp_s: int = 0, p: float = 0.0) -> CameraInfo:
    message = CameraInfo(width=80, height=60)
    message.header.stamp.sec = stamp_s
    message.k[0] = focal
    message.p[0] = p
    return message


def focal(infos: CameraInfos, stamp_s: int) -> float | None:
    found = infos.at(stamp_s * SECOND)
    return None if found is None else float(found.k[0])


def test_the_calibration_of_a_stamp_is_the_latest_that_is_not_newer() -> None:
    infos = CameraInfos()
    assert infos.at(0) is None
    for message in (info(1.0, 10), info(2.0, 20), info(3.0, 30)):
        infos.receive(message)
    assert [focal(infos, s) for s in (10, 19, 20, 25, 30, 99)] == [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]


def test_a_calibration_without_a_stamp_is_replaced_by_the_next() -> None:
    infos = CameraInfos()
    for value in (1.0, 2.0):
        infos.receive(info(value))
    assert focal(infos, 50) == 2.0


def test_a_calibration_published_once_after_the_images_counts_for_them() -> None:
    infos = CameraInfos()
    infos.receive(info(1.0, 1000))
    assert focal(infos, 5) == 1.0


def test_after_a_jump_back_the_calibration_received_last_counts_until_one_is_in_time() -> None:
    infos = CameraInfos()
    for message in (info(1.0, 100), info(2.0, 90)):
        infos.receive(message)
    assert focal(infos, 10) == 2.0
    infos.receive(info(3.0, 10))
    assert focal(infos, 10) == 3.0


def test_uncalibrated_messages_count_only_while_there_is_no_other() -> None:
    infos = CameraInfos()
    for _ in range(2):
        infos.receive(info(0.0, 10))
    assert focal(infos, 10) == 0.0
    infos.receive(info(5.0, 12))
    infos.receive(info(0.0, 13))
    assert [focal(infos, s) for s in (10, 13)] == [5.0, 5.0]


def test_a_message_with_p_alone_is_calibrated() -> None:
    infos = CameraInfos()
    infos.receive(info(0.0, 10, p=70.0))
    infos.receive(info(0.0, 11))
    found = infos.at(12 * SECOND)
    assert found is not None and found.p[0] == 70.0
