"""Label recordings into folders with a manifest: the job of `sgnet_core.predict`."""

from __future__ import annotations

import datetime
import functools
import hashlib
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sgnet_core.files import atomic_write
from sgnet_core.fleet.jobs import Failure
from sgnet_core.fleet.manifest import (
    Manifest,
    Recipe,
    read_manifest,
    remove_manifest,
    up_to_date,
)
from sgnet_core.fleet.storage import (
    Destination,
    Source,
    StorageError,
    fingerprint,
    is_url,
    local_copy,
)
from sgnet_core.inference.frames import Calibration, Input, is_recording, open_inputs, reading
from sgnet_core.inference.labeling import Labeler, LabelingOptions
from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.models.labels import LabelSet
from sgnet_core.models.model_file import ModelFileError, default_model_path


@dataclass(frozen=True)
class LabelingJob:
    """Labels recordings, each into its own folder below the destination.

    Attributes:
        destination: local path or URL.
        model_path: path of the model file as given by the user.
        model: content of the model file, so that other machines do not need the file.
        device, precision: arguments of `Segmenter`.
        calibration: camera data given by the user.
        options: options for the labels.
    """

    destination: str
    model_path: str
    model: bytes
    device: str
    precision: str
    calibration: Calibration
    options: LabelingOptions

    @functools.cached_property
    def model_hash(self) -> str:
        """SHA-256 of the model file."""
        return hashlib.sha256(self.model).hexdigest()

    def start(self) -> Callable[[Source], Manifest]:
        """Load the model and return the function that labels a recording.

        Raises:
            ValueError, OSError: as in `labeler`.
        """
        return functools.partial(self._label, self.labeler())

    def labeler(self) -> Labeler:
        """Return a labeler with the model and the options.

        Raises:
            ValueError: the model cannot be used, or not with that device or precision.
            OSError: a temporary copy of the model cannot be written.
        """
        with tempfile.TemporaryDirectory(prefix="sgnet_model_") as scratch:
            file = Path(scratch, Path(self.model_path).name)
            with atomic_write(file) as copy:  # its error names the file if the disk is full
                copy.write(self.model)
            try:
                segmenter = Segmenter(file, self.device, self.precision)
            except ModelFileError as error:
                text = str(error).replace(str(file), self.model_path)
                raise ModelFileError(text) from error
        return Labeler(segmenter, self.options)

    def recipe(self, source_fingerprint: str | None) -> Recipe:
        """Return the recipe for results of the sources with this fingerprint."""
        options = {**asdict(self.options), **asdict(self.calibration), "precision": self.precision}
        # JSON has lists instead of tuples.
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
        return Recipe(source_fingerprint, self.model_hash, plain)

    def _label(self, labeler: Labeler, source: Source) -> Manifest:
        destination = Destination(self.destination)
        recipe = self.recipe(fingerprint(source.path))
        if manifest := finished_before(recipe, destination, source.name):
            return manifest
        _require_same_source(recipe, source, destination)
        with local_copy(source.path) as path:
            try:
                inputs = open_inputs([str(path)], self.calibration)
                sources = {str(path): source.path}
                return label_recording(labeler, inputs, sources, recipe, destination, source.name)
            except ValueError as error:
                raise ValueError(str(error).replace(str(path), source.path)) from error


def read_model(path: str | None) -> tuple[str, bytes]:
    """Return path and content of a model file; None is the model shipped with the package.

    Raises:
        ModelFileError: the file cannot be read.
    """
    file = Path(path) if path else default_model_path()
    try:
        return str(file), file.read_bytes()
    except FileNotFoundError as error:
        raise ModelFileError(f"{file}: does not exist; give a model file") from error
    except OSError as error:
        raise ModelFileError(f"{file}: cannot be read: {error.strerror}") from error


