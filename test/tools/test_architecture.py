"""The drawing of the packages agrees with their folders and imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from architecture import forbidden, imported, imports, undocumented
from architecture import undrawn_or_missing as differences
from architecture_layout import PACKAGES


def tree(root: Path) -> Path:
    """Make empty files and folders as the layout has them."""
    for package in PACKAGES:
        for component in (component for layer in package.layers for component in layer.components):
            path = root / package.name / component.name
            if not component.name.endswith("/"):
                path = path.with_suffix(".py")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
                continue
            for folder in (path, *(path / inside for inside in component.folders.split())):
                folder.mkdir(parents=True)
                (folder / "a.py").touch()
    return root


def test_undrawn_and_missing_components_are_named(tmp_path: Path) -> None:
    root = tree(tmp_path)
    (root / "sgnet_core" / "attic").mkdir()
    (root / "sgnet_core" / "attic" / "old.py").touch()
    (root / "sgnet_core" / "files.py").unlink()
    found = list(differences(root))
    assert [text.split(" ")[0] for text in found] == ["sgnet_core/attic/", "sgnet_core/files"]


@pytest.mark.parametrize(
    ("file", "line", "target"),
    [
        ("sgnet_core/ops/a.py", "from sgnet_core.models.sgnet import SGNet", "sgnet_core.models"),
        ("sgnet_core/models/a.py", "import sgnet_ros.messages.images", "sgnet_ros.messages"),
        ("sgnet_core/training/a.py", "from sgnet_core import eval", "sgnet_core.eval"),
        ("sgnet_ros/node/a.py", "def f():\n    import sgnet_ros.demo.run", "sgnet_ros.demo"),
    ],
)
def test_an_import_against_the_arrows_is_named(
    tmp_path: Path, file: str, line: str, target: str
) -> None:
    root = tree(tmp_path)
    (root / file).write_text(line + "\n")
    [text] = forbidden(imports(root))
    assert text.startswith(file) and f" imports {target} against " in text


def test_an_import_along_the_arrows_is_not_named(tmp_path: Path) -> None:
    root = tree(tmp_path)
    (root / "sgnet_ros/node/a.py").write_text("from sgnet_core.inference.segmenter import S\n")
    (root / "sgnet_core/evaluation/a.py").write_text("from sgnet_core.inference.x import S\n")
    assert len(list(imports(root))) == 2
    assert list(forbidden(imports(root))) == []


def test_a_command_and_a_public_name_that_the_page_leaves_out_are_named(tmp_path: Path) -> None:
    root = tree(tmp_path)
    (root / "sgnet_core" / "__init__.py").write_text('__all__ = ["Segmenter"]\n')
    found = "\n".join(undocumented(root))
    assert "Segmenter" in found
    assert "python -m sgnet_core.train" in found


def test_every_name_of_an_import_counts() -> None:
    [statement] = ast.parse("from sgnet_core import models, ops as o").body
    assert imported(statement) == ["sgnet_core.models", "sgnet_core.ops"]
