"""Devices that ONNX Runtime runs a model on, and errors where it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sgnet_core import ModelFileError
from sgnet_core.files import cache_folder
from sgnet_core.inference.onnx_session import open_session, providers

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

CPU, CUDA = torch.device("cpu"), torch.device("cuda:1")
ALL = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A graph with the outputs of an exported model: logits = 2 x, labels = their argmax."""
    return write(tmp_path / "twice.onnx", onnx.helper.make_node("Add", ["x", "x"], ["logits"]))


def write(path: Path, node: object) -> Path:
    floats, ids = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    labels = onnx.helper.make_node("ArgMax", ["logits"], ["labels"], keepdims=0)
    graph = onnx.helper.make_graph(
        [node, labels],
        "graph",
        [onnx.helper.make_tensor_value_info("x", floats, [3])],
        [
            onnx.helper.make_tensor_value_info("labels", ids, []),
            onnx.helper.make_tensor_value_info("logits", floats, [3]),
        ],
    )
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets)
    model.ir_version = 9
    onnx.helper.set_model_props(model, {"name": "twice"})
    path.write_bytes(model.SerializeToString())
    return path


def test_a_session_gives_the_logits_alone_and_the_metadata(file: Path) -> None:
    session, metadata = open_session(file, CPU, half=False)
    assert metadata == {"name": "twice"}
    x = torch.tensor([1.0, 3.0, 2.0]).numpy()
    (logits,) = session.run(None, {"x": x})
    assert logits.tolist() == [2.0, 6.0, 4.0]


def test_the_labels_of_the_file_are_not_computed(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ProfiledOptions(onnxruntime.SessionOptions):
        def __init__(self) -> None:
            super().__init__()
            self.enable_profiling = True
            self.profile_file_prefix = str(tmp_path / "profile")

    monkeypatch.setattr(onnxruntime, "SessionOptions", ProfiledOptions)
    session, _ = open_session(file, CPU, half=False)
    session.run(None, {"x": torch.zeros(3).numpy()})
    events = json.loads(Path(session.end_profiling()).read_text())
    assert {event["args"]["op_name"] for event in events if event["cat"] == "Node"} == {"Add"}


def test_the_best_provider_of_the_gpu_comes_first_and_the_cpu_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert [name for name, _ in providers("m.onnx", CUDA, True, ALL)] == ALL
    assert [name for name, _ in providers("m.onnx", CUDA, True, ALL[1:])] == ALL[1:]
    assert [name for name, _ in providers("m.onnx", CPU, False, ALL)] == ALL[2:]
    tensorrt, cuda, _ = (settings for _, settings in providers("m.onnx", CUDA, True, ALL))
    assert tensorrt["device_id"] == cuda["device_id"] == 1
    assert tensorrt["trt_fp16_enable"] is True
    assert tensorrt["trt_engine_cache_path"] == str(cache_folder("tensorrt"))
    assert tmp_path in cache_folder("tensorrt").parents
    assert providers("m.onnx", CUDA, False, ALL)[0][1]["trt_fp16_enable"] is False


def test_a_runtime_without_gpu_says_what_to_install(file: Path) -> None:
    if set(onnxruntime.get_available_providers()) & set(ALL[:2]):
        pytest.skip("this ONNX Runtime is built for a GPU")
    with pytest.raises(
        ModelFileError, match=r"twice\.onnx: .*only runs on the CPU.*onnxruntime-gpu"
    ):
        open_session(file, CUDA, half=True)


def test_a_gpu_that_does_not_start_is_an_error_and_not_the_cpu_in_silence(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available():
        pytest.skip("it might start")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ALL)
    with (
        pytest.warns(UserWarning, match="not in available provider"),
        pytest.raises(ModelFileError, match=r"could not start Tensorrt.*device cpu"),
    ):
        open_session(file, CUDA, half=True)


def test_compiled_code_in_a_model_is_refused(tmp_path: Path) -> None:
    """TensorRT would run it; the CPU does not know it."""
    node = onnx.helper.make_node(
        "EPContext", ["x"], ["logits"], domain="com.microsoft", ep_cache_context="code"
    )
    path = write(tmp_path / "compiled.onnx", node)
    with pytest.raises(ModelFileError, match=r"compiled\.onnx: .*contains compiled code"):
        open_session(path, CPU, half=False)
