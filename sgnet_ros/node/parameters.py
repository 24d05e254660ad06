"""The node's parameters: declared, described, checked, and read in one place."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from sgnet_core.geometry.holes import HolePolicy
from sgnet_core.inference.segmenter import BACKENDS
from sgnet_core.models.model_file import default_model_path
from sgnet_core.models.precision import PRECISIONS
from sgnet_ros.messages.transforms import parse_pose
from sgnet_ros.node.inputs import TRANSPORTS
from sgnet_ros.system.names import OUTPUTS, camera_names

FillHoles = Literal["auto"] | HolePolicy


@dataclass(frozen=True)
class Settings:
    """Values of the parameters; the defaults are the node's."""

    model: str = ""
    device: str = "auto"
    precision: str = "auto"
    backend: str = "auto"
    slop: float = 0.02
    queue_size: int = 10
    rgb_transport: str = "raw"
    depth_transport: str = "raw"
    depth_to_rgb: str = ""
    use_imu: bool = False
    imu_to_rgb: str = ""
    fill_holes: FillHoles = "auto"
    outputs: list[str] = field(default_factory=lambda: list(OUTPUTS))
    overlay_alpha: float = 0.5
    cameras: str | list[str] | None = ""
    autostart: bool = True


HOLE_POLICIES: tuple[FillHoles, ...] = ("auto", *get_args(HolePolicy))
_CHOICES = {"precision": PRECISIONS, "backend": BACKENDS, "fill_holes": HOLE_POLICIES, **TRANSPORTS}
_PARSERS: dict[str, Callable[[Any], object]] = {
    "depth_to_rgb": parse_pose,
    "imu_to_rgb": parse_pose,
    "cameras": camera_names,
}
_ON_RELOAD = "Takes effect when the node is configured and on ~/reload."

DESCRIPTORS = {
    "model": ParameterDescriptor(
        description="Model file (.safetensors or .onnx); empty takes the weights that come with "
        "the package. While the node runs: files in the folder of the model that it was started "
        f"with. {_ON_RELOAD}",
    ),
    "device": ParameterDescriptor(
        description=f"auto (a GPU if there is one), cpu, cuda or cuda:N. {_ON_RELOAD}",
    ),
    "precision": ParameterDescriptor(
        description=f"{', '.join(PRECISIONS)}; auto is fp16 on a GPU, fp32 elsewhere. bf16 "
        "takes half to two thirds of the time on CPUs with AVX512-BF16 or AMX, with the torch "
        "backend. "
        f"{_ON_RELOAD}",
    ),
    "backend": ParameterDescriptor(
        description=f"{', '.join(BACKENDS)}: what the network runs in; torch takes .safetensors "
        "files, onnx (ONNX Runtime: on the CPU, or with TensorRT or CUDA where device names a GPU) "
        f".onnx files, auto either. {_ON_RELOAD}",
    ),
    "slop": ParameterDescriptor(
        description="Greatest difference between the stamps of an RGB-D pair, in seconds; 0 takes "
        "equal stamps only. Live.",
        floating_point_range=[FloatingPointRange(from_value=0.0, to_value=1.0)],
    ),
    "queue_size": ParameterDescriptor(
        description="Images per topic that wait for a partner.",
        integer_range=[IntegerRange(from_value=1, to_value=100)],
        read_only=True,
    ),
    "rgb_transport": ParameterDescriptor(
        description="raw: sensor_msgs/Image on rgb/image_raw; compressed: JPEG or PNG on "
        "rgb/image_raw/compressed.",
        additional_constraints=", ".join(TRANSPORTS["rgb_transport"]),
        read_only=True,
    ),
    "depth_transport": ParameterDescriptor(
        description="raw: sensor_msgs/Image on depth/image_raw; compressedDepth: PNG on "
        "depth/image_raw/compressedDepth.",
        additional_constraints=", ".join(TRANSPORTS["depth_transport"]),
        read_only=True,
    ),
    "depth_to_rgb": ParameterDescriptor(
        description="Pose of the depth camera's optical frame in the colour camera's, for depth "
        "that isn't registered: 'x y z qx qy qz qw', metres and unit quaternion; empty takes it "
        "from /tf_static. Live.",
        additional_constraints="7 numbers or empty",
    ),
    "use_imu": ParameterDescriptor(
        description="For models steered by HHA: take the direction of gravity from the orientation "
        "on the topic imu (sensor_msgs/Imu) in place of estimating it from depth.",
        read_only=True,
    ),
    "imu_to_rgb": ParameterDescriptor(
        description="Pose of the IMU in the colour camera's optical frame, of which the rotation "
        "counts: 'x y z qx qy qz qw', metres and unit quaternion; empty takes it from /tf_static. "
        "Live.",
        additional_constraints="7 numbers or empty",
    ),
    "fill_holes": ParameterDescriptor(
        description="How pixels without depth are filled before the network sees them: auto (as "
        "the model was trained), none, nearest (the nearest measurement), or joint_bilateral (the "
        "mean of those around, by distance and colour). Live.",
        additional_constraints=", ".join(HOLE_POLICIES),
    ),
    "outputs": ParameterDescriptor(
        description="Which of its topics with a message per frame the node has. All but labels "
        "cost nothing while nobody subscribes.",
        additional_constraints=f"one or more of {', '.join(OUTPUTS)}",
        read_only=True,
    ),
    "overlay_alpha": ParameterDescriptor(
        description="Opacity of the labels drawn over the image on ~/overlay. Live.",
        floating_point_range=[FloatingPointRange(from_value=0.0, to_value=1.0)],
    ),
    "cameras": ParameterDescriptor(
        description="Namespaces of several cameras, [front, rear] or 'front rear': the process "
        "then runs one node in each, with one model for all. Empty: one camera, no namespace.",
        read_only=True,
        dynamic_typing=True,  # a list or a text
    ),
    "autostart": ParameterDescriptor(
        description="Configure and activate at start-up; false leaves that to a lifecycle manager.",
        read_only=True,
    ),
}


