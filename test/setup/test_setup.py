"""package.xml, setup.py and the imports of the code agree."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
from configparser import ConfigParser
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import setuptools

ROOT = Path(__file__).resolve().parents[2]
OWN = {"sgnet_core", "sgnet_ros"}
TEST_MODULES = {"check_docs", *(path.stem for path in (ROOT / "test" / "helpers").glob("*.py"))}
# Distributions that are named otherwise than their module
MODULES = {
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "rerun-sdk": "rerun",
    "scikit-learn": "sklearn",
}
# Tools that are run, and libraries that other libraries import
NOT_IMPORTED = {
    *("furo", "mypy", "myst-parser", "ruff", "sphinx", "tensorboard"),
    *("pre-commit", "pytest-cov", "pytest-timeout", "pytest-xdist"),
}
COMES_WITH_ROSBAGS = {"ruamel"}
COMES_WITH_TORCH = {"triton"}  # with its CUDA builds; optional
ROSDEP_KEYS = {
    "numpy": "python3-numpy",
    "opencv-python-headless": "python3-opencv",
    "pillow": "python3-pil",
    "rosbags": "python3-rosbags-pip",
    "torch": "python3-pytorch-pip",
    "tqdm": "python3-tqdm",
    "torchvision": "python3-torchvision-pip",
    "hypothesis": "python3-hypothesis",
    "pytest": "python3-pytest",
    "pytest-timeout": "python3-pytest-timeout",
}
BUILT_HERE = {"sgnet_msgs"}
NO_ROSDEP_KEY = {"fsspec", "safetensors"}  # fsspec comes with PyTorch


@pytest.fixture(scope="module")
def setup_arguments() -> dict[str, Any]:
    """Return the arguments that setup.py passes to setuptools."""
    with pytest.MonkeyPatch.context() as patch:
        arguments: dict[str, Any] = {}
        patch.chdir(ROOT)
        patch.setattr(setuptools, "setup", lambda **keywords: arguments.update(keywords))
        runpy.run_path("setup.py")
    return arguments


def distribution(requirement: str) -> str:
    """Return the distribution that a requirement names: "torch" for "torch>=2.11,<2.16"."""
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


def distributions(requirements: list[str]) -> set[str]:
    return {distribution(requirement) for requirement in requirements}


def package_xml(path: str = "package.xml") -> ElementTree.Element:
    return ElementTree.parse(ROOT / path).getroot()


def declared(tag: str) -> set[str]:
    return {element.text or "" for element in package_xml().iter(tag)}


def imported(*folders: str) -> set[str]:
    """Return the top-level modules that the code of the folders imports, anywhere in a file."""
    return set().union(*map(imported_by, folders)) - set(sys.stdlib_module_names) - OWN


@cache
def imported_by(folder: str) -> frozenset[str]:
    modules: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                modules.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
                ("import_module", "importorskip")
            ):
                names = [a.value for a in node.args[:1] if isinstance(a, ast.Constant)]
                modules |= {name.partition(".")[0] for name in names}
    return frozenset(modules)


def ros_wheels(arguments: dict[str, Any]) -> set[str]:
    """Return the ROS packages that the extra `ros` installs."""
    names = distributions(arguments["extras_require"]["ros"])
    return {name.removeprefix("ros-jazzy-").replace("-", "_") for name in names if "jazzy" in name}


def python_modules(arguments: dict[str, Any]) -> dict[str, str]:
    """Return the module of each distribution that does not come from ROS, by distribution."""
    groups = [arguments["install_requires"]]
    groups += [group for name, group in arguments["extras_require"].items() if name != "ros"]
    names = set().union(*map(distributions, groups))
    return {name: MODULES.get(name, name.replace("-", "_")) for name in names}


def test_every_ros_package_that_is_imported_is_declared(setup_arguments) -> None:
    ros = imported("sgnet_ros", "launch") - set(python_modules(setup_arguments).values())
    ros -= COMES_WITH_ROSBAGS
    keys = set(ROSDEP_KEYS.values())
    tests = imported("test/ros", "test/launch") - set(python_modules(setup_arguments).values())
    run = declared("exec_depend") | declared("depend")

    assert ros - run == BUILT_HERE
    # for LabelInfo, and for the messages that are built here
    assert run - keys - ros <= {"vision_msgs", "rosidl_default_runtime"}
    undeclared = tests - run - declared("test_depend")
    assert undeclared <= {*TEST_MODULES, *BUILT_HERE, "setuptools"}


def test_imported_ros_packages_come_as_wheels_or_are_optional(setup_arguments) -> None:
    distribution_only = {
        *(
            "bondpy",
            "cv_bridge",
            "launch",
            "launch_ros",
            "message_filters",
            "tf2_msgs",
            "tf2_py",
            "vision_msgs",
        )
    }
    ros = imported("sgnet_ros", "launch") - set(python_modules(setup_arguments).values())

    assert ros - ros_wheels(setup_arguments) - COMES_WITH_ROSBAGS <= distribution_only | BUILT_HERE


def test_every_python_dependency_is_imported_and_every_import_is_a_dependency(
    setup_arguments,
) -> None:
    modules = python_modules(setup_arguments)
    used = imported("sgnet_core", "sgnet_ros", "test")
    unused = {name for name, module in modules.items() if module not in used}

    assert imported("sgnet_core") - set(modules.values()) <= COMES_WITH_TORCH
    assert unused <= NOT_IMPORTED


def test_rosdep_installs_what_pip_would(setup_arguments) -> None:
    needed = distributions(setup_arguments["install_requires"]) | {"rosbags"}
    tools = {"hypothesis", "pytest", "pytest-timeout"}

    assert {ROSDEP_KEYS[name] for name in needed - NO_ROSDEP_KEY} <= declared("exec_depend")
    assert {ROSDEP_KEYS[name] for name in tools} <= declared("test_depend")


def test_every_dependency_is_named_once_with_a_range(setup_arguments) -> None:
    extras = setup_arguments["extras_require"].values()
    requirements = sum(extras, [*setup_arguments["install_requires"]])
    names = [distribution(requirement).lower() for requirement in requirements]

    assert sorted(names) == sorted(set(names))
    for requirement in requirements:
        assert re.search(r"(>=[\d.]+,<[\d.]+|==[\d.]+)(; .*)?$", requirement), requirement


def test_the_library_does_not_import_ros(setup_arguments) -> None:
    ros = declared("exec_depend") | ros_wheels(setup_arguments)

    assert imported("sgnet_core") & ros == set()


def test_both_packages_and_setup_py_have_one_version_and_license(setup_arguments) -> None:
    packages = [package_xml(), package_xml("msg/package.xml")]

    assert {p.findtext("version") for p in packages} == {setup_arguments["version"]}
    assert {p.findtext("license") for p in packages} == {setup_arguments["license"]}
    assert [p.findtext("name") for p in packages] == [setup_arguments["name"], "sgnet_msgs"]


def test_the_root_package_declares_what_its_messages_need() -> None:
    """colcon and rosdep look no further than the root's package.xml."""
    root, messages = package_xml(), package_xml("msg/package.xml")

    def named(package: ElementTree.Element) -> set[tuple[str, str]]:
        return {(e.tag, e.text or "") for e in package if "depend" in e.tag or "member" in e.tag}

    assert named(messages) <= named(root)
    assert ("exec_depend", "sgnet_msgs") not in named(root), "no package of this name is released"
    assert root.findtext("export/build_type") == "ament_cmake"


