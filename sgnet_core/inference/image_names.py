"""Tell by their names which image files show one frame, and whether they are color or depth."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
ARRAY_SUFFIXES = (".npy", ".npz")

_DEPTH_FOLDER = re.compile(r"^((aligned|registered|raw)[ ._-]?)?depth|depth$", re.IGNORECASE)


class InputError(ValueError):
    """An input that holds no frames or cannot be read; the message names it and the remedy."""


def image_key(path: Path) -> str:
    """Return the common name of a frame's images: the stem without the words for the kind.

    ``7.rgb.jpg`` and ``7.depth.png`` are both "7", ``0001-color.png`` and ``0001-depth.png``
    "0001"; so are ``rgb/0001.jpg`` and ``depth/0001.png``.
    """
    name = unicodedata.normalize("NFC", path.stem)  # macOS decomposes letters and accents
    return re.sub(r"rgb|colou?r|image|depth", "", name, flags=re.IGNORECASE).strip("._- ")


def kind_of(path: Path) -> str:
    """Return "color", "depth" or "other", by the file's name or else its folder's."""
    suffix, stem = path.suffix.lower(), path.stem.lower()
    folder = path.absolute().parent.name
    if path.name.startswith(".") or suffix not in IMAGE_SUFFIXES + ARRAY_SUFFIXES:
        return "other"
    if suffix in ARRAY_SUFFIXES or "depth" in stem:
        return "depth"
    if "label" in stem or folder.lower().startswith("label"):
        return "other"
    silent = not re.search("rgb|colou?r|image", stem)
    return "depth" if silent and _DEPTH_FOLDER.search(folder) else "color"


class DepthFinder:
    """Find the depth images of color images; every folder is listed once."""

    def __init__(self) -> None:
        self._listed: dict[Path, dict[str, list[Path]]] = {}

    def find(self, color: Path) -> Path | None:
        """Find the image with the color image's `image_key`, in its folder or in one for depth
        beside that (``depth``, ``aligned_depth``, ``kinect_depth`` …); None where there is none.

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
