from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import pytest
import rclpy
import yaml
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterException,
)
from rclpy.parameter import Parameter

from sgnet_core.geometry.holes import HolePolicy
from sgnet_core.inference.segmenter import BACKENDS
from sgnet_core.models.precision import PRECISIONS
from sgnet_ros.node.declaration import Parameters, descriptor
from sgnet_ros.node.parameters import PARAMETERS, Settings, parse, typed
from sgnet_ros.system.environment import share_file


@pytest.fixture
def context() -> Iterator[Any]:
    context = rclpy.Context()
    rclpy.init(context=context)
    yield context
    context.try_shutdown()


@pytest.fixture
def node(context: Any) -> Iterator[Any]:
    node = rclpy.create_node("parameters", context=context)
    yield node
    node.destroy_node()


def test_the_shipped_file_names_every_parameter_with_its_default() -> None:
    content = yaml.safe_load(share_file("config/sgnet.yaml").read_text())
    assert content == {"/**": {"ros__parameters": asdict(Settings())}}
    types = {name: type(value) for name, value in content["/**"]["ros__parameters"].items()}
    assert types == {name: type(value) for name, value in asdict(Settings()).items()}


def with_name(name: str, value: Any) -> ParameterDescriptor:
    """The descriptor as a node returns it, which adds name and type."""
    made = descriptor(name)
    made.name, made.type = name, Parameter(name, value=value).type_.value
    return made


def test_the_node_has_the_defaults_and_describes_each(node: Any) -> None:
    assert Parameters(node, lambda _: None).settings == Settings()
    for name, value in asdict(Settings()).items():
        assert node.get_parameter(name).value == value
        assert node.describe_parameter(name) == with_name(name, value)


def test_a_live_parameter_reaches_the_settings_and_the_listener(node: Any) -> None:
    heard: list[Settings] = []
    parameters = Parameters(node, heard.append)
    changes = (
        *(("slop", 0.1), ("slop", 1), ("overlay_alpha", 0), ("device", "cpu")),
        *(("min_confidence", 1), ("always_run", True)),
        *(("keep_classes", "chair, floor mat"), ("keep_classes", ["chair"]), ("keep_classes", "")),
    )
    for name, value in changes:
        (result,) = node.set_parameters([Parameter(name, value=value)])
        assert result.successful, result.reason
        assert getattr(parameters.settings, name) == value
        assert heard[-1] == parameters.settings


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("model", "/etc/passwd", "is not in"),
        ("model", "model.safetensors", "start it with -p model:=model.safetensors"),
        ("device", "gpu", "auto, cpu, cuda or cuda:N, not 'gpu'"),
        ("precision", "int8", "auto, fp32, fp16, bf16, not 'int8'"),
        ("backend", "tensorrt", "auto, torch, onnx, not 'tensorrt'"),
        ("slop", -0.01, "slop"),
        ("slop", 2, "slop is 0 to 1, not 2"),
        ("slop", True, "slop is a number, not True"),
        ("overlay_alpha", 1.5, "overlay_alpha"),
        ("queue_size", 20, "read-only"),
        ("autostart", False, "read-only"),
        ("rgb_transport", "compressed", "read-only"),
        ("depth_transport", "compressedDepth", "read-only"),
        ("cameras", "front", "read-only"),
        ("outputs", ["labels"], "read-only"),
        ("fill_holes", "all", "auto, none, nearest, joint_bilateral, not 'all'"),
        ("min_confidence", 1.5, "min_confidence"),
        ("keep_classes", 3, "keep_classes is a list of names, such as [chair, floor mat], not 3"),
        ("depth_to_rgb", "0 0 0", "depth_to_rgb is 'x y z qx qy qz qw'"),
        ("depth_to_rgb", "0 0 0 1 1 1 1", "length 1, not 2"),
    ],
)
def test_an_unusable_value_is_refused_with_the_reason(
    node: Any, name: str, value: Any, reason: str
) -> None:
    parameters = Parameters(node, lambda _: pytest.fail("changed"))
    (result,) = node.set_parameters([Parameter(name, value=value)])
    assert not result.successful
    assert reason in result.reason
    assert parameters.settings == Settings()


