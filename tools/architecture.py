"""Draw the folders of both packages and the directions in which they may import each other.

`python tools/architecture.py` writes docs/images/architecture.svg from the layout in
tools/architecture_layout.py. With `--check`, it prints every difference between layout, drawing,
page and files instead, and exits with 1 if there is any.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from architecture_layout import ARROWS, PACKAGES, Layer
from architecture_svg import drawing

ROOT = Path(__file__).resolve().parent.parent
DRAWING = "docs/images/architecture.svg"
PAGE = "docs/architecture.md"

Import = tuple[str, str, str]  # component, imported component, file and line


def problems(root: Path) -> list[str]:
    """Return one sentence for each difference between a checkout and the layout."""
    found = [*undrawn_or_missing(root), *forbidden(imports(root)), *undocumented(root)]
    path = root / DRAWING
    if not path.is_file() or path.read_text(encoding="utf-8") != drawing(PACKAGES, ARROWS):
        found.append(f"{DRAWING} is out of date: run python tools/architecture.py.")
    return found


def undrawn_or_missing(root: Path) -> Iterator[str]:
    """Name the folders and top-level modules that only checkout or layout have."""
    for package in PACKAGES:
        drawn = set()
        for component in (component for layer in package.layers for component in layer.components):
            drawn.add(component.name)
            drawn.update(f"{component.name}{folder}/" for folder in component.folders.split())
        there = set()
        for path in (root / package.name).rglob("*"):
            name = path.relative_to(root / package.name).as_posix()
            if path.name.startswith(("__", ".")) or "__pycache__" in name:
                continue
            if path.is_dir():
                if any(inside.suffix != ".pyc" for inside in path.rglob("*") if inside.is_file()):
                    there.add(f"{name}/")
            elif path.suffix == ".py" and "/" not in name:
                there.add(path.stem)
        for name in sorted(there - drawn):
            yield f"{package.name}/{name} is not drawn: add it to tools/architecture_layout.py."
        for name in sorted(drawn - there):
            yield f"{package.name}/{name} is drawn, but does not exist."


def imports(root: Path) -> Iterator[Import]:
    """Find the imports between components, also inside functions and for type checkers."""
    packages = [package.name for package in PACKAGES]
    for name in packages:
        for path in sorted((root / name).rglob("*.py")):
            source = path.relative_to(root)
            if source.name == "__init__.py" and len(source.parts) == 2:
                continue  # It offers names of every component.
            component = ".".join(source.with_suffix("").parts[:2])
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                for module in imported(node):
                    target = ".".join(module.split(".")[:2])
                    if target.split(".")[0] in packages and target != component:
                        yield component, target, f"{source}:{getattr(node, 'lineno', 0)}"


def imported(node: ast.AST) -> list[str]:
    """Return the modules that an import statement names; none for other statements."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom) or node.module is None:
        return []
    if "." in node.module:
        return [node.module]
    return [f"{node.module}.{alias.name}" for alias in node.names]


def forbidden(found: Iterable[Import]) -> Iterator[str]:
    """Name the imports that go up, or sideways without an arrow."""
    level = {
        f"{package.name}.{component.name.rstrip('/')}": (house, number)
        for house, package in enumerate(PACKAGES)
        for number, layer in enumerate(package.layers)
        for component in layer.components
    }
    for component, target, place in found:
        if component not in level or target not in level:
            continue  # `undrawn_or_missing` reports it.
        if level[component] >= level[target] and (component, target) not in ARROWS:
            yield f"{place}: {component} imports {target} against the arrows of the drawing."


def undocumented(root: Path) -> Iterator[str]:
    """Name the commands and public names that docs/architecture.md does not describe."""
    path = root / PAGE
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    for package in PACKAGES:
        for component in commands(package.layers):
            if f"python -m {package.name}.{component}`" not in text:
                yield f"{PAGE} does not name the command python -m {package.name}.{component}."
    for name in public_names(root / "sgnet_core" / "__init__.py"):
        if f"`{name}`" not in text and f"`{name}(" not in text:
            yield f"{PAGE} does not describe {name}, which sgnet_core offers."


def commands(layers: tuple[Layer, ...]) -> Iterator[str]:
    """Yield the names of the components that are commands."""
    for layer in layers:
        for component in layer.components:
            if layer.name == "commands" or component.name == "node/":
                yield component.name.rstrip("/")


def public_names(path: Path) -> list[str]:
    """Return the names in a module's `__all__`, without importing it."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    raise ValueError(f"{path} has no __all__")


def main() -> int:
    """Write the drawing, or check it; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare, and write nothing")
    if not parser.parse_args().check:
        (ROOT / DRAWING).write_text(drawing(PACKAGES, ARROWS), encoding="utf-8")
        return 0
    found = problems(ROOT)
    print("\n".join(found) or "The drawing agrees with the checkout.")
    return min(len(found), 1)


if __name__ == "__main__":
    sys.exit(main())
