from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest

from sgnet_core.fleet.storage import Destination, StorageError, find_sources, fingerprint


@pytest.fixture
def robots(tmp_path: Path) -> Path:
    for name in ("a/day.mcap", "a/night.mcap", "b/day.mcap"):
        file = tmp_path / "robots" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
    return tmp_path / "robots"


def test_recordings_are_named_by_what_a_glob_leaves_open(robots: Path) -> None:
    found = find_sources([f"{robots}/*/*.mcap"])
    assert [source.name for source in found] == ["a/day", "a/night", "b/day"]
    assert [source.path for source in found] == sorted(map(str, robots.rglob("*.mcap")))
    assert [source.name for source in find_sources([f"{robots}/a/day.mcap"])] == ["day"]


def test_recordings_of_one_name_are_refused(robots: Path) -> None:
    with pytest.raises(StorageError, match="would both be named day: quote the glob"):
        find_sources([f"{robots}/a/day.mcap", f"{robots}/b/day.mcap"])
    assert len(find_sources([f"{robots}/a/day.mcap"] * 2)) == 1


def test_urls_stay_urls() -> None:
    fsspec.filesystem("memory").pipe_file("/fleet/x/day.mcap", b"1")
    [found] = find_sources(["memory://fleet/*/*.mcap"])
    assert (found.path, found.name) == ("memory:///fleet/x/day.mcap", "x/day")


def test_an_empty_destination_is_the_working_folder() -> None:
    assert Destination("").path("labels") == "./labels"


def test_a_fingerprint_changes_with_the_files_and_not_with_their_place(robots: Path) -> None:
    before = fingerprint(str(robots / "a"))
    (robots / "a").rename(robots / "c")
    assert fingerprint(str(robots / "c")) == before
    os.utime(robots / "c" / "day.mcap", (1, 1))
    changed = fingerprint(str(robots / "c"))
    assert changed != before
    (robots / "c" / "day.mcap").rename(robots / "c" / "noon.mcap")
    assert fingerprint(str(robots / "c")) != changed
