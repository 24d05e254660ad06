"""Pair the color and depth images of a frame by their file names."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
ARRAY_SUFFIXES = (".npy", ".npz")

_DEPTH_FOLDER = re.compile(r"^((aligned|registered|raw)[ ._-]?)?depth|depth$", re.IGNORECASE)


class InputError(ValueError):
    """An input that contains no frames or cannot be read; the message names it and the remedy."""


def image_key(path: Path) -> str:
    """Return the stem without words such as "rgb" and "depth", which images of a frame share.

    ``7.rgb.jpg`` and ``7.depth.png`` are both "7"; ``0001-color.png``, ``0001-depth.png``,
    ``rgb/0001.jpg`` and ``depth/0001.png`` are all "0001".
    """
    name = unicodedata.normalize("NFC", path.stem)  # macOS decomposes accented letters
    return re.sub(r"rgb|colou?r|image|depth", "", name, flags=re.IGNORECASE).strip("._- ")


def kind_of(path: Path) -> str:
    """Return "color", "depth" or "other" for a file, by its name or else by its folder's name."""
    suffix, stem = path.suffix.lower(), path.stem.lower()
    folder = path.absolute().parent.name
    if path.name.startswith(".") or suffix not in IMAGE_SUFFIXES + ARRAY_SUFFIXES:
        return "other"
    if suffix in ARRAY_SUFFIXES or "depth" in stem:
        return "depth"
    if "label" in stem or folder.lower().startswith("label"):
        return "other"
    named_color = re.search("rgb|colou?r|image", stem)
    return "depth" if not named_color and _DEPTH_FOLDER.search(folder) else "color"


class DepthFinder:
    """Finds the depth images of color images; every folder is listed only once."""

    def __init__(self) -> None:
        self._listed: dict[Path, dict[str, list[Path]]] = {}

    def find(self, color: Path) -> Path | None:
        """Find the depth image with the same `image_key`; None if there is none.

        It is in the folder of the color image, or in a folder for depth next to that (``depth``,
        ``aligned_depth``, ``kinect_depth`` …).

        Raises:
            InputError: there are several.
        """
        parent = color.absolute().parent
        found = self._in(color.parent).get(image_key(color), [])
        if not found:
            folders = sorted(p for p in parent.parent.iterdir() if p.is_dir())
            beside = [folder for folder in folders if _DEPTH_FOLDER.search(folder.name)]
            found = [
                path for folder in beside for path in self._in(folder).get(image_key(color), [])
            ]
        if len(found) > 1:
            raise InputError(f"{color} has several depth images: {found[0]} and {found[1]}")
        return found[0] if found else None

    def _in(self, folder: Path) -> dict[str, list[Path]]:
        if folder not in self._listed:
            images: dict[str, list[Path]] = {}
            for path in sorted(folder.iterdir()):
                if kind_of(path) == "depth":
                    images.setdefault(image_key(path), []).append(path)
            self._listed[folder] = images
        return self._listed[folder]
