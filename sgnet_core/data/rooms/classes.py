"""The NYU-40 ids that the rooms use."""

from __future__ import annotations

WALL, FLOOR, CABINET, BED, CHAIR, SOFA, TABLE, DOOR, WINDOW, BOOKSHELF, PICTURE, COUNTER = range(12)
PILLOW, CEILING, BOOKS, TELEVISION, BOX, LAMP, PROP = 17, 21, 22, 24, 28, 34, 39

CLASSES = (
    WALL,
    FLOOR,
    CABINET,
    BED,
    CHAIR,
    SOFA,
    TABLE,
    DOOR,
    WINDOW,
    BOOKSHELF,
    PICTURE,
    COUNTER,
    PILLOW,
    CEILING,
    BOOKS,
    TELEVISION,
    BOX,
    LAMP,
    PROP,
)
"""Every id that a rendered frame can hold."""
