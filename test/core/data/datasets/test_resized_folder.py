"""``prepare resize``: any data set as a plain folder of smaller frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sgnet_core.data.datasets.folder import PlainFolder
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.prepare import main
from write_files import save, write_json


def test_half_size_frames_keep_depth_labels_and_the_field_of_view(tmp_path: Path) -> None:
    source, target = tmp_path / "full", tmp_path / "half"
    blocks = np.arange(6).reshape(2, 3)
    full = np.kron(blocks, np.ones((2, 2), int))
    save(source / "rgb" / "a.png", np.stack([full * 40] * 3, axis=2).astype(np.uint8))
    save(source / "depth" / "a.png", (full * 500).astype(np.uint16))
    save(source / "labels" / "a.png", full.astype(np.uint8))
    camera = {"width": 6, "height": 4, "fx": 8, "fy": 10, "cx": 2.5, "cy": 1.5}
    write_json(source / "camera.json", camera)
    write_json(source / "classes.json", {"names": list("abcdef")})

    assert main(["resize", str(source), "--size", "3x2", "--out", str(target)]) == 0

    data = PlainFolder(target)
    sample = data[0]
    assert data.names == ["a"] and list(data.label_set.names) == list("abcdef")
    np.testing.assert_array_equal(sample.rgb[..., 0], blocks * 40)
    np.testing.assert_allclose(sample.depth, blocks * 0.5)
    np.testing.assert_array_equal(sample.labels, blocks)
    assert sample.intrinsics == Intrinsics(fx=4, fy=5, cx=1, cy=0.5, width=3, height=2)
