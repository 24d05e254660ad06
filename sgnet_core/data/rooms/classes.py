"""Ids of the `NYU40` classes in the rooms."""

from __future__ import annotations

WALL, FLOOR, CABINET, BED, CHAIR, SOFA, TABLE, DOOR, WINDOW, BOOKSHELF, PICTURE, COUNTER = range(12)
PILLOW, CEILING, BOOKS, TELEVISION, BOX, LAMP, PROP = 17, 21, 22, 24, 28, 34, 39

CLASSES = (*range(COUNTER + 1), PILLOW, CEILING, BOOKS, TELEVISION, BOX, LAMP, PROP)
"""All ids in the labels of rendered frames."""
