"""Manifest of a labeled recording, written into the folder of its results after all other files."""

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
        options: JSON values of the command-line options that change results, by name.
    """

    fingerprint: str | None
    model: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Manifest:
    """Manifest of one recording: its recipe and its results.

    Attributes:
        sources: paths or URLs.
        recipe: the recipe.
        kinds: names of the result folders, each with a file per frame.
        frames: number of labeled frames.
        left_out: one reason for each frame that was left out.
        doubts: one reason for each labeled frame whose depth is doubtful.
        pixels: number of pixels by class id.
        model_name: name of the model.
        classes: classes of the model, from `LabelSet.to_dict`.
        device: device on which the model ran.
        started, finished: times, UTC, ISO 8601.
        fresh: False if an earlier run wrote the manifest; not stored.
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
        """(256,) number of pixels by class id."""
        counts = np.zeros(256, np.int64)
        for index, pixels in self.pixels.items():
            counts[int(index)] = pixels
        return counts

    @property
    def label_set(self) -> LabelSet:
        """Classes of the model."""
        return LabelSet.from_dict(dict(self.classes))

    def write(self, destination: Destination, folder: str) -> None:
        """Write the manifest into a folder of results, after all other files."""
        values = asdict(self)
        del values["fresh"]
        destination.write_json(_file(folder), values)


def read_manifest(destination: Destination, folder: str) -> Manifest | None:
    """Return the manifest of a folder of results, or None if there is no valid one."""
    values = destination.read_json(_file(folder))
    try:
        recipe = Recipe(**values.pop("recipe"))
        manifest = Manifest(**values, recipe=recipe, fresh=False)
        # Check all values here, because the file may have been changed.
        well_formed = manifest.frames >= 0 and manifest.counts.min() >= 0 and manifest.label_set
        lists = (manifest.sources, manifest.kinds, manifest.left_out, manifest.doubts)
        texts = (text for lines in lists for text in lines)
        return manifest if well_formed and all(isinstance(text, str) for text in texts) else None
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError):
        return None


def up_to_date(manifest: Manifest, recipe: Recipe, destination: Destination, folder: str) -> bool:
    """Return True if the results belong to the recipe and all files exist."""
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
