from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from sgnet_ros.recordings.bags import BagError

Message = tuple[str, int, str]


def read_cut_files(
    path: Path, whole: bytes, step: int, readable: Callable[[Path], list[Message]]
) -> Iterator[tuple[bytes, list[Message]]]:
    """Cuts a bag at many places: what is left of it, and the messages read from that."""
    for size in range(len(whole) - 1, 0, -step):
        path.write_bytes(whole[:size])
        try:
            messages = readable(path)
        except BagError as error:
            assert str(path) in str(error)
            messages = []
        yield whole[:size], messages
