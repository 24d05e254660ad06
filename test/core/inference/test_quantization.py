"""INT8: nearly the same labels from a file half as large or less."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sgnet_core import Segmenter
from sgnet_core.data.rooms import Rooms
from sgnet_core.evaluation.metrics import ConfusionMatrix
from sgnet_core.evaluation.segmenter_masks import segmenter_masks
from sgnet_core.export import main
from sgnet_core.inference.quantization import split

pytest.importorskip("onnxruntime.quantization", reason="ONNX Runtime is not installed")
onnx = pytest.importorskip("onnx", reason="onnx is not installed")


@pytest.mark.slow
def test_int8_keeps_the_labels_and_the_description(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    eight = tmp_path / "int8.onnx"
    options = ["--calibrate", "rooms:1:8", "--score", "rooms:5:3"]
    assert main(["--out", str(eight), "--int8", *options]) == 0
    printed = capsys.readouterr().out
    assert "calibrated with 6 frames of rooms:1:8" in printed
    found = re.search(r"mIoU on 3 frames of rooms:5:3: (\S+) in float32, (\S+) in INT8", printed)
    assert found is not None
    confusion = ConfusionMatrix(40)
    for sample, mask, _ in segmenter_masks(Segmenter(eight, device="cpu"), Rooms(5, 3, (240, 320))):
        confusion.update(sample.labels, mask)
    assert float(found[2]) == pytest.approx(confusion.miou, abs=1e-4)
    assert eight.stat().st_size < 20e6  # 47e6 in float32
    first, second = Segmenter(device="cpu"), Segmenter(eight, device="cpu")
    assert second.info == first.info
    assert second.model.config == first.model.config
    sample = Rooms(4000, 1)[0]
    masks = [s.segment(sample.rgb, sample.depth, sample.intrinsics).labels for s in (first, second)]
    assert (masks[0] == masks[1]).mean() >= 0.98
    weights = {w.name: w.data_type for w in onnx.load(eight).graph.initializer}
    exact = [n for n in weights if n.endswith(("offset_generator.weight", "stem.0.weight"))]
    assert len(exact) == 4
    assert all(weights[name] == onnx.TensorProto.FLOAT for name in exact)


def test_calibration_frames_are_spread_over_the_set() -> None:
    seen, unseen = split(range(1000))  # type: ignore[arg-type]
    assert [seen[i] for i in range(3)] == [0, 15, 31]  # type: ignore[comparison-overlap]
    assert (len(seen), len(unseen), unseen[15]) == (48, 16, 984)  # type: ignore[comparison-overlap]
    with pytest.raises(ValueError, match="at least 4 frames, got 3"):
        split(range(3))  # type: ignore[arg-type]


def test_frames_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path / "x.onnx"), "--int8", "--calibration", "nowhere"])
