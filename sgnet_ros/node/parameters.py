"""The node's parameters in one table.

Declarations, ``config/sgnet.yaml``, ``docs/parameters.md`` and the arguments of the launch file are
generated from `Settings`. This module imports neither PyTorch nor ROS: launch files import it in
the distribution's Python, where PyTorch may be missing.
"""

# ruff: noqa: RUF009 (`_parameter` returns dataclasses.field)

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from sgnet_ros.messages.transforms import parse_pose
from sgnet_ros.system.names import OUTPUTS, camera_names, listed, listed_names

if TYPE_CHECKING:  # imports PyTorch
    from sgnet_core.geometry.holes import HolePolicy

Changes = Literal["live", "on reload", "read-only"]
CHANGES: dict[Changes, str] = {
    "live": "A change takes effect at once.",
    "on reload": "A change takes effect when the node is configured and on ~/reload.",
    "read-only": "Read-only.",
}
"""Sentences about when a new value takes effect."""


@dataclass(frozen=True)
class Parameter:
    """Documentation and limits of a parameter, apart from its name, type and default.

    Attributes:
        description: whole sentences, for `ros2 param describe`, the YAML file and the page.
        changes: when a new value takes effect: at once, when the node is configured and on
            ``~/reload``, or only when the node is started.
        choices: the only values; empty where others are possible.
        limits: smallest and greatest value of a number.
        form: description of the values, if neither ``choices`` nor ``limits`` apply.
        check: raises ValueError for a value that cannot be used.
    """

    description: str
    changes: Changes
    choices: tuple[str, ...] = ()
    limits: tuple[float, float] | None = None
    form: str = ""
    check: Callable[[Any], object] = lambda value: None

    @property
    def values(self) -> str:
        """Description of the allowed values; empty if the type alone describes them."""
        if self.limits:
            return f"{self.limits[0]:g} to {self.limits[1]:g}"
        return self.form or ", ".join(self.choices)


def _check_device(value: str) -> None:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        raise ValueError(f"is auto, cpu, cuda or cuda:N, not '{value}'")


def _check_outputs(value: list[str] | None) -> None:
    # ROS passes an empty list as None, because it has no element type.
    if not (value and set(value) <= set(OUTPUTS)):
        raise ValueError(f"is one or more of {', '.join(OUTPUTS)}, not {value or 'empty'}")


