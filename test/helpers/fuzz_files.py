"""Read mutated files in a process with bounded memory and time: ``python fuzz_files.py FOLDER N``.

Prints one JSON object: kind of file → [number refused, number read].
"""

from __future__ import annotations

import io
import json
import resource
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]
import numpy as np
import scipy.io  # type: ignore[import-untyped]
from PIL import Image

from sgnet_core.data.datasets.folder import PlainFolder, read_camera, read_classes
from sgnet_core.data.datasets.frame_files import DatasetError, read_lines
from sgnet_core.data.datasets.matlab import read_mat
from sgnet_core.data.datasets.shards import Shards, write_shards
from sgnet_core.data.images import ImageFileError, read_depth, read_labels, read_rgb
from sgnet_core.fleet.manifest import Manifest, Recipe, read_manifest, up_to_date
from sgnet_core.fleet.storage import Destination
from sgnet_core.models.labels import NYU40

MEMORY = 1536 << 20  # bytes beyond what the process has at its start
SECONDS = 600  # of the processor

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (24, 32, 3), np.uint8)
DEPTH = RNG.integers(0, 9000, (24, 32)).astype(np.uint16)

Reader = Callable[[Path], object]


def is_color(path: Path) -> None:
    image = read_rgb(path)
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


def is_depth(path: Path) -> None:
    depth = read_depth(path)
    assert depth.dtype == np.float32 and depth.ndim == 2


def is_labels(path: Path) -> None:
    labels = read_labels(path)
    assert labels.dtype == np.uint8 and labels.ndim == 2


def is_manifest(path: Path) -> None:
    destination = Destination(str(path.parent))
    manifest = read_manifest(destination, "")
    if manifest is None:
        raise DatasetError("no manifest")
    up_to_date(manifest, manifest.recipe, destination, "")


def is_shard(path: Path) -> None:
    sample = Shards(str(path.parent))[0]
    assert sample.rgb.shape == (*sample.depth.shape, 3) and sample.labels.max() <= 255


def image_bytes(pixels: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, **options)
    return buffer.getvalue()


