"""Small real models, a node in this process, and a robot that talks to it over DDS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rclpy
import torch

from robots import Robot, RunningNode, Scene
from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.models.model_file import save_model
from sgnet_core.models.sgnet import create_model


def make_model(path: Path, spatial: str, num_classes: int, seed: int) -> Path:
    """Save a quick model with random weights whose masks hold several classes."""
    torch.manual_seed(seed)
    labels = {13: "nyu13", 19: "cityscapes19"}[num_classes]
    model = create_model("sgnet_lite", num_classes, labels=labels, spatial=spatial)
    model.info = replace(model.info, name=f"tiny_{spatial}", input_height=48)
    save_model(model, path)
    return path


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return model files by spatial input; ``other`` has another label set."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "depth": make_model(folder / "depth.safetensors", "depth", 13, 7),
        "points": make_model(folder / "points.safetensors", "points", 13, 2),
        "hha": make_model(folder / "hha.safetensors", "hha", 13, 4),
        "other": make_model(folder / "other.safetensors", "depth", 19, 3),
    }


@pytest.fixture(scope="session")
def segmenters(models: dict[str, Path]) -> dict[str, Segmenter]:
    """Return segmenters of the same models, whose labels the node must publish."""
    return {name: Segmenter(path, "cpu") for name, path in models.items()}


@pytest.fixture(scope="module")
def shared_robot() -> Iterator[Robot]:
    """Yield one robot for all tests of a module."""
    context = rclpy.Context()
    rclpy.init(context=context)
    robot = Robot(context)
    robot.wait_until_alone()
    yield robot
    robot.destroy_node()
    context.try_shutdown()


@pytest.fixture
def robot(shared_robot: Robot) -> Robot:
    """Return the module's robot without messages of the test before."""
    shared_robot.drain()
    shared_robot.forget()
    return shared_robot


@pytest.fixture(scope="module")
def run_node(models: dict[str, Path]) -> Iterator[Callable[..., RunningNode]]:
    """Yield a function that starts nodes on the CPU; they end with the module or by `stop`."""
    running: list[RunningNode] = []

    def run_node(model: str | Path, **parameters: Any) -> RunningNode:
        path = models.get(str(model), model)
        running.append(RunningNode(model=str(path), device="cpu", **parameters))
        return running[-1]

    yield run_node
    for each in running:
        if each.context.ok():
            each.stop()


@pytest.fixture
def scene() -> Scene:
    return Scene()
