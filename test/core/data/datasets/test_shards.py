from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch

from sgnet_core.data.catalog import open_dataset
from sgnet_core.data.datasets.folder import PlainFolder
from sgnet_core.data.datasets.frame_files import DatasetError
from sgnet_core.data.datasets.shards import Shards, write_shards
from sgnet_core.data.loading import Batch, Samples, training_batches
from sgnet_core.data.sample import Sample
from sgnet_core.data.transforms import Augmentation
from sgnet_core.prepare import main


def assert_same(found: Sample, expected: Sample) -> None:
    for kind in ("rgb", "depth", "labels"):
        np.testing.assert_array_equal(getattr(found, kind), getattr(expected, kind), err_msg=kind)
    assert found.intrinsics == expected.intrinsics


@pytest.mark.parametrize("place", ["memory://shards", "FOLDER"])
def test_shards_hold_the_frames_of_the_folder(place: str, frames: Path, tmp_path: Path) -> None:
    place = place.replace("FOLDER", str(tmp_path / "shards"))
    folder = PlainFolder(frames)
    assert write_shards(place, folder, per_shard=4) == 10
    found, labels = open_dataset(place, (1, 1))
    assert isinstance(found, Shards)
    assert list(found.names) == list(folder.names)
    assert labels.names == folder.label_set.names
    again = pickle.loads(pickle.dumps(found))  # as for the workers that load
    for index in (9, 0, 5):
        assert_same(found[index], folder[index])
        assert_same(again[index], folder[index])
    system, root = fsspec.core.url_to_fs(place)
    names = sorted(path.rpartition("/")[2] for path in system.ls(root, detail=False))
    assert names == ["00000.tar", "00001.tar", "00002.tar", "shards.json"]
    with pytest.raises(DatasetError, match="already contains shards"):
        write_shards(place, folder)
    system.rm(root, recursive=True)


def test_any_reader_of_tar_files_finds_the_members_in_order(frames: Path, tmp_path: Path) -> None:
    write_shards(str(tmp_path), PlainFolder(frames, "val"))
    with tarfile.open(tmp_path / "00000.tar") as tar:
        kinds = ("rgb.png", "depth.png", "labels.png", "camera.json")
        assert tar.getnames() == [f"{name}.{kind}" for name in ("008", "009") for kind in kinds]


def test_a_damaged_shard_is_named(frames: Path, tmp_path: Path) -> None:
    write_shards(str(tmp_path), PlainFolder(frames, "val"))
    shard = tmp_path / "00000.tar"
    shard.write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(DatasetError, match=r"00000\.tar: frame 009"):
        Shards(str(tmp_path))[1]
    (tmp_path / "shards.json").write_text(json.dumps({"frames": 3}))
    with pytest.raises(DatasetError, match=r"shards\.json cannot be read"):
        Shards(str(tmp_path))


def test_the_command_writes_shards(
    frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["shards", f"{frames}:train", "--out", str(tmp_path / "s")]) == 0
    assert "8 frames" in capsys.readouterr().out
    assert len(Shards(str(tmp_path / "s"))) == 8
    assert main(["shards", "rooms:1:4", "--out", str(tmp_path / "r")]) == 2
    assert "rooms:1:4 has no files" in capsys.readouterr().err


@pytest.mark.parametrize("rank", [0, 1])
def test_training_on_shards_sees_the_frames_of_the_folder_from_any_batch_on(
    frames: Path, tmp_path: Path, rank: int
) -> None:
    folder = PlainFolder(frames)
    write_shards(str(tmp_path), folder, per_shard=3)

    def batches(samples: Samples, first: int) -> list[Batch]:
        share = {"rank": rank, "processes": 2, "size": (32, 48), "batch": 4, "workers": 0}
        options = {**share, "seed": 3, "first": first, "last": 6}
        return list(training_batches(samples, Augmentation(), **options))  # type: ignore[arg-type]

    expected = batches(folder, 0)
    for found in (batches(Shards(str(tmp_path)), 0), batches(Shards(str(tmp_path)), 2)):
        for one, other in zip(found[::-1], expected[::-1], strict=False):
            assert torch.equal(one.rgb, other.rgb) and torch.equal(one.labels, other.labels)
            assert torch.equal(one.depth, other.depth)


def tar_of(members: dict[str, tarfile.TarInfo], content: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, member in members.items():
            member.name = name
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_a_shard_that_unpacks_or_claims_too_much_is_refused(frames: Path, tmp_path: Path) -> None:
    write_shards(str(tmp_path), PlainFolder(frames, "val"))
    shard, index = tmp_path / "00000.tar", tmp_path / "shards.json"
    values = json.loads(index.read_text())
    link = tarfile.TarInfo()
    link.type, link.linkname = tarfile.SYMTYPE, "/dev/zero"
    sparse = tarfile.TarInfo()
    sparse.type = tarfile.GNUTYPE_SPARSE
    for content, words in (
        (gzip.compress(bytes(1 << 20)), "frame 008"),
        (tar_of({"008.rgb.png": link}), "008.rgb.png is not a plain file|linkname"),
        (tar_of({"008.rgb.png": sparse}), "008.rgb.png is not a plain file"),
    ):
        shard.write_bytes(content)
        values["frames"] = [["008", "00000.tar", 0, len(content)]]
        index.write_text(json.dumps(values))
        with pytest.raises(DatasetError, match=words):
            Shards(str(tmp_path))[0]
    values["frames"] = [["008", "00000.tar", 0, 1 << 60]]
    index.write_text(json.dumps(values))
    with pytest.raises(DatasetError, match="the index says 1152921504606846976 bytes; at most"):
        Shards(str(tmp_path))[0]
    index.write_text("[" * 100_000)
    with pytest.raises(DatasetError, match=r"shards\.json cannot be read"):
        Shards(str(tmp_path))


def test_a_label_that_is_no_class_is_refused(frames: Path, tmp_path: Path) -> None:
    write_shards(str(tmp_path), PlainFolder(frames, "val"))
    index = tmp_path / "shards.json"
    values = json.loads(index.read_text())
    for kind in ("names", "colors"):
        del values["classes"][kind][1:]
    index.write_text(json.dumps(values))
    with pytest.raises(DatasetError, match=r"00000\.tar: frame 008: label [12] is not a class"):
        Shards(str(tmp_path))[0]