def files(folder: Path) -> dict[str, tuple[str, bytes, Reader]]:
    """Return a sound file of each kind: kind → its name, content and reader."""
    numbers = {"a": np.arange(40).reshape(5, 8), "text": "words", "cells": np.array([1, "b"], "O")}
    numbers["struct"] = {"x": np.eye(3), "names": np.array(["wall", "floor"], "O")}
    plain, packed = io.BytesIO(), io.BytesIO()
    scipy.io.savemat(plain, numbers)
    scipy.io.savemat(packed, numbers, do_compression=True)
    with h5py.File(folder / "v73.mat", "w") as file:
        file["a"] = numbers["a"]
        file.create_dataset("b", data=DEPTH, chunks=(8, 8), compression="gzip")
        file.create_group("struct")["x"] = np.eye(3)
    array, arrays = io.BytesIO(), io.BytesIO()
    np.save(array, DEPTH * np.float32(0.001))
    np.savez_compressed(arrays, depth=DEPTH, other=COLOR)
    classes = {"name": "lab", "names": ["wall", "floor"], "ids": [0, 9], "ignore": [3]}
    classes["colors"] = [[1, 2, 3], [4, 5, 6]]
    camera = {"width": 32, "height": 24, "fx": 25.5, "fy": 25, "cx": 15.5, "cy": 11.5}
    recipe = Recipe("f" * 64, "0" * 64, {"scales": [1.0], "ply": False})
    manifest = Manifest(
        *(["a.mcap"], recipe, ["labels", "overlay"], 3, ["x"], {"2": 7}, "m", NYU40.to_dict()),
        *("cpu", "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:01+00:00"),
    )
    manifest.write(Destination(str(folder)), "")
    return {
        "color PNG": ("c.png", image_bytes(COLOR, format="PNG"), is_color),
        "palette PNG": ("p.png", image_bytes(COLOR[..., 0], format="PNG"), is_labels),
        "16-bit PNG": ("d.png", image_bytes(DEPTH, format="PNG"), is_depth),
        "JPEG": ("c.jpg", image_bytes(COLOR, format="JPEG"), is_color),
        "progressive JPEG": (
            "p.jpg",
            image_bytes(COLOR, format="JPEG", progressive=True),
            is_color,
        ),
        "TIFF": ("d.tif", image_bytes(DEPTH, format="TIFF", compression="tiff_lzw"), is_depth),
        ".npy": ("d.npy", array.getvalue(), is_depth),
        ".npz": ("d.npz", arrays.getvalue(), is_depth),
        "classes.json": ("classes.json", json.dumps(classes).encode(), read_classes),
        "camera.json": ("camera.json", json.dumps(camera).encode(), read_camera),
        "list": ("train.txt", "\n".join(f"{i:04d}" for i in range(50)).encode(), read_lines),
        "manifest": ("manifest.json", (folder / "manifest.json").read_bytes(), is_manifest),
        ".mat v5": ("v5.mat", plain.getvalue(), read_mat),
        ".mat v5, compressed": ("v5z.mat", packed.getvalue(), read_mat),
        ".mat v7.3": ("v73.mat", (folder / "v73.mat").read_bytes(), read_mat),
        "shard": ("00000.tar", (folder / "00000.tar").read_bytes(), is_shard),
        "index of shards": ("shards.json", (folder / "shards.json").read_bytes(), is_shard),
    }


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Change, remove, repeat or insert a few bytes; the header is hit as often as the rest."""
    damaged = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        reach = len(damaged) if rng.random() < 0.5 else min(len(damaged), 200)
        at = int(rng.integers(0, max(reach, 1)))
        length = int(rng.choice([1, 1, 1, 2, 4, 8]))
        how = rng.random()
        if how < 0.6:
            damaged[at : at + length] = rng.bytes(length)
        elif how < 0.75:
            damaged[at : at + length] = bytes([rng.choice([0, 255])]) * length
        elif how < 0.85:
            del damaged[at : at + length]
        elif how < 0.95:
            damaged[at:at] = damaged[at : at + length]
        else:
            del damaged[at:]
    if damaged.startswith(PNG_MAGIC) and rng.random() < 0.8:
        correct_checksums(damaged)
    return bytes(damaged)


def correct_checksums(png: bytearray) -> None:
    """Write the checksums of a PNG's chunks, so that more than the checksum is tested."""
    at = len(PNG_MAGIC)
    while at + 12 <= len(png):
        (size,) = struct.unpack_from(">I", png, at)
        end = at + 8 + size
        if end + 4 > len(png):
            return
        struct.pack_into(">I", png, end, zlib.crc32(png[at + 4 : end]))
        at = end + 4


def limit() -> None:
    """Bound what this process may allocate and compute from now on."""
    status = Path("/proc/self/status").read_text()
    now = int(status.partition("VmData:")[2].split()[0]) << 10
    resource.setrlimit(resource.RLIMIT_DATA, (now + MEMORY, now + MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))


def main(folder: Path, count: int) -> None:
    source = folder / "source"
    for kind in ("rgb", "depth", "labels"):
        (source / kind).mkdir(parents=True)
    (source / "rgb" / "a.png").write_bytes(image_bytes(COLOR, format="PNG"))
    (source / "depth" / "a.png").write_bytes(image_bytes(DEPTH, format="PNG"))
    (source / "labels" / "a.png").write_bytes(image_bytes(COLOR[..., 0] % 40, format="PNG"))
    (source / "classes.json").write_text('"nyu40"')
    camera = {"width": 32, "height": 24, "fx": 25.5, "fy": 25, "cx": 15.5, "cy": 11.5}
    (source / "camera.json").write_text(json.dumps(camera))
    write_shards(str(folder), PlainFolder(source))
    kinds = files(folder)
    limit()
    outcomes = {}
    for kind, (name, content, read) in kinds.items():
        rng = np.random.default_rng(len(content))
        path = folder / name
        path.write_bytes(content)
        read(path)
        refused = 0
        for number in range(count):
            path.write_bytes(mutated(content, rng))
            print(f"{kind} {number}", file=sys.stderr, flush=True)  # what a crash was at
            try:
                read(path)
            except (ImageFileError, DatasetError) as error:
                assert str(error)
                refused += 1
        path.write_bytes(content)
        outcomes[kind] = [refused, count - refused]
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
