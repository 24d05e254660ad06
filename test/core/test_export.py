"""Exported models: the same labels without PyTorch, through ONNX Runtime and the Segmenter."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sgnet_core import Intrinsics, ModelFileError, Segmenter, create_model, load_model, save_model
from sgnet_core.export import main
from sgnet_core.inference.onnx_backend import OnnxNetwork
from sgnet_core.inference.onnx_export import (
    ExportDifference,
    ExportError,
    as_numpy,
    export,
    random_inputs,
)
from sgnet_core.models.sgnet import SGNet
from small_segmenter import randomize

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytest.importorskip("onnxscript", reason="the extra onnx is not installed")

pytestmark = pytest.mark.usefixtures("small_networks")


def make(**overrides: Any) -> SGNet:
    torch.manual_seed(2)
    model = create_model("sgnet_lite", num_classes=6, **{"layers": [3, 4], **overrides})
    randomize(model)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.out_channels == 18:
            nn.init.normal_(module.weight, std=0.05)
    model.info = replace(model.info, name="exported", input_height=64, training={"seed": 2})
    return model.eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model file, and what the command makes of it."""
    folder = tmp_path_factory.mktemp("export")
    source, target = folder / "model.safetensors", folder / "model.onnx"
    save_model(make(), source)
    assert main(["--model", str(source), "--out", str(target)]) == 0
    return source, target


def frame(height: int, width: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    inputs = random_inputs(make(), (1, height, width), seed=7)
    return inputs["rgb"][0].numpy(), inputs["depth"][0].numpy()


def test_the_file_says_what_it_takes_and_what_it_is(files: tuple[Path, Path]) -> None:
    proto = onnx.load(files[1])
    nodes = [node.op_type for node in proto.graph.node]
    assert nodes.count("DeformConv") == 2, "one per S-Conv"
    assert "BatchNormalization" not in nodes
    assert [(o.domain, o.version) for o in proto.opset_import if o.domain == ""] == [("", 19)]
    session = onnxruntime.InferenceSession(files[1])
    found = {v.name: (v.shape, v.type) for v in (*session.get_inputs(), *session.get_outputs())}
    image = ["batch", "height", "width"]
    assert found == {
        "rgb": ([*image, 3], "tensor(uint8)"),
        "depth": (image, "tensor(float)"),
        "labels": (image, "tensor(uint8)"),
        "logits": (["batch", 6, "rows", "columns"], "tensor(float)"),
    }
    segmenter = Segmenter(files[1])
    assert segmenter.info == load_model(files[0]).info
    assert segmenter.model.config == load_model(files[0]).config
    assert (segmenter.backend, segmenter.device.type) == ("onnx", "cpu")


@pytest.mark.parametrize("size", [(1, 64, 96), (3, 47, 71), (1, 33, 160)])
def test_labels_and_logits_are_pytorchs_at_any_size(
    files: tuple[Path, Path], size: tuple[int, int, int]
) -> None:
    model = load_model(files[0])
    inputs = random_inputs(model, size, seed=11)
    inputs["depth"][:, ::7] = torch.nan
    session = onnxruntime.InferenceSession(files[1])
    labels, logits = session.run(["labels", "logits"], as_numpy(inputs))
    with torch.inference_mode():
        image = model.info.normalization(inputs["rgb"].permute(0, 3, 1, 2))
        expected = model(image, inputs["depth"].nan_to_num(0)[:, None]).logits
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-4)
    full = nn.functional.interpolate(expected, size[1:], mode="bilinear", align_corners=True)
    assert (labels == full.argmax(1).numpy()).mean() >= 0.999
    assert len(np.unique(labels)) > 1


