"""The picture of S-Conv's sampling positions."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from sampling import edge_points, main, movements, samplings
from sgnet_core import Intrinsics, Segmenter, create_model
from sgnet_core.data.images import read_rgb
from sgnet_core.data.sample import Sample


def step_sample() -> Sample:
    """A near left half before a far right one."""
    depth = np.full((96, 128), 4, np.float32)
    depth[:, :64] = 1
    rgb = np.full((96, 128, 3), 128, np.uint8)
    return Sample(rgb, depth, np.zeros((96, 128), np.uint8), Intrinsics.from_fov(128, 96, 60))


def segmenter(dy: float, dx: float) -> Segmenter:
    """With S-Convs that move all positions by (dy, dx) of their own pixels."""
    torch.manual_seed(0)
    model = create_model("sgnet_lite", layers=[1, 2, 3, 4]).eval()
    for placed in model.sconvs():
        bias = placed.sconv.offset_generator.bias
        with torch.no_grad():
            bias.copy_(torch.tensor([dy, dx]).repeat(9))
    return Segmenter(model, device="cpu")


@pytest.mark.parametrize(("layer", "stride", "step"), [(1, 4, 1), (2, 4, 2), (3, 8, 2)])
def test_positions_are_those_of_the_convolution_plus_its_offsets(
    layer: int, stride: int, step: int
) -> None:
    point = (48, 64)
    (found,) = samplings(segmenter(0.5, -0.25), step_sample(), layer, [point])
    ticks = np.array([-stride, 0, stride])
    expected = [(point[0] + y, point[1] + x) for y in ticks for x in ticks]
    assert point[0] % (stride * step) == 0
    np.testing.assert_allclose(found.regular, expected)
    np.testing.assert_allclose(found.guided - found.regular, np.tile([0.5, -0.25], (9, 1)) * stride)
    assert ((found.weight > 0) & (found.weight < 1)).all()


def test_movements_are_printed_for_every_sconv() -> None:
    lines = movements(segmenter(0.3, -0.4), step_sample())
    assert [line.split("; ")[0] for line in lines] == [
        f"layer {layer}: positions moved by 0.50 pixels, 95 % of them by less than 0.50"
        for layer in (1, 2, 3, 4)
    ]
    assert all(re.search(r"; weights 0\.\d\d to 0\.\d\d \(5 % and 95 %\)$", line) for line in lines)
    assert movements(Segmenter(create_model("plain_lite"), device="cpu"), step_sample()) == []


def test_points_lie_beside_the_step_in_depth() -> None:
    points = edge_points(step_sample().depth, 2)
    assert len(set(points)) == 2
    assert all(abs(x - 64) <= 5 for _, x in points)


def test_the_command_draws_a_row_per_layer(tmp_path: Path) -> None:
    out = tmp_path / "sampling.png"
    assert (
        main(["--data", "rooms:5:1", "--index", "0", "--layers", "2", "3", "--out", str(out)]) == 0
    )
    picture = read_rgb(out)
    assert picture.shape == (2 * 480, 3 * 640, 3)
    plain, guided = picture[:480, :640], picture[:480, 640:1280]
    assert (plain != guided).any()
    np.testing.assert_array_equal(plain[:20], guided[:20])  # no point near the border


def test_a_layer_without_offsets_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="plain_lite has no S-Conv with offsets in layer 3"):
        samplings(Segmenter(create_model("plain_lite"), device="cpu"), step_sample(), 3, [(9, 9)])
    assert main(["--rgb", "x.png", "--out", str(tmp_path / "a.png")]) == 2
    assert "--rgb needs --depth and --intrinsics" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--data", "rooms:5:1", "--out", str(tmp_path / "a.jpg")])
    assert "--out must be a PNG file, FILE.png, got" in capsys.readouterr().err