def label_recording(
    labeler: Labeler,
    inputs: Sequence[Input],
    sources: Mapping[str, str],
    recipe: Recipe,
    destination: Destination,
    folder: str,
    progress: Callable[[], object] = lambda: None,
    warn: Callable[[str], object] = lambda text: None,
) -> Manifest:
    """Label all frames of a recording into a folder, and write its manifest last.

    Args:
        labeler: labeler of the frames.
        inputs: the frames of the recording.
        sources: paths or URLs given by the user, by the local path that is read.
        recipe: recipe for the manifest.
        destination, folder: destination and folder in it for the results.
        progress, warn: as in `Labeler.label_all`.

    Raises:
        ValueError: the camera's intrinsics are needed and not known.
        OSError: a result cannot be written.
    """
    started = _now()
    remove_manifest(destination, folder)
    with destination.folder(folder) as local:
        labeled = labeler.label_all(inputs, local, progress, warn)
    segmenter = labeler.segmenter
    manifest = Manifest(
        sources=list(sources.values()),
        recipe=recipe,
        kinds=labeler.options.kinds,
        frames=labeled.frames,
        left_out=[_with_names(reason, sources) for reason in labeled.left_out],
        doubts=labeled.doubts,
        pixels={str(i): int(count) for i, count in enumerate(labeled.counts) if count},
        model_name=segmenter.info.name,
        classes=segmenter.labels.to_dict(),
        device=str(segmenter.device),
        started=started,
        finished=_now(),
    )
    manifest.write(destination, folder)
    return manifest


def finished_before(recipe: Recipe, destination: Destination, folder: str) -> Manifest | None:
    """Return the manifest of an earlier run if its results are up to date."""
    manifest = read_manifest(destination, folder)
    if manifest is not None and up_to_date(manifest, recipe, destination, folder):
        return manifest
    return None


@reading()
def recordings_fingerprint(names: Iterable[str]) -> str | None:
    """Return a fingerprint of several recordings.

    It is None if one of them is a single image, because the depth is in another file.

    Raises:
        InputError: a recording cannot be read.
    """
    parts = []
    for name in names:
        if not is_url(name) and not is_recording(Path(name).expanduser()):
            return None
        parts.append(fingerprint(name))
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _require_same_source(recipe: Recipe, source: Source, destination: Destination) -> None:
    """Raise StorageError if the folder contains results of another recording of the same name."""
    before = read_manifest(destination, source.name)
    if before is None or before.recipe.fingerprint == recipe.fingerprint:
        return
    if source.path not in before.sources:
        raise StorageError(
            f"{destination.path(source.name)} contains the results of {', '.join(before.sources)}, "
            f"not of {source.path}: choose another --out"
        )


def _with_names(text: str, sources: Mapping[str, str]) -> str:
    for path, name in sources.items():
        text = text.replace(path, name)
    return text


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


@dataclass
class LabelingTotal:
    """Results of many recordings.

    Attributes:
        recordings: number of recordings with results.
        earlier: number of these with results of an earlier run.
        failed: number of recordings without results.
        gaps: number of recordings whose results lack frames.
        frames, left_out: number of frames with and without labels.
        counts: (256,) number of pixels by class id.
        label_set: classes of the model; None before the first recording.
    """

    recordings: int = 0
    earlier: int = 0
    failed: int = 0
    gaps: int = 0
    frames: int = 0
    left_out: int = 0
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    label_set: LabelSet | None = None

    def add(self, source: Source, outcome: Manifest | Failure) -> list[str]:
        """Count a recording; return lines that describe its problems."""
        if isinstance(outcome, Failure):
            self.failed += 1
            named = source.path in outcome.reason
            return [f"failed: {outcome.reason if named else f'{source.path}: {outcome.reason}'}"]
        self.recordings += 1
        self.earlier += not outcome.fresh
        self.frames += outcome.frames
        self.left_out += len(outcome.left_out)
        self.counts += outcome.counts
        self.label_set = outcome.label_set
        lines = []
        if outcome.doubts:
            lines.append(
                f"implausible depth: {len(outcome.doubts)} of {outcome.frames} frames of "
                f"{source.path}; the first: {outcome.doubts[0]}"
            )
        if outcome.left_out:
            self.gaps += 1
            lines.append(
                f"left out: {len(outcome.left_out)} of {outcome.frames + len(outcome.left_out)} "
                f"frames of {source.path}; the first: {outcome.left_out[0]}"
            )
        return lines

    @property
    def incomplete(self) -> int:
        """Number of recordings that failed or lack frames."""
        return self.failed + self.gaps

    def summary(self) -> str:
        """Return the numbers as one line of text."""
        return (
            f"{self.recordings} recordings ({self.earlier} done before), {self.frames} frames; "
            f"{self.failed} recordings failed, {self.left_out} frames of {self.gaps} left out"
        )
