"""Draw packages, floors and rooms as one SVG."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from html import escape

from architecture_layout import Floor, Package, Room

WIDTH = 980
MARGIN = 10
LABELS = 96  # width of the column with the names of the floors
GAP = 12  # between rooms
BETWEEN_FLOORS = 26
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
    """Return the SVG text: packages below each other, floors from top to ground, arrows down."""
    parts: list[str] = []
    top = MARGIN
    for package in packages:
        if parts:
            parts.append(_arrow([(WIDTH // 2, top), (WIDTH // 2, top + BETWEEN_FLOORS)]))
            parts.append(
                _text(WIDTH // 2 + 10, top + 17, "imports, and one question per frame", "small")
            )
            top += BETWEEN_FLOORS + 4
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
    for number, floor in enumerate(package.floors):
        if number:
            yield _arrow([(WIDTH // 2, y - BETWEEN_FLOORS + 3), (WIDTH // 2, y - 3)])
        sideways = [pair for pair in arrows if _stands_on(pair[0], package, floor)]
        y += _arches_height(len(sideways))
        yield _text(MARGIN + 14, y + 22, floor.name, "small")
        centers = {}
        for room, x, width in _places(floor):
            centers[f"{package.name}.{room.name.rstrip('/')}"] = x + width // 2
            yield from _room(room, package.name, x, y, width, _room_height(floor))
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
        y += _room_height(floor) + BETWEEN_FLOORS


def _room(room: Room, style: str, x: int, y: int, width: int, height: int) -> Iterator[str]:
    yield _box(style, x, y, width, height)
    yield _text(x + 10, y + 18, room.name, "name")
    for number, line in enumerate(_lines(room, width)):
        yield _text(x + 10, y + 34 + LINE * number, line, "small")
    sizes = [round(len(folder) * 7.3) + 16 for folder in room.folders.split()]
    beside = 24 + round(len(room.name) * 7.3) + sum(sizes) < width
    top = y + 5 if beside else y + height - 19
    right = x + width - 4 - sum(sizes)
    for folder, size in zip(room.folders.split(), sizes, strict=True):
        yield _box("folder", right, top, size - 4, 16)
        yield _text(right + 3, top + 12, f"{folder}/", "name")
        right += size


def _places(floor: Floor) -> Iterator[tuple[Room, int, int]]:
    """Return every room with its left edge and width: shares of the row by the text inside."""
    available = WIDTH - 2 * MARGIN - LABELS - 14 - GAP * (len(floor.rooms) - 1)
    width = available // len(floor.rooms)
    x = MARGIN + LABELS
    for room in floor.rooms:
        yield room, x, width
        x += width + GAP


def _lines(room: Room, width: int) -> list[str]:
    return textwrap.wrap(room.text, round((width - 16) / CHARACTER))


def _room_height(floor: Floor) -> int:
    lines = max(len(_lines(room, width)) for room, _, width in _places(floor))
    return 28 + LINE * lines


def _arches_height(count: int) -> int:
    return 6 + 6 * count if count else 0


def _package_height(package: Package, arrows: Sequence[tuple[str, str]]) -> int:
    height = TITLE - BETWEEN_FLOORS + 14
    for floor in package.floors:
        sideways = sum(_stands_on(source, package, floor) for source, _ in arrows)
        height += _room_height(floor) + BETWEEN_FLOORS + _arches_height(sideways)
    return height


def _stands_on(room: str, package: Package, floor: Floor) -> bool:
    return room in [f"{package.name}.{other.name.rstrip('/')}" for other in floor.rooms]


def _box(style: str, x: int, y: int, width: int, height: int) -> str:
    return f'<rect class="{style}" x="{x}" y="{y}" width="{width}" height="{height}" rx="5"/>'


def _text(x: int, y: int, text: str, style: str) -> str:
    return f'<text class="{style}" x="{x}" y="{y}">{escape(text)}</text>'


def _arrow(points: Sequence[tuple[int, int]]) -> str:
    path = "L".join(f"{x} {y}" for x, y in points)
    return f'<path class="arrow" d="M{path}"/>'
