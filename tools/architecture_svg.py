"""Drawing of packages, layers and components as one SVG."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from html import escape

from architecture_layout import Component, Layer, Package

WIDTH = 980
MARGIN = 10
LABELS = 96  # width of the column with the names of the layers
GAP = 12  # between components
BETWEEN_LAYERS = 26
TITLE = 30
LINE = 14  # height of a line of small text
CHARACTER = 5.5  # average width of a character of small text, in pixels

STYLE = """
      .package{fill:#f6f8fa;stroke:#b8c0c8}.sgnet_ros{fill:#e8f1fb;stroke:#6b9bd1}
      .sgnet_core{fill:#eaf6ec;stroke:#63ab72}.folder{fill:#fff;stroke:#b8c0c8}
      .arrow{stroke:#555;stroke-width:1.4;fill:none;marker-end:url(#head)}
      text{fill:#222}.title{font-weight:bold}.small{font-size:11px;fill:#555}
      .name{font-family:Menlo,Consolas,DejaVu Sans Mono,monospace;font-size:12px}
"""


def drawing(packages: Sequence[Package], arrows: Sequence[tuple[str, str]]) -> str:
    """Return the text of the SVG: packages and their layers below each other, joined by arrows."""
    parts: list[str] = []
    top = MARGIN
    for package in packages:
        if parts:
            parts.append(_arrow([(WIDTH // 2, top), (WIDTH // 2, top + BETWEEN_LAYERS)]))
            parts.append(
                _text(WIDTH // 2 + 10, top + 17, "imports, and one question per frame", "small")
            )
            top += BETWEEN_LAYERS + 4
        height = _package_height(package, arrows)
        parts += _package(package, arrows, top, height)
        top += height
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + MARGIN}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="13">\n'
        "  <title>Folders of sgnet_ros and sgnet_core; imports go down</title>\n"
        '  <defs>\n    <marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#555"/></marker>\n'
        f"    <style>{STYLE}    </style>\n  </defs>\n"
        f'  <rect width="{WIDTH}" height="{top + MARGIN}" fill="#fff"/>\n'
    )
    return head + "".join(f"  {part}\n" for part in parts) + "</svg>\n"


def _package(
    package: Package, arrows: Sequence[tuple[str, str]], top: int, height: int
) -> Iterator[str]:
    yield _box("package", MARGIN, top, WIDTH - 2 * MARGIN, height)
    yield _text(MARGIN + 14, top + 20, f"{package.name}: {package.text}", "title")
    y = top + TITLE
    for number, layer in enumerate(package.layers):
        if number:
            yield _arrow([(WIDTH // 2, y - BETWEEN_LAYERS + 3), (WIDTH // 2, y - 3)])
        sideways = [pair for pair in arrows if _stands_on(pair[0], package, layer)]
        y += _arches_height(len(sideways))
        yield _text(MARGIN + 14, y + 22, layer.name, "small")
        centers = {}
        for component, x, width in _places(layer):
            centers[f"{package.name}.{component.name.rstrip('/')}"] = x + width // 2
            yield from _component(component, package.name, x, y, width, _component_height(layer))
        for lane, (source, target) in enumerate(sideways):
            arch = y - 6 - 6 * lane
            shift = 4 * lane - 8
            yield _arrow(
                [
                    (centers[source] + shift, y),
                    (centers[source] + shift, arch),
                    (centers[target] + shift, arch),
                    (centers[target] + shift, y - 1),
                ]
            )
        y += _component_height(layer) + BETWEEN_LAYERS


def _component(
    component: Component, style: str, x: int, y: int, width: int, height: int
) -> Iterator[str]:
    yield _box(style, x, y, width, height)
    yield _text(x + 10, y + 18, component.name, "name")
    for number, line in enumerate(_lines(component, width)):
        yield _text(x + 10, y + 34 + LINE * number, line, "small")
    sizes = [round(len(folder) * 7.3) + 16 for folder in component.folders.split()]
    beside = 24 + round(len(component.name) * 7.3) + sum(sizes) < width
    top = y + 5 if beside else y + height - 19
    right = x + width - 4 - sum(sizes)
    for folder, size in zip(component.folders.split(), sizes, strict=True):
        yield _box("folder", right, top, size - 4, 16)
        yield _text(right + 3, top + 12, f"{folder}/", "name")
        right += size


def _places(layer: Layer) -> Iterator[tuple[Component, int, int]]:
    """Yield every component with its left edge and its width, which is the same for all."""
    available = WIDTH - 2 * MARGIN - LABELS - 14 - GAP * (len(layer.components) - 1)
    width = available // len(layer.components)
    x = MARGIN + LABELS
    for component in layer.components:
        yield component, x, width
        x += width + GAP


def _lines(component: Component, width: int) -> list[str]:
    return textwrap.wrap(component.text, round((width - 16) / CHARACTER))


def _component_height(layer: Layer) -> int:
    lines = max(len(_lines(component, width)) for component, _, width in _places(layer))
    return 28 + LINE * lines


def _arches_height(count: int) -> int:
    return 6 + 6 * count if count else 0


def _package_height(package: Package, arrows: Sequence[tuple[str, str]]) -> int:
    height = TITLE - BETWEEN_LAYERS + 14
    for layer in package.layers:
        sideways = sum(_stands_on(source, package, layer) for source, _ in arrows)
        height += _component_height(layer) + BETWEEN_LAYERS + _arches_height(sideways)
    return height


def _stands_on(component: str, package: Package, layer: Layer) -> bool:
    return component in [f"{package.name}.{other.name.rstrip('/')}" for other in layer.components]


def _box(style: str, x: int, y: int, width: int, height: int) -> str:
    return f'<rect class="{style}" x="{x}" y="{y}" width="{width}" height="{height}" rx="5"/>'


def _text(x: int, y: int, text: str, style: str) -> str:
    return f'<text class="{style}" x="{x}" y="{y}">{escape(text)}</text>'


def _arrow(points: Sequence[tuple[int, int]]) -> str:
    path = "L".join(f"{x} {y}" for x, y in points)
    return f'<path class="arrow" d="M{path}"/>'