_MODEL_FILES = (".safetensors", ".onnx")


class Parameters:
    """Declares the parameters on a node and keeps their values as `settings`.

    While the node runs, ``model`` takes ``.safetensors`` and ``.onnx`` files from the folder of the
    model that it was started with, and nothing else: whoever may set parameters cannot have it open
    other files of the machine.

    Args:
        node: that gets the parameters.
        on_change: called with the new settings when a parameter was set.

    Raises:
        ParameterException: a value from the command line or a parameter file is of the wrong type,
            out of range or none of the choices. Model, device, precision and backend are tried when
            the node is configured.
    """

    def __init__(self, node: Node, on_change: Callable[[Settings], None]) -> None:
        values = {
            name: node.declare_parameter(name, default, DESCRIPTORS[name]).value
            for name, default in asdict(Settings()).items()
        }
        self.settings = Settings(**values)
        for name in (*TRANSPORTS, *_PARSERS, "fill_holes", "outputs"):
            if reason := _problem(name, values[name]):
                raise InvalidParameterValueException(name, values[name], reason)
        self._model_folder = Path(self.settings.model or default_model_path()).resolve().parent
        self._on_change = on_change
        node.add_on_set_parameters_callback(self._set)

    def _set(self, parameters: list[Parameter]) -> SetParametersResult:
        """Refuses unusable values with the reason, and takes over the others."""
        names = {field.name for field in fields(Settings)}
        values = {p.name: p.value for p in parameters if p.name in names}
        problems = [_problem(*item) for item in values.items()]
        if values.get("model"):
            problems.append(self._model_problem(values["model"]))
        if reasons := [reason for reason in problems if reason]:
            return SetParametersResult(successful=False, reason="; ".join(reasons))
        if values:
            self.settings = replace(self.settings, **values)
            self._on_change(self.settings)
        return SetParametersResult(successful=True)

    def _model_problem(self, value: str) -> str | None:
        path = Path(value).resolve()
        if self._model_folder not in path.parents:
            return (
                f"model: {value} is not in {self._model_folder}, the folder of the model that the "
                f"node was started with; start it with -p model:={value}"
            )
        if path.suffix not in _MODEL_FILES:
            return f"model: is a {' or '.join(_MODEL_FILES)} file, not {value}"
        return None if path.is_file() else f"model: there is no file {value}"


def _problem(name: str, value: Any) -> str | None:
    """Why a value cannot be used, beyond the types and ranges that rclpy itself enforces."""
    if name == "device" and not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        return f"device: is auto, cpu, cuda or cuda:N, not '{value}'"
    if name in _CHOICES and value not in _CHOICES[name]:
        return f"{name}: is one of {', '.join(_CHOICES[name])}, not '{value}'"
    # an empty list comes as None: it does not say what it is a list of
    if name == "outputs" and not (value and set(value) <= set(OUTPUTS)):
        return f"outputs: is one or more of {', '.join(OUTPUTS)}, not {value or 'empty'}"
    if name in _PARSERS:
        try:
            _PARSERS[name](value)
        except ValueError as error:
            return f"{name}: {error}"
    return None
