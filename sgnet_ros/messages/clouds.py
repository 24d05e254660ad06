"""Organized point clouds with color, label and confidence."""

from __future__ import annotations

import functools
import sys
from collections.abc import Collection

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from sgnet_core.data.depth_units import NO_MEASUREMENT
from sgnet_core.geometry.depth_range import DEPTH_RANGE
from sgnet_core.geometry.lens import Camera
from sgnet_ros.messages.images import ImageArray

_POINT = np.dtype(
    {
        "names": ["x", "y", "z", "rgb", "label", "confidence"],
        "formats": ["f4", "f4", "f4", "u4", "u4", "u1"],
        "offsets": [0, 4, 8, 12, 16, 20],
        "itemsize": 24,
    }
)
_FIELDS = [
    PointField(name=name, offset=offset, datatype=datatype, count=1)
    for name, offset, datatype in (
        ("x", 0, PointField.FLOAT32),
        ("y", 4, PointField.FLOAT32),
        ("z", 8, PointField.FLOAT32),
        ("rgb", 12, PointField.FLOAT32),  # the bits of 0x00RRGGBB, as PCL and RViz expect
        ("label", 16, PointField.UINT32),  # as PCL's PointXYZRGBL
        ("confidence", 20, PointField.UINT8),  # 0..255
    )
]


def point_cloud(
    header: Header,
    depth: ImageArray,
    camera: Camera,
    rgb: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    confidence: npt.NDArray[np.uint8],
) -> PointCloud2:
    """Return one point per pixel in the optical frame (REP 103), along the rays of the lens.

    Args:
        header: header of the color image.
        depth: (H, W) of that image's camera, uint16 millimeters or float32 meters.
        camera: camera of the color image, W x H.
        rgb: (H, W, 3) uint8.
        labels, confidence: (H, W) uint8.

    Returns:
        Points x y z (float32 meters), rgb (float32), label (uint32) and confidence (uint8, 0..255)
        of 24 bytes each; x, y and z are NaN where there is no measurement or the lens has no ray.
    """
    z = depth
    if depth.dtype.kind == "u":
        z = np.where(depth == NO_MEASUREMENT, np.float32(0), depth * np.float32(0.001))
    with np.errstate(invalid="ignore"):
        z = np.where((z >= DEPTH_RANGE[0]) & (z <= DEPTH_RANGE[1]), z, np.float32(np.nan))
    rays = _rays(camera)
    height, width = z.shape
    points = np.zeros((height, width), _POINT)
    np.multiply(rays[0], z, out=points["x"])
    np.multiply(rays[1], z, out=points["y"])
    points["z"] = np.where(np.isnan(rays[0]), np.float32(np.nan), z)
    wide = rgb.astype(np.uint32)
    points["rgb"] = wide[:, :, 0] << 16 | wide[:, :, 1] << 8 | wide[:, :, 2]
    points["label"], points["confidence"] = labels, confidence
    message = PointCloud2(
        header=header,
        height=height,
        width=width,
        fields=_FIELDS,
        is_bigendian=sys.byteorder == "big",
        point_step=_POINT.itemsize,
        row_step=_POINT.itemsize * width,
        is_dense=False,
    )
    # Appending is one memcpy; assigning makes rclpy check each byte.
    message.data.frombytes(points.view(np.uint8).reshape(-1).data)
    return message


def selected_points(cloud: PointCloud2, ids: Collection[int]) -> PointCloud2:
    """Return the measured points of some classes as an unorganized cloud of the same layout.

    Args:
        cloud: made by `point_cloud`.
        ids: class ids to keep.
    """
    points = read_points(cloud)
    kept = points[np.isin(points["label"], list(ids)) & np.isfinite(points["z"])]
    message = PointCloud2(
        header=cloud.header,
        height=1,
        width=len(kept),
        fields=cloud.fields,
        is_bigendian=cloud.is_bigendian,
        point_step=cloud.point_step,
        row_step=cloud.point_step * len(kept),
        is_dense=True,
    )
    message.data.frombytes(kept.tobytes())
    return message


def read_points(message: PointCloud2) -> npt.NDArray[np.void]:
    """Return a (H, W) view of a cloud that `point_cloud` made, with its fields by name.

    Raises:
        ValueError: the cloud has another layout, or too little data.
    """
    names = [field.name for field in message.fields]
    height, width, step = message.height, message.width, message.row_step
    if names != list(_POINT.names or ()) or message.point_step != _POINT.itemsize:
        raise ValueError(f"fields: {', '.join(names)} is not the layout of ~/points")
    if step < width * _POINT.itemsize or len(message.data) < step * height:
        raise ValueError(f"data: {len(message.data)} bytes are too few for {width}x{height} points")
    order = _POINT.newbyteorder(">" if message.is_bigendian else "<")
    return np.ndarray((height, width), order, message.data, strides=(step, _POINT.itemsize))


@functools.lru_cache(maxsize=4)
def _rays(camera: Camera) -> npt.NDArray[np.float32]:
    return np.asarray(camera.rays().numpy(), np.float32)
