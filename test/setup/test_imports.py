"""Imports point one way: from commands to folders, and from each folder to the ones below it."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# From the bottom up: a module imports from its own folder and from lower layers.
LAYERS = {
    "sgnet_core": (
        {"arguments", "files", "plugins"},
        {"geometry"},
        {"ops"},
        {"models"},
        {"data"},
        {"inference"},
        {"evaluation"},
        {"training"},
        {"benchmark", "convert", "eval", "export", "predict", "prepare", "train"},
    ),
    "sgnet_ros": (
        {"system"},
        {"messages"},
        {"recordings"},
        {"node"},
        {"bag_export", "bag_write", "camera", "demo", "replay_eval", "soak", "view"},
    ),
}
# Where the code is not there yet
EXCEPTIONS = {
    "sgnet_core": {
        ("benchmark", "export"),
        ("inference", "evaluation"),
        ("training", "convert"),
    },
    "sgnet_ros": {
        ("bag_write", "camera"),
        ("demo", "camera"),
        ("node", "demo"),
        ("replay_eval", "camera"),
        ("replay_eval", "demo"),
        ("soak", "demo"),
    },
}


@cache
def modules() -> dict[str, ast.Module]:
    """Return the syntax tree of every module of both packages by its dotted name."""
    paths = [path for name in LAYERS for path in (ROOT / name).rglob("*.py")]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
            path.read_text(encoding="utf-8")
        )
        for path in paths
    }


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imports(tree: ast.AST, lazy: bool = True) -> Iterator[str]:
    """Yield the dotted name of each import except those for types.

    Args:
        lazy: include imports inside functions.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in modules() else node.module for name in names)
        elif is_for_types(node):
            yield from (name for part in node.orelse for name in imports(part, lazy))
        elif lazy or not isinstance(node, ast.FunctionDef):
            yield from imports(node, lazy)


def imported_by(name: str) -> set[str]:
    """Return the modules of both packages that a module imports."""
    return {other for other in imports(modules()[name]) if other in modules()} - {name}


def folder(name: str) -> str:
    """Return the entry of the package's top level that a module belongs to."""
    return name.split(".")[1]


@pytest.mark.parametrize("package", LAYERS)
def test_every_entry_of_a_package_has_a_layer(package: str) -> None:
    found = {folder(name) for name in modules() if name.startswith(f"{package}.")}

    assert found == set().union(*LAYERS[package])


@pytest.mark.parametrize("package", LAYERS)
def test_imports_lead_to_the_own_folder_or_to_lower_layers(package: str) -> None:
    rank = {entry: i for i, layer in enumerate(LAYERS[package]) for entry in layer}
    wrong = {
        f"{name} imports {other}"
        for name in modules()
        if name.startswith(f"{package}.")
        for other in imported_by(name)
        if other.startswith(f"{package}.")
        if folder(name) != folder(other) and rank[folder(name)] <= rank[folder(other)]
        if (folder(name), folder(other)) not in EXCEPTIONS[package]
    }

    assert wrong == set()


def test_no_module_imports_itself_through_others() -> None:
    below = {name: imported_by(name) for name in modules()}
    below["sgnet_core.ops.triton_deform"] -= {"sgnet_core.ops.deform"}  # not there yet

    graphlib.TopologicalSorter(below).prepare()  # raises a CycleError that names the modules


def test_the_library_never_names_the_ros_package() -> None:
    for name, tree in modules().items():
        if name.partition(".")[0] == "sgnet_core":
            texts = {str(n.value) for n in ast.walk(tree) if isinstance(n, ast.Constant)}
            named = {text for text in texts | set(imports(tree)) if re.match(r"sgnet_ros\b", text)}
            assert named == set(), name


def test_ros_folders_import_nothing_by_themselves() -> None:
    for path in (ROOT / "sgnet_ros").rglob("__init__.py"):
        assert list(imports(ast.parse(path.read_text(encoding="utf-8")))) == [], path


def test_launch_files_need_no_pytorch() -> None:
    files = [*ROOT.glob("launch/*.py")]
    waiting = {name for file in files for name in imports(ast.parse(file.read_text()), lazy=False)}
    loaded: set[str] = set()
    while waiting:
        name = waiting.pop()
        loaded.add(name)
        parents = {name[: match.start()] for match in re.finditer(r"\.", name)}
        tree = modules().get(name, ast.Module([], []))
        waiting |= (parents | set(imports(tree, lazy=False))) - loaded

    assert files and "sgnet_ros.system.launching" in loaded
    assert {name.partition(".")[0] for name in loaded} & {"torch", "torchvision"} == set()
