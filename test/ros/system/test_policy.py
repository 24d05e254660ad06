"""The policy grants the node the rights that it needs, and a model file has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.models.model_file import ModelFileError
from sgnet_ros.system.environment import share_file

# What not every node has: inputs by parameter, messages and services by distribution
OPTIONAL = {
    "subscribe": {"/bond", "/clock", "/parameter_events", "/tf", "/tf_static", "/imu"}
    | {"/rgb/image_raw/compressed", "/depth/image_raw/compressedDepth"},
    "publish": {"/bond", "/sgnet/label_info"},
    "reply": {"/sgnet/get_type_description"},
}


@pytest.fixture(scope="module")
def allowed() -> dict[str, set[str]]:
    """Full names by what is allowed: subscribe, publish, reply."""
    root = ElementTree.parse(share_file("config/sros2_policy.xml")).getroot()
    (profile,) = root.iter("profile")
    assert (profile.get("ns"), profile.get("node")) == ("/", "sgnet")
    found: dict[str, set[str]] = {}
    for group in profile:
        ((what, verdict),) = group.attrib.items()
        assert verdict == "ALLOW"
        names = [str(entry.text) for entry in group]
        assert len(names) == len(set(names))
        found[what] = {name.replace("~", "/sgnet") for name in names}
    return found


def test_the_policy_is_what_the_node_needs(run_node: Any, allowed: dict[str, set[str]]) -> None:
    running = run_node("depth")
    for what, ask in (
        ("subscribe", running.node.get_subscriber_names_and_types_by_node),
        ("publish", running.node.get_publisher_names_and_types_by_node),
        ("reply", running.node.get_service_names_and_types_by_node),
    ):
        used = {name for name, _ in ask("sgnet", "/")}
        assert used <= allowed[what], "a node in the enclave could not start"
        assert allowed[what] - used <= OPTIONAL[what]
    del ask
    running.stop()


@pytest.mark.parametrize("where", ["above", "absolute"])
def test_an_onnx_file_cannot_have_files_outside_its_folder_opened(
    tmp_path: Path, where: str
) -> None:
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    (tmp_path / "models").mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(16))
    weights = onnx.TensorProto(
        name="w",
        data_type=onnx.TensorProto.FLOAT,
        dims=[4],
        data_location=onnx.TensorProto.EXTERNAL,
    )
    entry = weights.external_data.add()
    entry.key = "location"
    entry.value = str(secret) if where == "absolute" else "../secret"
    names = ("x", "logits")
    ports = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [4]) for n in names]
    add = onnx.helper.make_node("Add", ["x", "w"], ["logits"])
    graph = onnx.helper.make_graph([add], "graph", ports[:1], ports[1:], [weights])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    model.ir_version = 9
    path = tmp_path / "models" / "hostile.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=r"(?i)hostile\.onnx.*external data"):
        Segmenter(path)