def test_a_running_node_takes_models_from_the_folder_of_its_own_and_no_other_files(
    context: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    (folder / "new").mkdir(parents=True)
    for name in ("a.safetensors", "b.onnx", "new/c.safetensors", "notes.txt", "../secret.onnx"):
        (folder / name).touch()
    (folder / "link.onnx").symlink_to(tmp_path / "secret.onnx")
    start = Parameter("model", value=str(folder / "a.safetensors"))
    node = rclpy.create_node("parameters", context=context, parameter_overrides=[start])
    parameters = Parameters(node, lambda _: None)
    for name, reason in (
        ("b.onnx", ""),
        ("new/c.safetensors", ""),
        ("new/../a.safetensors", ""),
        ("notes.txt", "is a .safetensors or .onnx file"),
        ("gone.onnx", "there is no file"),
        ("../secret.onnx", f"is not in {folder}, the folder of the model"),
        ("link.onnx", "is not in"),
    ):
        before = parameters.settings.model
        (result,) = node.set_parameters([Parameter("model", value=str(folder / name))])
        assert result.successful == (reason == ""), (name, result.reason)
        assert reason in result.reason
        assert parameters.settings.model == (before if reason else str(folder / name))
    assert node.set_parameters([Parameter("model", value="")])[0].successful, "the package's own"
    node.destroy_node()


def test_a_tilde_in_the_path_of_the_model_is_the_home_folder(
    context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # `-p model:=~/x` leaves it to the node
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).touch()
    start = Parameter("model", value="~/a.onnx")
    node = rclpy.create_node("parameters", context=context, parameter_overrides=[start])
    parameters = Parameters(node, lambda _: None)
    assert parameters.settings.model == str(tmp_path / "a.onnx")
    (result,) = node.set_parameters([Parameter("model", value="~/b.onnx")])
    assert result.successful, result.reason
    assert parameters.settings.model == str(tmp_path / "b.onnx")
    node.destroy_node()


def test_other_parameters_of_the_node_are_ignored(node: Any) -> None:
    heard: list[Settings] = []
    Parameters(node, heard.append)
    assert node.set_parameters([Parameter("use_sim_time", value=True)])[0].successful
    assert heard == []


@pytest.mark.parametrize(
    ("override", "error"),
    [
        (Parameter("slop", value=3.0), InvalidParameterValueException),
        (Parameter("queue_size", value=0), InvalidParameterValueException),
        (Parameter("overlay_alpha", value="half"), InvalidParameterValueException),
        (Parameter("rgb_transport", value="theora"), InvalidParameterValueException),
        (Parameter("depth_transport", value="compressed"), InvalidParameterValueException),
        (Parameter("fill_holes", value="yes"), InvalidParameterValueException),
        (Parameter("depth_to_rgb", value="1 2"), InvalidParameterValueException),
        (Parameter("cameras", value="front 2nd"), InvalidParameterValueException),
        (Parameter("cameras", value=["front", "front"]), InvalidParameterValueException),
        (Parameter("cameras", value=2), InvalidParameterValueException),
        (Parameter("outputs", value=["labels", "depth"]), InvalidParameterValueException),
        (Parameter("outputs", value="labels"), InvalidParameterTypeException),
        # as an empty list comes, from the command line and from a file
        (Parameter("outputs", Parameter.Type.NOT_SET), ParameterException),
    ],
)
def test_a_start_with_an_invalid_value_fails(
    context: Any, override: Parameter, error: type[Exception]
) -> None:
    node = rclpy.create_node("parameters", context=context, parameter_overrides=[override])
    with pytest.raises(error, match=override.name):
        Parameters(node, lambda _: None)
    node.destroy_node()


@pytest.mark.parametrize(("name", "value"), [("slop", 0), ("overlay_alpha", 1)])
def test_a_node_starts_with_integers_for_numbers(context: Any, name: str, value: int) -> None:
    override = Parameter(name, value=value)
    node = rclpy.create_node("parameters", context=context, parameter_overrides=[override])
    number = getattr(Parameters(node, lambda _: None).settings, name)
    assert (type(number), number) == (float, value)
    node.destroy_node()


def test_choices_are_those_of_the_library() -> None:
    assert PARAMETERS["precision"].choices == PRECISIONS
    assert PARAMETERS["backend"].choices == BACKENDS
    assert PARAMETERS["fill_holes"].choices == ("auto", *get_args(HolePolicy))


def test_the_table_needs_neither_pytorch_nor_ros() -> None:
    code = "import sys; sys.modules.update(dict.fromkeys(('torch', 'rclpy', 'rcl_interfaces')))"
    command = [sys.executable, "-c", f"{code}; import sgnet_ros.node.parameters"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("slop", "0", 0.0),
        ("queue_size", "5", 5),
        ("use_imu", "True", True),
        ("use_imu", "false", False),
        ("outputs", "[labels, color]", ["labels", "color"]),
        ("model", "a.onnx", "a.onnx"),
    ],
)
def test_texts_of_a_command_line_become_values(name: str, text: str, value: Any) -> None:
    parsed = parse(name, text)
    assert (type(parsed), parsed) == (type(value), value)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("slop", "soon", "slop is a number, not 'soon'"),
        ("slop", "1.5", "slop is 0 to 1, not 1.5"),
        ("slop", "nan", "slop is 0 to 1, not nan"),
        ("queue_size", "0", "queue_size is 1 to 100, not 0"),
        ("queue_size", "2.5", "queue_size is a number, not '2.5'"),
        ("use_imu", "maybe", "use_imu is true or false, not 'maybe'"),
        ("device", "gpu", "device is auto, cpu, cuda or cuda:N, not 'gpu'"),
    ],
)
def test_invalid_texts_are_refused_with_the_reason(name: str, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        parse(name, text)


def test_every_default_is_a_value_of_its_parameter() -> None:
    for name, value in asdict(Settings()).items():
        assert typed(name, value) == value
