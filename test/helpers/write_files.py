"""Write the files of a data set without the writers of the product."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def save(path: Path, array: np.ndarray) -> None:
    """Write an image, or an array as ``.npy``, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        Image.fromarray(array).save(path)


def write_json(path: Path, values: object) -> None:
    """Write JSON and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


def change_files(folder: Path, files: Mapping[str, object]) -> None:
    """Change files of a folder, each named by its path.

    None deletes a file, a number keeps so many of its bytes, an array becomes an image, text is
    written as it is, and other values as JSON.
    """
    for name, content in files.items():
        path = folder / name
        if content is None:
            path.unlink()
        elif isinstance(content, int):
            path.write_bytes(path.read_bytes()[:content])
        elif isinstance(content, np.ndarray):
            save(path, content)
        elif isinstance(content, str):
            path.write_text(content)
        else:
            write_json(path, content)


def png_of(chunks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a PNG of these chunks: kind and data."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def jpeg_of_scans(pixels: np.ndarray, extra: int) -> bytes:
    """Return a progressive JPEG whose last scan is there some more times."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", progressive=True, quality=95)
    whole = buffer.getvalue()
    start, end = whole.rindex(b"\xff\xda"), whole.rindex(b"\xff\xd9")
    return whole[:start] + whole[start:end] * (1 + extra) + whole[end:]


def add_macos_files(folder: Path) -> None:
    """Put a ``._NAME`` beside each file, as macOS does in archives and on other file systems."""
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00")
