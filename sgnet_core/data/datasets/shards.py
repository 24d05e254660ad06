"""A data set in a few large files: tar shards in WebDataset's format, with an index.

::

    00000.tar        NAME.rgb.png, NAME.depth.png, NAME.labels.png, NAME.camera.json per frame
    shards.json      classes, and for each frame its name, shard and byte range

The members of a frame are adjacent, so reading a frame is one read of one range, from a disk or an
object store. Frames can be read in random order without a shuffle buffer: a run resumes at any
position, and each of several processes reads only its own frames. Other readers of WebDataset's
format read the shards in order, without the index.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from sgnet_core.data.datasets.folder import MILLIMETERS, camera_values
from sgnet_core.data.datasets.folder_writer import NamedSamples, quantized
from sgnet_core.data.datasets.frame_files import DatasetError, parse_json
from sgnet_core.data.depth_units import NO_MEASUREMENT
from sgnet_core.data.images import open_image
from sgnet_core.data.sample import Sample
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.models.labels import IGNORE_ID, LabelSet

INDEX = "shards.json"
MAX_INDEX_BYTES = 1 << 30
"""Maximum size of an index, enough for about ten million frames."""

MAX_FRAME_BYTES = 1 << 30
"""Maximum size of a frame in a shard."""

PER_SHARD = 500
"""Number of frames per shard, a few hundred MB at 480x640."""


class Shards:
    """The frames of a folder of shards, local or remote.

    Args:
        place: local path or URL of the folder.

    Attributes:
        names: names of the frames.
        label_set: the classes.

    Raises:
        DatasetError: the index is missing or invalid, or the driver for the URL is missing.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        try:
            self._system, self._root = fsspec.core.url_to_fs(place)
            size = self._system.size(f"{self._root}/{INDEX}")
            if size is not None and size > MAX_INDEX_BYTES:
                raise ValueError(f"it has {size} bytes; at most {MAX_INDEX_BYTES} are read")
            index = json.loads(self._system.cat_file(f"{self._root}/{INDEX}"))
            self.label_set = LabelSet.from_dict(index["classes"])
            self._frames = [(str(n), str(s), int(a), int(b)) for n, s, a, b in index["frames"]]
        except FileNotFoundError as error:
            raise DatasetError(f"{place}/{INDEX} does not exist") from error
        except (ImportError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DatasetError(f"{place}/{INDEX} cannot be read: {error}") from error

    @property
    def names(self) -> Sequence[str]:
        return [name for name, *_ in self._frames]

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Sample:
        """Read a frame.

        Raises:
            DatasetError: its shard is missing or damaged.
        """
        name, shard, start, end = self._frames[index]
        try:
            if not 0 <= end - start <= MAX_FRAME_BYTES:
                raise ValueError(
                    f"the index says {end - start} bytes; at most {MAX_FRAME_BYTES} are read"
                )
            data = self._system.cat_file(f"{self._root}/{shard}", start, end)
            sample = _sample(data)
            if (labels := sample.labels[sample.labels != IGNORE_ID]).max(initial=0) >= len(
                self.label_set
            ):
                raise ValueError(f"label {labels.max()} is not a class")
            return sample
        except (OSError, ValueError, KeyError, TypeError, tarfile.TarError) as error:
            raise DatasetError(f"{self.place}/{shard}: frame {name}: {error}") from error


def _sample(data: bytes) -> Sample:
    """Return the frame whose tar members are given."""
    members: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:  # "r:" rejects compressed data
        for member in tar:
            file = tar.extractfile(member)
            if file is None or member.issparse() or member.size > len(data):
                raise ValueError(f"{member.name} is not a plain file within the frame")
            members[member.name.partition(".")[2]] = file.read()
    camera = parse_json(members["camera.json"], "camera.json")
    scale = np.float32(camera.pop("depth_scale"))
    intrinsics = Intrinsics(**camera)
    rgb, stored, labels = (_image(members, f"{kind}.png") for kind in ("rgb", "depth", "labels"))
    size = (intrinsics.height, intrinsics.width)
    for name, image, shape, dtype in (
        ("rgb.png", rgb, (*size, 3), np.uint8),
        ("depth.png", stored, size, np.uint16),
        ("labels.png", labels, size, np.uint8),
    ):
        if image.shape != shape or image.dtype != dtype:
            raise ValueError(f"{name} is {image.dtype} of shape {image.shape}, not of {shape}")
    depth = np.where(stored == NO_MEASUREMENT, 0, stored).astype(np.float32) * scale
    return Sample(rgb, depth, labels, intrinsics)


def _image(members: dict[str, bytes], name: str) -> NDArray[Any]:
    return np.array(open_image(io.BytesIO(members[name]), name))


def write_shards(
    place: str, samples: NamedSamples, depth_scale: float = MILLIMETERS, per_shard: int = PER_SHARD
) -> int:
    """Write a data set as shards, then the index; return the number of frames.

    Args:
        place: local path or URL of a folder without shards, made if necessary.
        samples: the data set.
        depth_scale: meters per unit of the depth images.
        per_shard: number of frames per shard.

    Raises:
        DatasetError: the folder contains shards.
        OSError: a file cannot be written.
    """
    system, root = fsspec.core.url_to_fs(place)
    if system.exists(f"{root}/{INDEX}"):
        raise DatasetError(f"{place} already contains shards: choose another --out")
    system.makedirs(root, exist_ok=True)
    frames: list[tuple[str, str, int, int]] = []
    names = samples.names
    bar = tqdm(total=len(names), unit="frame")
    with tempfile.TemporaryDirectory(prefix="sgnet_shard_") as scratch, bar:
        for first in range(0, len(names), per_shard):
            shard = f"{first // per_shard:05d}.tar"
            local = Path(scratch, shard)
            with tarfile.open(local, "w", format=tarfile.USTAR_FORMAT) as tar:
                for index in range(first, min(first + per_shard, len(names))):
                    start = tar.offset
                    _add(tar, names[index], samples[index], depth_scale)
                    frames.append((names[index], shard, start, tar.offset))
                    bar.update()
            system.put_file(str(local), f"{root}/{shard}")
            local.unlink()
    index_file = {"classes": samples.label_set.to_dict(), "frames": frames}
    system.pipe_file(f"{root}/{INDEX}", json.dumps(index_file).encode())
    return len(frames)


def _add(tar: tarfile.TarFile, name: str, sample: Sample, depth_scale: float) -> None:
    """Append the members of a frame; readers split their names at the first dot."""
    camera = camera_values(sample.intrinsics, depth_scale)
    contents = {
        "rgb.png": _png(sample.rgb),
        "depth.png": _png(quantized(sample.depth, depth_scale)),
        "labels.png": _png(sample.labels),
        "camera.json": json.dumps(camera).encode(),
    }
    for kind, content in contents.items():
        member = tarfile.TarInfo(f"{name.replace('.', '_')}.{kind}")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


def _png(image: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()
