"""`sgnet_core.predict` on recordings: manifests, second runs, places other than folders."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image

from sgnet_core.data.images import write_png
from sgnet_core.predict import main


def predict(model_file: Path, out: object, *arguments: object) -> int:
    """The command's exit status."""
    fixed = ["--model", str(model_file), "--device", "cpu", "--out", str(out)]
    return main([*map(str, arguments), *fixed])


def manifest(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_text())


def test_the_manifest_says_what_was_done(recordings: Path, model_file: Path) -> None:
    out, depth = recordings.parent / "out", recordings / "walk0" / "depth" / "1.png"
    write_png(depth, np.ones((5, 5), np.uint16))
    assert predict(model_file, out, recordings / "walk0", "--scales", "1", "0.8") == 1
    found = manifest(out)
    labels = np.array(Image.open(out / "labels" / "0.png"))
    assert found["frames"] == 1
    assert [str(depth) in reason for reason in found["left_out"]] == [True]
    assert {int(k): v for k, v in found["pixels"].items()} == {
        int(i): int((labels == i).sum()) for i in np.unique(labels)
    }
    assert found["recipe"]["options"]["scales"] == [1.0, 0.8]
    assert found["classes"]["names"] == ["wall", "floor", "cup", "door"]
    assert found["recipe"]["model"] == hashlib.sha256(model_file.read_bytes()).hexdigest()
    assert found["started"] <= found["finished"]


def test_a_second_run_does_what_is_missing(recordings: Path, model_file: Path) -> None:
    out, source = recordings.parent / "out", recordings / "walk0"
    assert predict(model_file, out, source) == 0
    mark = out / "labels" / "1.png"
    mark.write_bytes(b"kept")

    def runs_again(*options: object) -> bool:
        """Return whether the command writes the file anew."""
        assert predict(model_file, out, source, *options) == 0
        again = mark.read_bytes() != b"kept"
        mark.write_bytes(b"kept")
        return again

    assert not runs_again()
    assert runs_again("--holes", "nearest"), "another option"
    assert not runs_again("--holes", "nearest")
    (out / "labels" / "0.png").unlink()
    assert runs_again("--holes", "nearest"), "a lost result"
    write_png(source / "depth" / "0.png", np.full((36, 48), 900, np.uint16))
    assert runs_again("--holes", "nearest"), "another source"


def test_single_images_are_always_labeled_anew(recordings: Path, model_file: Path) -> None:
    """Their depth lies in files that nobody names, and may have changed."""
    out, image = recordings.parent / "out", recordings / "walk0" / "rgb" / "1.png"
    options = ("--intrinsics", "40", "41", "20", "18")
    assert predict(model_file, out, image, *options) == 0
    (out / "labels" / "1.png").write_bytes(b"old")
    assert predict(model_file, out, image, *options) == 0
    assert (out / "labels" / "1.png").read_bytes() != b"old"


def test_results_that_are_half_done_are_not_taken_for_done(
    recordings: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, source = recordings.parent / "out", recordings / "walk0"
    assert predict(model_file, out, source) == 0

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "out")

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr("sgnet_core.inference.labeling.write_png", full)
        predict(model_file, out, source, "--holes", "nearest")
    assert not (out / "manifest.json").exists(), "files of two runs may lie there"


def test_recordings_and_results_may_lie_in_other_places(
    recordings: Path, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(recordings / "walk1"), "/robots/walk1", recursive=True)
    (recordings / "walk1" / "depth" / "0.png").write_bytes(b"damaged")
    memory.put(str(recordings / "walk1"), "/robots/walk2", recursive=True)
    assert predict(model_file, "memory://labels", "memory://robots/walk1") == 0
    assert predict(model_file, recordings.parent / "out", recordings / "walk1") == 1
    done = predict(model_file, "memory://others", "memory://robots/walk2")
    assert done == 1
    for kind in ("labels", "overlay"):
        data = (recordings.parent / "out" / kind / "1.png").read_bytes()
        assert memory.cat_file(f"/labels/{kind}/1.png") == data
        assert memory.cat_file(f"/others/{kind}/1.png") == data
    found = json.loads(memory.cat_file("/others/manifest.json"))
    assert found["sources"] == ["memory:///robots/walk2"]
    assert "memory:///robots/walk2/depth/0.png" in found["left_out"][0]
    capsys.readouterr()
    assert predict(model_file, "memory://labels", "memory://robots/walk1") == 0
    assert "all frames are labeled; remove it" in capsys.readouterr().out


def test_without_ray_one_line_names_the_extra(
    recordings: Path,
    model_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemExit) as stopped:
        predict(model_file, recordings.parent / "out", recordings / "walk0", "--ray")
    assert stopped.value.code == 2
    assert "--ray needs ray: pip install 'sgnet_ros[fleet]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--ray", "--rgb", "a", "--depth", "b"), "--ray distributes recordings: give INPUT"),
        (("walk", "--ray", "--device", "cuda:1"), "set --device to auto, cuda or cpu"),
        (("walk", "--max-failed", "1.5"), "must be from 0 to 1"),
        (("nowhere/*.mcap", "--ray"), "nowhere/*.mcap matches no file"),
        (("strange://a/b.mcap", "--ray"), "strange://a/b.mcap: Protocol not known"),
    ],
)
def test_options_that_cannot_be_used_are_explained(
    options: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*options, "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err
