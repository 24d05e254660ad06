"""Frames, labels, clouds and times as entities of a rerun recording."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.models.labels import IGNORE_ID, LabelSet

_JPEG_QUALITY = 90
_SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET")  # one is set if there is a screen
_MILLIMETERS, _METERS = 1000.0, 1.0  # rerun's `meter`: units of the image per meter


class ViewError(RuntimeError):
    """An error of the viewer or the file; the message names the remedy."""


def load_rerun() -> Any:
    """Return the module `rerun`, which comes with the extra ``viz``.

    Raises:
        ViewError: rerun cannot be imported.
    """
    try:
        return importlib.import_module("rerun")
    except ImportError as error:
        raise ViewError(
            f"rerun cannot be imported ({error}): pip install 'sgnet_ros[viz]'"
        ) from error


class ViewLog:
    """A rerun recording that a viewer shows live, or that is written to a file.

    All entities are on the timeline ``stamp``, the stamps of the messages:

    - ``camera``: the color camera's optical frame (REP 103), with ``camera/points``;
    - ``camera/image``: the color camera as a pinhole, with ``rgb`` (JPEG) and ``labels`` below it;
    - ``depth``: the depth image, which may come from a separate camera;
    - ``times/NAME``: one number per frame.

    Args:
        save: .rrd file, which is called ``FILE.part`` until `close`.
        connect: URL of a running viewer (``rerun+http://HOST:9876/proxy``). Without both arguments,
            use the viewer that runs on this machine, or start one.

    Raises:
        ViewError: rerun is not installed, the file cannot be written, there is no screen for a
            viewer, or the URL is invalid.
    """

    def __init__(self, save: Path | None = None, connect: str | None = None) -> None:
        self._rerun = load_rerun()
        self._recording = self._rerun.RecordingStream("sgnet_ros")
        self._file = save
        layout = self._layout()
        try:
            if save is not None:
                save.parent.mkdir(parents=True, exist_ok=True)
                self._recording.save(_part(save), default_blueprint=layout)
            elif connect is not None:
                self._recording.connect_grpc(connect, default_blueprint=layout)
            else:
                _require_screen()
                self._recording.spawn(default_blueprint=layout)
        except (OSError, RuntimeError, ValueError) as error:
            target = save or connect or "the viewer"
            raise ViewError(f"{target}: {error}") from error
        axes = self._rerun.ViewCoordinates.RDF
        self._recording.log("camera", axes, static=True)

    def close(self) -> None:
        """Send or write the remaining data; give the file its final name.

        Raises:
            ViewError: the data could not be written; the file is still called ``FILE.part``.
        """
        try:
            self._recording.flush()
        except RuntimeError as error:
            if self._file is not None:
                raise ViewError(f"{_part(self._file)}: {error}") from error
            # The user has closed the viewer; rerun has logged that.
        finally:
            self._recording.disconnect()
        if self._file is not None:
            _part(self._file).replace(self._file)

    def classes(self, labels: LabelSet) -> None:
        """Log names and colors of the class ids in labels and points, for the whole recording."""
        info = self._rerun.AnnotationInfo
        known = zip(labels.ids, labels.names, labels.colors, strict=True)
        context = [info(number, name, color) for number, name, color in known]
        context.append(info(IGNORE_ID, "unlabeled", (0, 0, 0)))
        self._recording.log("/", self._rerun.AnnotationContext(context), static=True)

    def camera(self, intrinsics: Intrinsics) -> None:
        """Log the color camera as a pinhole, because rerun does not model lenses."""
        pinhole = self._rerun.Pinhole(
            image_from_camera=intrinsics.matrix(),
            resolution=(intrinsics.width, intrinsics.height),
            camera_xyz=self._rerun.ViewCoordinates.RDF,
        )
        self._recording.log("camera/image", pinhole, static=True)

    def rgb(self, stamp_ns: int, image: npt.NDArray[np.uint8]) -> None:
        """Log (H, W, 3) uint8 RGB."""
        picture = self._rerun.Image(np.ascontiguousarray(image))
        self._log("camera/image/rgb", stamp_ns, picture.compress(jpeg_quality=_JPEG_QUALITY))

    def depth(self, stamp_ns: int, image: npt.NDArray[Any]) -> None:
        """Log (H, W) uint16 millimeters or float32 meters."""
        meter = _MILLIMETERS if image.dtype.kind == "u" else _METERS
        image = np.ascontiguousarray(image)
        self._log("depth", stamp_ns, self._rerun.DepthImage(image, meter=meter))

    def labels(self, stamp_ns: int, mask: npt.NDArray[np.uint8]) -> None:
        """Log (H, W) uint8 class ids."""
        mask = np.ascontiguousarray(mask)
        self._log("camera/image/labels", stamp_ns, self._rerun.SegmentationImage(mask))

    def points(
        self, stamp_ns: int, positions: npt.NDArray[np.float32], labels: npt.NDArray[np.uint8]
    ) -> None:
        """Log (N, 3) float32 meters in the optical frame, (N,) uint8 class ids."""
        points = self._rerun.Points3D(positions, class_ids=labels)
        self._log("camera/points", stamp_ns, points)

    def times(self, stamp_ns: int, **values: float) -> None:
        """Log one point of each curve."""
        for name, value in values.items():
            self._log(f"times/{name}", stamp_ns, self._rerun.Scalars(value))

    def _log(self, entity: str, stamp_ns: int, what: Any) -> None:
        self._recording.set_time("stamp", timestamp=np.datetime64(stamp_ns, "ns"))
        self._recording.log(entity, what)

    def _layout(self) -> Any:
        views = importlib.import_module("rerun.blueprint")
        flat, image = views.Spatial2DView, "camera/image"
        images = views.Vertical(
            flat(origin=image, contents=[f"{image}/rgb"], name="RGB"),
            flat(origin=image, contents=[f"{image}/labels"], name="labels"),
            flat(origin="depth", name="depth"),
        )
        scene = views.Spatial3DView(
            origin="camera", contents=["camera/points", image, f"{image}/rgb"], name="labels in 3D"
        )
        curves = views.TimeSeriesView(origin="times", name="times in ms")
        right = views.Vertical(scene, curves, row_shares=[3, 1])
        return views.Blueprint(
            views.Horizontal(images, right, column_shares=[1, 2]), collapse_panels=True
        )


def _require_screen() -> None:
    # Without a screen, the viewer ends at once, and rerun only reports a lost connection.
    if sys.platform == "linux" and not any(map(os.environ.get, _SCREENS)):
        raise ViewError("there is no screen: use --save FILE.rrd or --connect URL")


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")