def test_the_segmenter_labels_alike_with_either_backend(files: tuple[Path, Path]) -> None:
    torch_backend, onnx_backend = Segmenter(files[0], "cpu"), Segmenter(files[1], backend="onnx")
    for size in ((64, 96), (90, 121)):
        rgb, depth = frame(*size)
        expected = torch_backend.segment(rgb, depth, confidence=True, scores=True)
        found = onnx_backend.segment(rgb, depth, confidence=True, scores=True)
        assert found.labels.shape == size
        assert (found.labels == expected.labels).mean() >= 0.999
        assert found.confidence is not None and expected.confidence is not None
        difference = found.confidence.astype(int) - expected.confidence
        assert np.abs(difference).max() <= 1
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)
        assert len(np.unique(found.labels)) > 1


@pytest.mark.slow
def test_3d_coordinates_are_computed_in_the_graph(tmp_path: Path) -> None:
    model = make(spatial="points", layers=[4])
    difference = export(model, tmp_path / "points.onnx")
    assert difference.logits <= 1e-4
    rgb, depth = frame(64, 96)
    camera = Intrinsics(70, 75, 40, 30, 96, 64)
    segmenter = Segmenter(tmp_path / "points.onnx")
    expected = Segmenter(model, "cpu").segment(rgb, depth, camera, scores=True)
    found = segmenter.segment(rgb, depth, camera, scores=True)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    other = segmenter.segment(rgb, depth, replace(camera, fx=20), scores=True)
    assert np.abs(other.scores - expected.scores).max() > 1e-3
    with pytest.raises(ValueError, match="needs the camera's intrinsics"):
        segmenter.segment(rgb, depth)


@pytest.mark.slow
def test_hha_is_computed_in_the_graph(tmp_path: Path) -> None:
    """With cells of two pixels; up estimated and given."""
    height, size = 400, (400, 70)
    model = make(spatial="hha", layers=[4])
    model.info = replace(model.info, input_height=height, depth_range=(0.8, 4.0))
    difference = export(model, tmp_path / "hha.onnx")
    assert difference.logits <= 1e-3 * difference.scale
    session = onnxruntime.InferenceSession(tmp_path / "hha.onnx")
    assert [value.name for value in session.get_inputs()] == ["rgb", "depth", "intrinsics", "up"]
    rgb, depth = frame(*size)
    depth[5:9] = 700  # out of range
    depth[:, :3] = np.nan
    camera = Intrinsics(170, 175, 40, 30, size[1], size[0])
    exact, segmenter = Segmenter(model, "cpu"), Segmenter(tmp_path / "hha.onnx")
    found = {}
    for up in (None, (0.0, -1.0, 0.0), (0.3, -9.0, -3.0)):
        expected = exact.segment(rgb, depth, camera, scores=True, up=up)
        found[up] = segmenter.segment(rgb, depth, camera, scores=True, up=up).scores
        np.testing.assert_allclose(found[up], expected.scores, atol=1e-3)
    assert np.abs(found[0.0, -1.0, 0.0] - found[0.3, -9.0, -3.0]).max() > 1e-3


