"""INT8: nearly the same labels from a file half as large or less."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgnet_core import Segmenter
from sgnet_core.data.rooms import Rooms
from sgnet_core.export import main

pytest.importorskip("onnxruntime.quantization", reason="ONNX Runtime is not installed")
onnx = pytest.importorskip("onnx", reason="onnx is not installed")


@pytest.mark.slow
def test_int8_keeps_the_labels_and_the_description(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    eight = tmp_path / "int8.onnx"
    assert main(["--out", str(eight), "--int8", "--calibration", "rooms:1:8"]) == 0
    assert "labels agree" in capsys.readouterr().out
    assert eight.stat().st_size < 20e6  # 47e6 in float32
    first, second = Segmenter(device="cpu"), Segmenter(eight, device="cpu")
    assert second.info == first.info
    assert second.model.config == first.model.config
    sample = Rooms(4000, 1)[0]
    masks = [s.segment(sample.rgb, sample.depth, sample.intrinsics).labels for s in (first, second)]
    assert (masks[0] == masks[1]).mean() >= 0.98
    weights = {w.name: w.data_type for w in onnx.load(eight).graph.initializer}
    exact = [n for n in weights if n.endswith(("offset_generator.weight", "stem.0.weight"))]
    assert len(exact) == 5
    assert all(weights[name] == onnx.TensorProto.FLOAT for name in exact)


def test_frames_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path / "x.onnx"), "--int8", "--calibration", "nowhere"])
