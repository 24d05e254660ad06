"""Manifest of a labeled recording, written last, beside the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sgnet_core.fleet.storage import Destination
from sgnet_core.models.labels import LabelSet

FILE = "manifest.json"


@dataclass(frozen=True)
class Recipe:
    """Everything that the results of a recording depend on.

    Attributes:
        fingerprint: `storage.fingerprint` of the sources; None if changes cannot be detected, so
            that the results are never up to date.
        model: SHA-256 of the model file.
        options: command-line options that change results, name → JSON value.
    """

    fingerprint: str | None
    model: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Manifest:
    """Manifest of one recording: its recipe and its results.

    Attributes:
        sources: paths or URLs.
        recipe: what the results depend on.
        kinds: the folders of results, each with a file per frame.
        frames: number of frames labeled.
        left_out: reasons, one line for each frame that was not.
        doubts: reasons, one line for each labeled frame whose depth is unlikely to be right.
        pixels: class id → pixels of that class.
        model_name, classes: the model's, ``classes`` as `LabelSet.to_dict` gives them.
        device: where it ran.
        started, finished: UTC, ISO 8601.
    """

    sources: Sequence[str]
    recipe: Recipe
    kinds: Sequence[str]
    frames: int
    left_out: Sequence[str]
    pixels: Mapping[str, int]
    model_name: str
    classes: Mapping[str, Any]
    device: str
    started: str
    finished: str
    doubts: Sequence[str] = ()
    fresh: bool = field(default=True, compare=False)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """(256,) pixels of every class."""
        counts = np.zeros(256, np.int64)
        for index, pixels in self.pixels.items():
            counts[int(index)] = pixels
        return counts

    @property
    def label_set(self) -> LabelSet:
        return LabelSet.from_dict(dict(self.classes))

    def write(self, destination: Destination, folder: str) -> None:
        """Write it into a folder of results, whose files are all there."""
        values = asdict(self)
        del values["fresh"]
        destination.write_json(_file(folder), values)


def read_manifest(destination: Destination, folder: str) -> Manifest | None:
    """Return the manifest of a folder of results; None if there is none, or of another form."""
    values = destination.read_json(_file(folder))
    try:
        recipe = Recipe(**values.pop("recipe"))
        manifest = Manifest(**values, recipe=recipe, fresh=False)
        # The file may come from anywhere: check it here, not where it is used.
        well_formed = manifest.frames >= 0 and manifest.counts.min() >= 0 and manifest.label_set
        lists = (manifest.sources, manifest.kinds, manifest.left_out, manifest.doubts)
        texts = (text for lines in lists for text in lines)
        return manifest if well_formed and all(isinstance(text, str) for text in texts) else None
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError):
        return None


def up_to_date(manifest: Manifest, recipe: Recipe, destination: Destination, folder: str) -> bool:
    """Return whether the results belong to the recipe and all files exist."""
    if recipe.fingerprint is None or manifest.recipe != recipe:
        return False
    counts = (
        destination.count_files(f"{folder}/{kind}" if folder else kind) for kind in manifest.kinds
    )
    return all(count >= manifest.frames for count in counts)


def remove_manifest(destination: Destination, folder: str) -> None:
    """Remove the manifest before results change, so that partial results do not look complete."""
    destination.remove(_file(folder))


def _file(folder: str) -> str:
    return f"{folder}/{FILE}" if folder else FILE
