"""Exported copies of model files: made once, named after their content, and never in the way."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxscript", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")


from sgnet_core.inference import onnx_cache
from sgnet_core.inference.onnx_cache import cached_export, cached_path
from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.models.model_file import save_model
from small_segmenter import frame, make


class Exporter:
    """In the place of the export, which takes a minute."""

    def __init__(self, problem: str | None = None) -> None:
        self.problem = problem
        self.made: list[Path] = []

    def __call__(self, model: Path, copy: Path) -> str | None:
        self.made.append(copy)
        if self.problem is None:
            copy.write_bytes(b"graph")
        return self.problem


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SGNET_ONNX_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "robot.safetensors"
    path.write_bytes(b"weights")
    return path


def test_a_copy_is_made_once_and_the_user_is_told(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter, said = Exporter(), []
    monkeypatch.setattr(onnx_cache, "_export", exporter)
    first = cached_export(model, said.append)
    assert cached_export(model, said.append) == first == cached_path(model)
    assert exporter.made == [first]
    assert len(said) == 1 and "happens once" in said[0] and str(first) in said[0]


def test_other_content_or_versions_have_another_copy(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cached_path(model)
    renamed = model.rename(model.with_name("moved.safetensors"))
    assert cached_path(renamed).stem.rpartition("-")[2] == before.stem.rpartition("-")[2]
    renamed.write_bytes(b"weights!")
    other = cached_path(renamed)
    assert other.stem.rpartition("-")[2] != before.stem.rpartition("-")[2]
    monkeypatch.setattr(onnx_cache.importlib.metadata, "version", lambda name: "99")
    assert cached_path(renamed) != other


def test_an_export_that_fails_is_told_and_not_tried_again(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter, said = Exporter("it differs from PyTorch by 0.2"), []
    monkeypatch.setattr(onnx_cache, "_export", exporter)
    assert cached_export(model, said.append) is None
    assert cached_export(model, said.append) is None
    assert len(exporter.made) == 1
    assert len(said) == 3, "one line more than failures: the announcement"
    assert all("it differs from PyTorch by 0.2" in line for line in said[1:])


def test_an_export_that_was_interrupted_is_tried_again(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in a terminal reaches the export, too."""
    said: list[str] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        ended = subprocess.CompletedProcess([], -number, stderr="KeyboardInterrupt")
        monkeypatch.setattr(onnx_cache.subprocess, "run", lambda *a, ended=ended, **k: ended)
        assert cached_export(model, said.append) is None
        assert "interrupted" in said[-1]
    monkeypatch.setattr(onnx_cache, "_export", Exporter())
    assert cached_export(model, said.append) == cached_path(model)


def test_nothing_is_exported_where_it_cannot_or_must_not_be(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter, said = Exporter(), []
    monkeypatch.setattr(onnx_cache, "_export", exporter)
    assert cached_export(model.with_name("missing.safetensors"), said.append) is None
    with monkeypatch.context() as patch:
        patch.setenv("SGNET_ONNX_CACHE", "none")
        assert cached_export(model, said.append) is None
    with monkeypatch.context() as patch:
        patch.setattr(onnx_cache, "_PACKAGES", ("torch", "no_such_package"))
        assert cached_export(model, said.append) is None
    assert said == exporter.made == []
    monkeypatch.setenv("SGNET_ONNX_CACHE", str(model))  # a file, in which no folder can be made
    assert cached_export(model, said.append) is None
    assert "not exported for ONNX Runtime" in said[-1]


def test_the_reason_of_a_failed_export_is_its_last_line(model: Path) -> None:
    said: list[str] = []
    assert cached_export(model, said.append) is None  # "weights" is no model file
    assert "robot.safetensors" in said[-1] and "\n" not in said[-1]


@pytest.mark.slow
def test_a_copy_labels_as_the_model_does(model: Path) -> None:
    save_model(make(), model)
    copy = cached_export(model, lambda line: None)
    assert copy is not None
    rgb, depth = frame(72, 96)
    expected = Segmenter(model, "cpu").segment(rgb, depth).labels
    copied = Segmenter(copy, "cpu")
    assert copied.backend == "onnx"
    assert (copied.segment(rgb, depth).labels == expected).mean() > 0.999
    assert len(np.unique(expected)) > 1
