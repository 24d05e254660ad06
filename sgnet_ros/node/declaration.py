"""Declaration of the parameters of `sgnet_ros.node.parameters` on a node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from sgnet_core.models.model_file import default_model_path
from sgnet_ros.node.parameters import CHANGES, DEFAULTS, DYNAMIC, PARAMETERS, Settings, typed

_MODEL_FILES = (".safetensors", ".onnx")


def descriptor(name: str) -> ParameterDescriptor:
    """Return the descriptor of a parameter of `PARAMETERS`."""
    parameter, default = PARAMETERS[name], DEFAULTS[name]
    made = ParameterDescriptor(
        description=f"{parameter.description} {CHANGES[parameter.changes]}",
        additional_constraints="" if parameter.limits else parameter.values,
        read_only=parameter.changes == "read-only",
        # Floating-point parameters accept integers, too (`-p slop:=0`).
        dynamic_typing=isinstance(default, float) or name in DYNAMIC,
    )
    if parameter.limits and isinstance(default, float):
        low, high = parameter.limits
        made.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    elif parameter.limits:
        low, high = map(int, parameter.limits)
        made.integer_range = [IntegerRange(from_value=low, to_value=high)]
    return made


class Parameters:
    """Declare the parameters on a node and keep their values.

    While the node runs, ``model`` accepts only ``.safetensors`` and ``.onnx`` files in the folder
    of the model that the node was started with. A client that may set parameters can therefore not
    make the node open other files.

    Args:
        node: gets the parameters.
        on_change: called with the new settings when a parameter was set.

    Raises:
        ParameterException: a value from the command line or a parameter file is of the wrong type,
            out of range or none of the choices. Model, device, precision and backend are checked
            when the node is configured.
    """

    def __init__(self, node: Node, on_change: Callable[[Settings], None]) -> None:
        values = {}
        for name, default in DEFAULTS.items():
            value = node.declare_parameter(name, default, descriptor(name)).value
            try:
                values[name] = typed(name, value)
            except ValueError as error:
                raise InvalidParameterValueException(name, value, str(error)) from error
        self._settings = Settings(**values)
        self._model_folder = Path(self._settings.model or default_model_path()).resolve().parent
        self._on_change = on_change
        node.add_on_set_parameters_callback(self._set)

    @property
    def settings(self) -> Settings:
        """Current values, immutable, so that any thread may read them."""
        return self._settings

    def _set(self, parameters: list[Parameter]) -> SetParametersResult:
        """Refuse unusable values with the reason, and store the others."""
        values: dict[str, Any] = {}
        problems = []
        for parameter in parameters:
            if parameter.name not in PARAMETERS:
                continue
            try:
                values[parameter.name] = typed(parameter.name, parameter.value)
            except ValueError as error:
                problems.append(str(error))
        if values.get("model"):
            problems += self._model_problems(values["model"])
        if problems:
            return SetParametersResult(successful=False, reason="; ".join(problems))
        if values:
            self._settings = replace(self._settings, **values)
            self._on_change(self._settings)
        return SetParametersResult(successful=True)

    def _model_problems(self, value: str) -> list[str]:
        path = Path(value).resolve()
        if self._model_folder not in path.parents:
            return [
                f"model {value} is not in {self._model_folder}, the folder of the model that the "
                f"node was started with; start it with -p model:={value}"
            ]
        if path.suffix not in _MODEL_FILES:
            return [f"model is a {' or '.join(_MODEL_FILES)} file, not {value}"]
        return [] if path.is_file() else [f"model: there is no file {value}"]
