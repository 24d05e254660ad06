"""Folders in the layout of the TUM RGB-D benchmark (Sturm et al., IROS 2012).

``rgb.txt`` and ``depth.txt`` contain lines ``timestamp filename``. Color and depth images have
different timestamps and are matched by time.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from pathlib import Path

from sgnet_core.data.datasets.frame_files import DatasetError, read_lines
from sgnet_core.inference.image_names import InputError

LISTS = ("rgb.txt", "depth.txt")
DEPTH_SCALE = 1 / 5000
"""Meters per unit of the depth images."""

MAX_GAP = 0.02
"""Maximum seconds between the color and the depth image of a frame."""

Stamped = tuple[float, Path]


def is_tum_folder(folder: Path) -> bool:
    """Return True for a folder with both lists."""
    return all((folder / name).is_file() for name in LISTS)


def tum_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Return the color and depth images of the frames, in the order of time.

    Raises:
        InputError: a list cannot be read, or no color image has a depth image near in time.
    """
    colors, depths = (_read_list(folder / name) for name in LISTS)
    pairs = associate([time for time, _ in colors], [time for time, _ in depths])
    if not pairs:
        gap = min(abs(a - b) for a, _ in colors for b, _ in depths[:1000])
        raise InputError(
            f"{folder}: none of the {len(colors)} color and {len(depths)} depth images are within "
            f"{MAX_GAP} s of each other; the nearest are {gap:.3f} s apart"
        )
    return [(colors[i][1], depths[j][1]) for i, j in pairs]


def associate(
    first: Sequence[float], second: Sequence[float], gap: float = MAX_GAP
) -> list[tuple[int, int]]:
    """Match two sorted lists of times, nearest pairs first, using each time at most once.

    Args:
        first, second: seconds, ascending.
        gap: maximum difference of a match.

    Returns:
        Pairs of indices, ascending.
    """
    candidates = []
    for i, time in enumerate(first):
        low, high = bisect.bisect_left(second, time - gap), bisect.bisect_right(second, time + gap)
        candidates += [(abs(time - second[j]), i, j) for j in range(low, high)]
    used_first: set[int] = set()
    used_second: set[int] = set()
    pairs = []
    for _, i, j in sorted(candidates):
        if i not in used_first and j not in used_second:
            used_first.add(i)
            used_second.add(j)
            pairs.append((i, j))
    return sorted(pairs)


def _read_list(path: Path) -> list[Stamped]:
    entries = []
    try:
        for line in read_lines(path):
            time, name = line.split(maxsplit=1)
            entries.append((float(time), path.parent / name))
    except DatasetError as error:
        raise InputError(str(error)) from error
    except ValueError as error:
        raise InputError(f"{path}: {line!r} is not `timestamp filename`") from error
    return sorted(entries)
