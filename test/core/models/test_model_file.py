from __future__ import annotations

import errno
import json
import os
import pickle
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sgnet_core import SGNet, create_model
from sgnet_core.models.info import ModelInfo, Normalization
from sgnet_core.models.labels import LabelSet
from sgnet_core.models.model_file import ModelFileError, default_model_path, load_model, save_model

LABELS = LabelSet("three", ("wall", "floor", "cup"), ((1, 2, 3), (40, 50, 60), (255, 0, 7)))
INFO = ModelInfo(
    "mine",
    LABELS,
    Normalization((1.5, 2.5, 3.5), (4.0, 5.0, 6.0), "bgr"),
    input_height=96,
    holes="nearest",
    depth_range=(0.25, 8.0),
    training={"seed": 3, "miou": 0.5, "data": ["rooms"]},
)


@pytest.fixture(scope="module")
def model() -> SGNet:
    torch.manual_seed(0)
    model = create_model("sgnet_lite", num_classes=3, spatial="points")
    model.info = INFO
    return model


@pytest.fixture(scope="module")
def saved(model: SGNet, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "half.safetensors"
    save_model(model, path, half=True)
    return path.read_bytes()


@pytest.fixture(scope="module")
def small(saved: bytes) -> dict[str, Any]:
    """Return tensors and metadata of a saved file for a test to damage."""
    tensors = safetensors.torch.load(saved)
    length = int.from_bytes(saved[:8], "little")
    return {"tensors": tensors, "metadata": json.loads(saved[8 : 8 + length])["__metadata__"]}


def test_a_model_comes_back_exactly_as_it_was_saved(model: SGNet, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(model.train(), path)
    loaded = load_model(path)
    assert loaded.config == model.config
    assert loaded.info == INFO
    assert not loaded.training
    expected, found = model.state_dict(), loaded.state_dict()
    assert list(expected) == list(found)
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
        assert found[name].dtype == tensor.dtype, name
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_the_loaded_model_computes_what_the_saved_one_did(model: SGNet, tmp_path: Path) -> None:
    save_model(model, tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    rgb, points = torch.randn(1, 3, 40, 48), torch.rand(1, 3, 40, 48)
    with torch.inference_mode():
        assert torch.equal(loaded(rgb, points).logits, model.eval()(rgb, points).logits)


def test_half_halves_the_kernels_and_nothing_else(model: SGNet, saved: bytes) -> None:
    stored = safetensors.torch.load(saved)
    for name, tensor in model.state_dict().items():
        expected = tensor.half() if tensor.ndim == 4 else tensor
        assert stored[name].dtype == expected.dtype, name
        assert torch.equal(stored[name], expected), name


def test_half_loads_as_float32(model: SGNet, saved: bytes, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    path.write_bytes(saved)
    found = load_model(path).state_dict()
    for name, tensor in model.state_dict().items():
        assert found[name].dtype == tensor.dtype, name
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-7)


def test_what_float16_cannot_hold_is_not_written(tmp_path: Path) -> None:
    model = create_model("plain_lite", num_classes=2)
    with torch.no_grad():
        model.trunk.stem[0].weight[0] = 1e6
    path = tmp_path / "m.safetensors"
    with pytest.raises(ValueError, match=r"m\.safetensors not written: trunk\.stem\.0\.weight"):
        save_model(model, path, half=True)
    assert list(tmp_path.iterdir()) == []


def test_files_without_a_depth_policy_take_depth_as_it_comes(
    small: dict[str, Any], tmp_path: Path
) -> None:
    """Write a file as earlier versions did; the shipped weights are such a file."""
    metadata = {k: v for k, v in small["metadata"].items() if k not in ("holes", "depth_range")}
    path = tmp_path / "old.safetensors"
    safetensors.torch.save_file(small["tensors"], path, metadata)
    assert load_model(path).info == replace(INFO, holes="none", depth_range=(1e-3, 1e3))
    shipped = load_model(default_model_path()).info
    assert (shipped.holes, shipped.depth_range) == ("none", (1e-3, 1e3))


def test_a_depth_policy_that_is_none_is_refused() -> None:
    with pytest.raises(
        ValueError, match="holes must be one of none, nearest, joint_bilateral; got 'x'"
    ):
        replace(INFO, holes="x")  # type: ignore[arg-type]
    for limits in ((1.0, 1.0), (0.0, 5.0), (0.5, float("inf")), (float("nan"), 2.0)):
        with pytest.raises(ValueError, match="depth_range must be"):
            replace(INFO, depth_range=limits)


def test_metadata_says_everything_in_json(small: dict[str, Any], model: SGNet) -> None:
    metadata = small["metadata"]
    assert metadata["format"] == "sgnet"
    assert metadata["format_version"] == "1"
    values = {k: json.loads(v) for k, v in metadata.items() if not k.startswith("format")}
    assert values == {
        "config": model.config.to_dict(),
        "name": "mine",
        "labels": {
            "name": "three",
            "names": ["wall", "floor", "cup"],
            "colors": [[1, 2, 3], [40, 50, 60], [255, 0, 7]],
        },
        "normalization": {"mean": [1.5, 2.5, 3.5], "std": [4.0, 5.0, 6.0], "order": "bgr"},
        "input_height": 96,
        "holes": "nearest",
        "depth_range": [0.25, 8.0],
        "training": {"seed": 3, "miou": 0.5, "data": ["rooms"]},
    }
    assert values["config"]["spatial"] == "points"


def refused(path: Path, *words: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        load_model(path)
    for word in (str(path), *words):
        assert word in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    refused(tmp_path / "no.safetensors", "does not exist")
    refused(tmp_path, "cannot be read: Is a directory")


def test_a_file_that_may_not_be_read_is_not_called_missing(
    saved: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, mode: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    path = tmp_path / "a.safetensors"
    path.write_bytes(saved)
    monkeypatch.setattr("builtins.open", refuse)  # the tests may run as root
    refused(path, "cannot be read: Permission denied")


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 9, 500, -100_000, -1])
def test_a_truncated_file_is_refused(saved: bytes, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(saved[:keep])
    refused(path, "truncated")


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n" + bytes(99), b"hello, world", b"\n" * 64])
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(content)
    refused(path, "not a model file")


class Bomb:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_pickle_is_refused_and_not_run(tmp_path: Path, how: str) -> None:
    trace, path = tmp_path / "ran", tmp_path / "hostile.safetensors"
    if how == "pickle":
        path.write_bytes(pickle.dumps(Bomb(trace)))
    else:
        torch.save({"state_dict": Bomb(trace)}, path)
    refused(path, "pickle", "sgnet_core.convert")
    assert not trace.exists()
    if how == "pickle":  # the bomb is a real one
        pickle.loads(path.read_bytes()).close()
        assert trace.exists()


def save_spoilt(path: Path, small: dict[str, Any], tensors: Any = None, **metadata: str) -> None:
    content = small["tensors"] if tensors is None else tensors
    safetensors.torch.save_file(content, path, {**small["metadata"], **metadata})


def test_safetensors_of_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(2)}, path)
    refused(path, "not an SGNet model")


def test_another_format_version_is_refused(small: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "new.safetensors"
    save_spoilt(path, small, format_version="2")
    refused(path, "format version 2", "reads 1")


def test_missing_and_unexpected_tensors_are_named(small: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    tensors = dict(small["tensors"])
    tensors["intruder"] = tensors.pop("head.classify.bias")
    save_spoilt(path, small, tensors)
    refused(path, "missing: head.classify.bias", "unexpected: intruder")


def test_a_misshapen_tensor_is_named_with_both_shapes(
    small: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    tensors = {**small["tensors"], "head.classify.bias": torch.zeros(4)}
    save_spoilt(path, small, tensors)
    refused(path, "head.classify.bias is [4] instead of [3]")


@pytest.mark.parametrize(
    ("value", "word"),
    [(torch.tensor([0, torch.nan, 0]), "NaN"), (torch.zeros(3, dtype=torch.int32), "int32")],
)
def test_nan_and_wrongly_typed_weights_are_named(
    small: dict[str, Any], tmp_path: Path, value: torch.Tensor, word: str
) -> None:
    path = tmp_path / "m.safetensors"
    save_spoilt(path, small, {**small["tensors"], "head.classify.bias": value})
    refused(path, "head.classify.bias", word)


SPOILT = [
    ("config", "{", "config is not JSON"),
    ("config", "[1]", "wrong metadata"),
    ("config", '{"wings": 2}', "wings"),
    ("config", '{"depth": "18"}', "depth"),
    ("config", '{"depth": 19}', "depth"),
    ("config", '{"num_classes": 1000000000000}', "num_classes"),
    ("config", '{"num_classes": 40}', "3 classes"),
    ("config", "[" * 100_000, "config is not JSON"),
    ("labels", '{"name": "x", "names": ["a"], "colors": []}', "0 colors"),
    ("labels", "7", "not a label set"),
    ("normalization", '{"mean": [0, 0, 0], "std": [0, 1, 1], "order": "rgb"}', "std"),
    ("normalization", '{"mean": [0, NaN, 0], "std": [1, 1, 1], "order": "rgb"}', "NaN"),
    ("normalization", '{"mean": [0, 0, 0], "std": [1, 1, 1], "order": "gbr"}', "gbr"),
    ("input_height", "-3", "input_height"),
    ("input_height", '"tall"', "wrong metadata"),
]


@pytest.mark.parametrize(("key", "value", "word"), SPOILT)
def test_hand_edited_metadata_is_refused(
    small: dict[str, Any], tmp_path: Path, key: str, value: str, word: str
) -> None:
    path = tmp_path / "edited.safetensors"
    save_spoilt(path, small, {}, **{key: value})
    refused(path, "wrong metadata", word)


def test_each_missing_piece_of_metadata_is_named(small: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    for key in ("config", "name", "labels", "normalization", "input_height", "training"):
        metadata = {k: v for k, v in small["metadata"].items() if k != key}
        safetensors.torch.save_file({}, path, metadata)
        refused(path, f"{key} is missing")


def test_a_config_of_another_network_does_not_fit(small: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    config = {**json.loads(small["metadata"]["config"]), "depth": 34}
    save_spoilt(path, small, config=json.dumps(config))
    refused(path, "weights do not fit", "missing: trunk.layers.0.2.conv1.weight", "more")


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_any_damaged_header_loads_or_is_refused_with_its_name(
    small: dict[str, Any], tmp_path: Path, place: float, byte: int
) -> None:
    header = safetensors.torch.save({}, small["metadata"])
    position = int(place * len(header))
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(header[:position] + bytes([byte]) + header[position + 1 :])
    refused(path)


def test_a_full_disk_leaves_the_old_file(model: SGNet, saved: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(saved)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))  # files end at 1 MiB
    try:
        with pytest.raises(OSError, match=r"m\.safetensors"):
            save_model(model, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == saved
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_saving_over_a_loaded_file_leaves_the_loaded_model_alone(
    model: SGNet, saved: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    save_model(model, path)
    loaded = load_model(path)
    before = {k: v.clone() for k, v in loaded.state_dict().items()}
    with open(path, "r+b") as file:  # in place, as a careless copy would
        file.write(bytes(path.stat().st_size))
    assert all(torch.equal(v, before[k]) for k, v in loaded.state_dict().items())


def test_a_renamed_model_keeps_its_new_name(model: SGNet, tmp_path: Path) -> None:
    other = create_model("plain_lite", num_classes=3)
    other.info = replace(INFO, name="kitchen", training={})
    save_model(other, tmp_path / "k.safetensors")
    loaded = load_model(tmp_path / "k.safetensors")
    assert loaded.info.name == "kitchen"
    assert loaded.config.spatial == "none"


def test_label_sets_of_earlier_files_which_name_an_ignore_id_are_read() -> None:
    labels = LabelSet("two", ("robot", "rest"), ((9, 9, 9), (0, 0, 0)))
    assert "ignore_id" not in labels.to_dict()
    assert LabelSet.from_dict({**labels.to_dict(), "ignore_id": 0}) == labels
