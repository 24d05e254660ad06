"""The files for containers name existing files; no image is built here."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra train")

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text(encoding="utf-8")
STAGES = re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE, flags=re.MULTILINE)


def test_the_image_is_of_a_distribution_and_ends_with_the_node() -> None:
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, flags=re.MULTILINE) == [
        *("ros:${ROS_DISTRO}-ros-base", "dependencies", "dependencies")
    ]
    assert STAGES == ["dependencies", "tests", "node"]
    assert DOCKERFILE.index("ARG ROS_DISTRO=jazzy") < DOCKERFILE.index("FROM")


def test_copied_files_exist_and_are_not_left_out() -> None:
    sources = re.findall(r"^COPY (\S+) ", DOCKERFILE, flags=re.MULTILINE)
    assert sources == ["package.xml", ".", ".", "docker/entrypoint.sh"]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for source in sources:
        assert (ROOT / source).exists()
        assert source not in ignored
    for folder in ("msg", "sgnet_core", "sgnet_ros", "config", "launch", "test", "docker"):
        assert (ROOT / folder).is_dir() and folder not in ignored
    assert os.access(ROOT / "docker/entrypoint.sh", os.X_OK)


def test_the_devcontainer_uses_the_same_image() -> None:
    path = ROOT / ".devcontainer/devcontainer.json"
    container = json.loads(path.read_text(encoding="utf-8"))
    build = container["build"]
    assert (path.parent / build["dockerfile"]).resolve() == ROOT / "docker/Dockerfile"
    assert (path.parent / build["context"]).resolve() == ROOT
    assert build["target"] == "dependencies"
    assert container["workspaceFolder"] == "/ws/src/sgnet_ros"


def test_the_workflow_builds_and_tests_both_distributions() -> None:
    path = ROOT / ".github/workflows/distributions.yml"
    (job,) = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
    matrix = job["strategy"]["matrix"]
    assert matrix["distro"] == ["humble", "jazzy"]
    assert set(matrix["target"]) < set(STAGES)
    build = next(step["run"] for step in job["steps"] if "docker build" in step.get("run", ""))
    assert "--file docker/Dockerfile" in build
    assert "ROS_DISTRO=${{ matrix.distro }}" in build and "--target ${{ matrix.target }}" in build


@pytest.mark.parametrize(
    "name", ["docker/Dockerfile", ".github/workflows/distributions.yml", "docs/recipes.md"]
)
def test_files_that_were_not_run_say_so(name: str) -> None:
    assert re.search(r"[Nn]ot run", (ROOT / name).read_text(encoding="utf-8"))