def test_all_files_for_ros_are_installed(setup_arguments) -> None:
    installed = {
        f"{folder}/{Path(file).name}": file
        for folder, files in setup_arguments["data_files"]
        for file in files
    }
    shared = [*ROOT.glob("launch/*.py"), *ROOT.glob("config/**/*.*"), ROOT / "package.xml"]
    wanted = {f"share/sgnet_ros/{path.relative_to(ROOT)}" for path in shared}

    assert set(installed) == {*wanted, "share/ament_index/resource_index/packages/sgnet_ros"}
    for path, file in installed.items():
        assert (ROOT / file).is_file()
        assert path.endswith(file) or file == "resource/sgnet_ros"


def test_every_entry_point_names_a_definition_that_is_there(setup_arguments) -> None:
    assert "entry_points" not in setup_arguments, "they would replace those in setup.cfg"
    setup_cfg = ConfigParser()
    setup_cfg.read(ROOT / "setup.cfg")
    groups = setup_cfg["options.entry_points"]
    commands = [line for group in groups.values() for line in group.splitlines() if line]
    assert set(groups) == {"console_scripts", "sgnet.benchmark_suites", "sgnet.recordings"}
    for command in commands:
        module, function = command.partition(" = ")[2].split(":")
        path = ROOT / (module.replace(".", "/") + ".py")
        definitions = [n.name for n in ast.parse(path.read_text()).body if hasattr(n, "name")]
        assert function in definitions, command


def test_inference_runs_on_the_bare_install(setup_arguments) -> None:
    extras = setup_arguments["extras_require"]
    names = set().union(*(distributions(extras[name]) for name in extras if name != "ros"))
    hidden = {MODULES.get(name, name.replace("-", "_")) for name in names}
    hidden |= ros_wheels(setup_arguments) | {"sgnet_msgs"}
    code = f"""
import sys
for module in {sorted(hidden)}:
    sys.modules[module] = None  # importing it fails, as where it is not installed
import numpy as np
from sgnet_core import Segmenter, create_model
from sgnet_core.geometry.intrinsics import Intrinsics
import sgnet_core.predict
segmenter = Segmenter(create_model("plain_r18", num_classes=5), device="cpu")
depth = np.ones((32, 48), np.float32)
rgb = np.zeros((32, 48, 3), np.uint8)
prediction = segmenter.segment(rgb, depth, Intrinsics(40.0, 40.0, 23.5, 15.5, 48, 32))
assert prediction.labels.shape == (32, 48) and prediction.labels.max() < 5
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)

    assert result.returncode == 0, result.stderr
