"""Imports never come back to where they started, and launch files load little.

The layers are in tools/architecture_layout.py; test/tools/test_docs.py checks them.
"""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = ("sgnet_core", "sgnet_ros")


@cache
def modules() -> dict[str, ast.Module]:
    """Return the syntax tree of every module of both packages by its dotted name."""
    paths = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
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


def test_no_module_imports_itself_through_others() -> None:
    below = {name: set(imports(tree)) - {name} for name, tree in modules().items()}

    graphlib.TopologicalSorter(below).prepare()  # raises a CycleError that names the modules


def test_the_library_never_names_the_ros_package() -> None:
    for name, tree in modules().items():
        if name.partition(".")[0] == "sgnet_core":
            texts = {str(n.value) for n in ast.walk(tree) if isinstance(n, ast.Constant)}
            named = {text for text in texts | set(imports(tree)) if re.match(r"sgnet_ros\b", text)}
            assert named == set(), name


def test_init_files_of_ros_folders_import_nothing() -> None:
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