def _parameter(default: Any, changes: Changes, description: str, **details: Any) -> Any:
    """Return a field of `Settings` with its `Parameter`."""
    metadata = {"parameter": Parameter(description, changes, **details)}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """Values of the parameters, and the table that describes them."""

    model: str = _parameter(
        "",
        "on reload",
        "Model file, .safetensors or .onnx; empty takes the shipped weights. While the node "
        "runs, it accepts only files in the folder of the model that it was started with. If a "
        "new model cannot be loaded, the old one keeps running.",
    )
    device: str = _parameter(
        "auto",
        "on reload",
        "Device of the network: auto takes a GPU if there is one.",
        form="auto, cpu, cuda or cuda:N",
        check=_check_device,
    )
    precision: str = _parameter(
        "auto",
        "on reload",
        "Precision of the network: auto is fp16 on a GPU and fp32 elsewhere. bf16 takes half to "
        "two thirds of the time on CPUs with AMX, and on AMD's with AVX512-BF16, with the torch "
        "backend.",
        choices=("auto", "fp32", "fp16", "bf16"),
    )
    backend: str = _parameter(
        "auto",
        "on reload",
        "Backend that runs the network: torch takes .safetensors files; onnx (ONNX Runtime on "
        "the CPU, or with TensorRT or CUDA where device names a GPU) takes .onnx files; auto "
        "takes either, and on the CPU it runs an exported copy of a .safetensors file if ONNX "
        "Runtime is installed. The first start makes the copy, which takes a minute.",
        choices=("auto", "torch", "onnx"),
    )
    slop: float = _parameter(
        0.02,
        "live",
        "Largest difference between the stamps of an RGB-D pair, in seconds; 0 pairs equal "
        "stamps only. Keep it below half a frame period.",
        limits=(0.0, 1.0),
    )
    queue_size: int = _parameter(
        10,
        "read-only",
        "Largest number of images per topic that wait for a partner.",
        limits=(1, 100),
    )
    rgb_transport: str = _parameter(
        "raw",
        "read-only",
        "Transport of color images. raw: sensor_msgs/Image on rgb/image_raw; compressed: JPEG or "
        "PNG on rgb/image_raw/compressed.",
        choices=("raw", "compressed"),
    )
    depth_transport: str = _parameter(
        "raw",
        "read-only",
        "Transport of depth images. raw: sensor_msgs/Image on depth/image_raw; compressedDepth: "
        "PNG on depth/image_raw/compressedDepth.",
        choices=("raw", "compressedDepth"),
    )
    rectified: Literal["auto", "true", "false"] = _parameter(
        "auto",
        "live",
        "Whether the images are rectified, so that P of their CameraInfo applies instead of K "
        "and D. auto decides by the topic: rectified if rect or rectified is a word in a part of "
        "its name (image_rect, /rect/image).",
        choices=("auto", "true", "false"),
    )
    depth_to_rgb: str = _parameter(
        "",
        "live",
        "Pose of the depth camera's optical frame in the color camera's optical frame, for depth "
        "that is not registered: 'x y z qx qy qz qw', meters and unit quaternion. Empty takes "
        "the pose from TF at the image's stamp.",
        form="7 numbers or empty",
        check=parse_pose,
    )
    use_imu: bool = _parameter(
        False,
        "read-only",
        "Take the direction of gravity from the orientation on the topic imu (sensor_msgs/Imu) "
        "instead of estimating it from depth. Models with HHA input use it.",
    )
    imu_to_rgb: str = _parameter(
        "",
        "live",
        "Pose of the IMU in the color camera's optical frame: 'x y z qx qy qz qw', meters and "
        "unit quaternion; only the rotation is used. Empty takes the pose from TF at the image's "
        "stamp.",
        form="7 numbers or empty",
        check=parse_pose,
    )
    fill_holes: Literal["auto"] | HolePolicy = _parameter(
        "auto",
        "live",
        "How to fill pixels without depth before the network: auto (as in the model's training), "
        "none, nearest (the nearest measurement), or joint_bilateral (the mean of the neighbors, "
        "weighted by distance and color).",
        choices=("auto", "none", "nearest", "joint_bilateral"),
    )
    outputs: list[str] = _parameter(
        list(OUTPUTS),
        "read-only",
        "Output topics with one message per frame. A topic without a subscriber takes no "
        "computing time; see always_run.",
        form=f"one or more of {', '.join(OUTPUTS)}",
        check=_check_outputs,
    )
    always_run: bool = _parameter(
        False,
        "live",
        "Segment frames even without a subscriber, for example to measure the load. Otherwise "
        "inference stops after a second without a subscriber to a topic with one message per "
        "frame (outputs, ~/camera_info, ~/stats), and the first subscriber resumes it. "
        "Subscribers to /diagnostics and ~/class_map do not count.",
    )
    overlay_alpha: float = _parameter(
        0.5, "live", "Opacity of the labels over the image on ~/overlay.", limits=(0.0, 1.0)
    )
    min_confidence: float = _parameter(
        0.0,
        "live",
        "Pixels whose class has a lower probability are unlabeled in every output: 255 in "
        "~/labels and the clouds, black in ~/color, the plain image in ~/overlay. ~/confidence "
        "does not change; a pixel keeps its label if its value there is at least 255 times this "
        "number.",
        limits=(0.0, 1.0),
    )
    keep_classes: str | list[str] | None = _parameter(
        "",
        "live",
        "Classes that are labeled, as [chair, table] or 'chair, table'; pixels of other classes "
        "are unlabeled, as with min_confidence. Empty keeps all classes.",
        form="names of classes",
        check=listed_names,
    )
    obstacle_classes: str | list[str] | None = _parameter(
        "",
        "live",
        "Classes of the points in ~/obstacles, as [chair, table] or 'chair, table'. Empty takes "
        "all classes but ground, ceiling and sky.",
        form="names of classes",
        check=listed_names,
    )
    ground_classes: str | list[str] | None = _parameter(
        "",
        "live",
        "Classes of the points in ~/ground. Empty takes floor, floor mat, rug, carpet, ground, "
        "road, sidewalk and terrain.",
        form="names of classes",
        check=listed_names,
    )
    cameras: str | list[str] | None = _parameter(
        "",
        "read-only",
        "Namespaces of several cameras, as [front, rear] or 'front rear': the process then runs "
        "one node in each namespace (/front/sgnet on /front/rgb/image_raw, ...), and the nodes "
        "share one model in turn. Empty means one camera without a namespace.",
        check=camera_names,
    )
    autostart: bool = _parameter(
        True,
        "read-only",
        "Configure and activate at start-up; false leaves that to a lifecycle manager.",
    )


DYNAMIC = ("rectified", "keep_classes", "obstacle_classes", "ground_classes", "cameras")
"""Parameters that accept several types: a string, a list of strings or a boolean."""
PARAMETERS: dict[str, Parameter] = {f.name: f.metadata["parameter"] for f in fields(Settings)}
DEFAULTS: dict[str, Any] = {name: getattr(Settings(), name) for name in PARAMETERS}


def typed(name: str, value: Any) -> Any:
    """Return a value as `Settings` holds it: integers become floats where floats are expected, and
    ``~`` in the path of the model becomes the home folder.

    Raises:
        ValueError: it cannot be used; the text begins with the parameter's name.
    """
    parameter = PARAMETERS[name]
    try:
        if isinstance(DEFAULTS[name], float):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"is a number, not {value!r}")
            value = float(value)
        if name == "rectified" and isinstance(value, bool):
            value = str(value).lower()  # `-p rectified:=true` arrives as a boolean
        if parameter.limits and not parameter.limits[0] <= value <= parameter.limits[1]:
            raise ValueError(f"is {parameter.values}, not {value:g}")
        if parameter.choices and value not in parameter.choices:
            raise ValueError(f"is one of {parameter.values}, not '{value}'")
        parameter.check(value)
        if name == "model":
            value = os.path.expanduser(value)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None
    return value


def parse(name: str, text: str) -> Any:
    """Parse the value of a command-line or launch argument.

    Raises:
        ValueError: it cannot be used; the text begins with the parameter's name.
    """
    default = DEFAULTS[name]
    try:
        if isinstance(default, bool):
            return typed(name, {"true": True, "false": False}[text.lower()])
        if isinstance(default, int | float):
            return typed(name, type(default)(text))
    except KeyError:
        raise ValueError(f"{name} is true or false, not '{text}'") from None
    except ValueError as error:
        if str(error).startswith(name):
            raise
        raise ValueError(f"{name} is a number, not '{text}'") from None
    return typed(name, listed(text) if isinstance(default, list) else text)
