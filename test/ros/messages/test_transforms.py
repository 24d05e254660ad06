"""Static transforms as a tree of frames; poses from text."""

from __future__ import annotations

import math

import numpy as np
import pytest
from geometry_msgs.msg import Quaternion, Transform, TransformStamped

from sgnet_ros.messages.transforms import (
    StaticTransforms,
    matrix_of,
    parse_pose,
    pose_matrix,
    pose_text,
)

HALF = math.sqrt(0.5)


def edge(parent: str, child: str, xyz: tuple[float, ...], q: tuple[float, ...]) -> TransformStamped:
    stamped = TransformStamped(child_frame_id=child)
    stamped.header.frame_id = parent
    t, r = stamped.transform.translation, stamped.transform.rotation
    t.x, t.y, t.z = xyz
    r.x, r.y, r.z, r.w = q
    return stamped


def moved(pose: np.ndarray | None, *point: float) -> list[float]:
    assert pose is not None
    return [round(float(v), 9) for v in (pose @ [*point, 1])[:3]]


def test_transforms_are_chained_in_both_directions() -> None:
    transforms = StaticTransforms()
    # base: x forward; the left camera looks ahead (REP 103), the right one is turned about z
    transforms.add([edge("base", "left", (0.0, 0.1, 1.0), (-0.5, 0.5, -0.5, 0.5))])
    transforms.add([edge("/base", "/right", (0.0, -0.1, 1.0), (0.0, 0.0, HALF, HALF))])
    assert moved(transforms.between("left", "base"), 0, 0, 2) == [2, 0.1, 1]
    assert moved(transforms.between("base", "left"), 2, 0.1, 1) == [0, 0, 2]
    assert moved(transforms.between("right", "base"), 1, 0, 0) == [0, 0.9, 1]
    assert moved(transforms.between("left", "right"), 0, 0, 2) == [0.2, -2, 0]
    assert moved(transforms.between("left", "left"), 1, 2, 3) == [1, 2, 3]
    assert transforms.between("left", "elsewhere") is None
    assert transforms.between("elsewhere", "left") is None


def test_a_newer_transform_replaces_the_older() -> None:
    transforms = StaticTransforms()
    for x in (1.0, 2.0):
        transforms.add([edge("a", "b", (x, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))])
    assert moved(transforms.between("b", "a"), 0, 0, 0) == [2, 0, 0]


def test_a_child_that_changes_its_parent_leaves_the_old_one() -> None:
    transforms = StaticTransforms()
    for parent, x in (("arm", 1.0), ("base", 5.0)):
        transforms.add([edge(parent, "camera", (x, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))])
    assert transforms.between("camera", "arm") is None
    assert moved(transforms.between("camera", "base"), 0, 0, 0) == [5, 0, 0]


def test_transforms_in_a_loop_end() -> None:
    transforms = StaticTransforms()
    for parent, child in (("a", "b"), ("b", "a")):
        transforms.add([edge(parent, child, (1.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))])
    assert transforms.between("a", "elsewhere") is None
    assert transforms.between("a", "b") is not None


def test_an_invalid_transform_is_ignored() -> None:
    transforms = StaticTransforms()
    transforms.add(
        [
            edge("a", "b", (1.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0)),
            edge("a", "c", (math.nan, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)),
        ]
    )
    assert transforms.between("a", "b") is None
    assert transforms.between("a", "c") is None
    nowhere = Transform(rotation=Quaternion(x=0.0, y=0.0, z=0.0, w=0.0))
    assert np.isnan(matrix_of(nowhere)[:3, :3]).all()


def test_a_pose_is_read_from_text() -> None:
    pose = parse_pose(f" 0.05 -0.01 2e-3  0 0 {HALF} {HALF}")
    assert moved(pose, 1, 0, 0) == [0.05, 0.99, 0.002]
    assert parse_pose("") is parse_pose("  ") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 2 3", "is 'x y z qx qy qz qw'.*not '1 2 3'"),
        ("0 0 0 0 0 0 one", "is 'x y z"),
        ("0 0 nan 0 0 0 1", "is 'x y z"),
        ("0 0 0 0 0 0 0", "length 1, not 0"),
        ("0 0 0 1 1 0 0", "length 1, not 1.41"),
    ],
)
def test_an_invalid_pose_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_pose(text)


@pytest.mark.parametrize("angle", [0.0, 0.3, np.pi / 2, np.pi, -3.0])
@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, -2, 3), (-1, -1, -1)])
def test_a_pose_as_text_is_read_back(axis: tuple[float, ...], angle: float) -> None:
    unit = np.array(axis) / np.linalg.norm(axis)
    pose = pose_matrix((0.25, -1.5, 3e-7), (*np.sin(angle / 2) * unit, np.cos(angle / 2)))
    read = parse_pose(pose_text(pose))
    assert read is not None
    np.testing.assert_allclose(read, pose, rtol=0, atol=1e-14)