def test_a_graph_that_differs_is_not_written(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = SimpleNamespace(model_proto=onnx.load(files[1]))
    monkeypatch.setattr(torch.onnx, "export", lambda *args, **kwargs: program)
    assert export(make(), tmp_path / "same.onnx").same_labels == 1
    with torch.no_grad():
        other = make()
        other.head.classify.bias.add_(torch.arange(6))
    with pytest.raises(ExportError, match=r"other\.onnx not written: it differs from PyTorch by"):
        export(other, tmp_path / "other.onnx")
    difference = ExportDifference(0.0, 1.0, 0.99)
    monkeypatch.setattr("sgnet_core.inference.onnx_export.compare", lambda *args: difference)
    with pytest.raises(ExportError, match=r"99\.00% of the labels agree"):
        export(make(), tmp_path / "other.onnx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["same.onnx"]


def test_a_model_that_cannot_be_traced_is_an_error_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("no such operator")

    monkeypatch.setattr(torch.onnx, "export", fail)
    words = r"a\.onnx not written: exported cannot be exported with torch .* no such operator"
    with pytest.raises(ExportError, match=words):
        export(make(), tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()


def test_files_that_cannot_run_are_named_with_the_remedy(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelFileError, match=r"none\.onnx: does not exist"):
        Segmenter(tmp_path / "none.onnx")
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(files[1].read_bytes()[:5000])
    with pytest.raises(ModelFileError, match=r"damaged\.onnx: damaged, .*pip install"):
        Segmenter(damaged)
    proto = onnx.load(files[1])
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "foreign.onnx")
    words = r"foreign\.onnx: not an SGNet model; .*sgnet_core\.export"
    with pytest.raises(ModelFileError, match=words):
        Segmenter(tmp_path / "foreign.onnx")
    with pytest.raises(SystemExit) as stopped:
        main(["--model", str(tmp_path / "none.safetensors"), "--out", str(tmp_path / "a.onnx")])
    assert stopped.value.code == 2
    assert "none.safetensors: does not exist" in capsys.readouterr().err


def test_a_backend_the_model_is_not_made_for_is_refused(files: tuple[Path, Path]) -> None:
    source, target = files
    with pytest.raises(ValueError, match=r"backend torch cannot run .*model\.onnx: give the"):
        Segmenter(target, backend="torch")
    with pytest.raises(
        ValueError, match=r"backend onnx cannot run .*model\.safetensors: export it with"
    ):
        Segmenter(source, backend="onnx")
    with pytest.raises(ValueError, match="backend onnx cannot run a network in memory"):
        Segmenter(make(), backend="onnx")
    with pytest.raises(ValueError, match="backend must be one of auto, torch, onnx; got 'tvm'"):
        Segmenter(source, backend="tvm")
    with pytest.raises(ValueError, match=r"precision bf16 needs a \.safetensors model"):
        Segmenter(target, precision="bf16")
    rgb, depth = frame(64, 96)
    with pytest.raises(ValueError, match="scales other than 1"):
        Segmenter(target).segment(rgb, depth, scales=(0.5, 1.0))


@pytest.mark.skipif(
    not torch.cuda.is_available()
    or "CUDAExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="no GPU, or no ONNX Runtime for it",
)
@pytest.mark.parametrize(("precision", "same"), [("fp32", 0.999), ("fp16", 0.995)])
def test_the_segmenter_labels_alike_on_a_gpu(
    files: tuple[Path, Path], precision: str, same: float
) -> None:
    rgb, depth = frame(75, 101)
    expected = Segmenter(files[0], "cpu").segment(rgb, depth).labels
    found = Segmenter(files[1], "cuda", precision).segment(rgb, depth).labels
    assert (found == expected).mean() >= same


def test_the_segmenter_does_not_pay_for_the_labels_of_the_graph(files: tuple[Path, Path]) -> None:
    """ONNX Runtime computes every output, also those that nobody has asked for."""
    network = Segmenter(files[1]).model
    assert isinstance(network, OnnxNetwork)
    assert [output.name for output in network._session.get_outputs()] == ["logits"]
    whole = onnxruntime.InferenceSession(files[1], providers=["CPUExecutionProvider"])
    assert [output.name for output in whole.get_outputs()] == ["labels", "logits"]
    inputs = as_numpy(random_inputs(make(), (1, 64, 96), seed=5))
    (alone,) = network._session.run(None, inputs)
    np.testing.assert_array_equal(alone, whole.run(["logits"], inputs)[0])


def test_without_onnx_runtime_the_error_says_what_to_install(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelFileError, match=r"model\.onnx: needs onnxruntime: pip install"):
        Segmenter(files[1])
    with pytest.raises(ExportError, match="onnxruntime is missing: pip install"):
        export(make(), tmp_path / "a.onnx")
    rgb, depth = frame(64, 96)
    assert Segmenter(files[0], "cpu").segment(rgb, depth).labels.shape == (64, 96)
