"""The report: its figures are those of the scores, and it needs nothing but itself."""

from __future__ import annotations

import base64
import io
import re
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgnet_core.data.images import overlay
from sgnet_core.eval import main
from sgnet_core.evaluation.metrics import Scores
from sgnet_core.evaluation.report import Extremes, Report, ScoredFrame, html_page, text_table
from sgnet_core.models.labels import LabelSet, bit_palette

LABELS = LabelSet("four", ("wall", "cup & <saucer>", "floor", "ghost"), bit_palette(4))
RNG = np.random.default_rng(0)


def scored(name: str, miou: float, size: tuple[int, int] = (6, 8)) -> ScoredFrame:
    rgb = RNG.integers(0, 256, (*size, 3), np.uint8)
    truth = RNG.integers(0, 3, size).astype(np.uint8)
    truth[0] = 255
    return ScoredFrame(name, miou, rgb, truth, RNG.integers(0, 3, size).astype(np.uint8))


def scores() -> Scores:
    """wall: 3 of 4 right; cup: half a pixel's worth; floor: right; ghost: predicted, never true."""
    found = Scores(4)
    truth = np.array([[0, 0, 0, 0, 1, 1, 2, 255]], np.uint8)
    predicted = np.array([[0, 0, 0, 1, 1, 3, 2, 0]], np.uint8)
    found.add(truth, predicted, np.array([[1, 1, 1, 3, 3, 3, 0, 5]], np.float32))
    return found


class Page(HTMLParser):
    """The texts, tags and attributes of a page, which must be well nested."""

    VOID = ("meta", "img", "link", "br", "rect", "line", "polyline")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.rows and ("td" in self.stack or "th" in self.stack):
            self.rows[-1][-1] += data.strip()


def page(**parts: object) -> str:
    report = {"title": "T", "facts": {"data": "d"}, "scores": scores(), "labels": LABELS}
    return html_page(Report(**{**report, **parts}))  # type: ignore[arg-type]


def rows_of(text: str) -> dict[str, list[str]]:
    return {row[0]: row[1:] for row in Page(text).rows}


def test_classes_and_distances_are_those_of_the_scores() -> None:
    rows = rows_of(page())
    # IoU, recall, precision, share; one of seven labeled pixels is 14.29 %
    assert rows["wall"] == ["", "75.0", "75.0", "100.0", "57.14"]
    assert rows["cup & <saucer>"] == ["", "33.3", "50.0", "50.0", "28.57"]
    assert rows["floor"] == ["", "100.0", "100.0", "100.0", "14.29"]
    assert "ghost" not in rows
    assert rows["0-2 m"] == ["", "100.0", "100.0", "42.9"]
    assert rows["2-4 m"] == ["", "16.7", "33.3", "42.9"]
    assert rows["4+ m"] == ["", "–", "–", "0.0"]
    assert rows["no depth"] == ["", "100.0", "100.0", "14.3"]


def test_headline_and_absent_classes() -> None:
    text = page()
    assert "Absent from the truth, in no mean: ghost." in text
    for value in ("69.4", "75.0", "71.4"):  # mIoU, mean accuracy, pixel accuracy
        assert f"<b>{value}<small> %</small></b>" in text
    assert "<b>3<small> of 4</small></b>" in text


def test_the_confusion_matrix_is_normalized_by_row() -> None:
    cells = dict(re.findall(r"<title>(.*?): (.*?) %</title>", page()))
    assert cells["wall → wall"] == "75.00"
    assert cells["wall → cup &amp; &lt;saucer&gt;"] == "25.00"
    assert cells["cup &amp; &lt;saucer&gt; → ghost"] == "50.00"
    assert len(cells) == 3 * 4, "rows: classes that are true; columns: those that are predicted too"


def test_the_page_holds_all_it_shows() -> None:
    extremes = Extremes()
    for index in range(4):
        extremes.add(scored(f"f{index}", index / 10))
    curve = [{"iteration": 10.0, "miou": 0.2, "loss": 2.0}, {"iteration": 30.0, "miou": 0.4}]
    text = page(extremes=extremes, curve=curve, iteration=30)
    parsed = Page(text)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in parsed.tags}
    sources = [attributes["src"] or "" for tag, attributes in parsed.tags if tag == "img"]
    assert len(sources) == 4 * 4, "four pictures of each frame, and no frame twice"
    assert all(source.startswith("data:image/") for source in sources)
    assert "http" not in text
    assert "url(" not in text
    assert "@import" not in text


def decoded(source: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))


def test_the_pictures_are_the_frame_its_truth_and_its_prediction() -> None:
    smooth = np.full((40, 60, 3), (90, 120, 150), np.uint8)
    truth = np.zeros((20, 30), np.uint8)
    truth[:, 15:], truth[:3] = 1, 255
    predicted = np.zeros((20, 30), np.uint8)
    predicted[:, 20:] = 2
    extremes = Extremes()
    extremes.add(ScoredFrame("one", 0.5, smooth, truth, predicted))
    tags = Page(page(extremes=extremes)).tags
    pictures = {a["alt"]: decoded(a["src"] or "") for tag, a in tags if tag == "img"}
    assert list(pictures) == [f"{p} of one" for p in ("image", "truth", "prediction", "overlay")]
    arrays = {k.partition(" ")[0]: np.array(v.convert("RGB")) for k, v in pictures.items()}
    np.testing.assert_array_equal(arrays["truth"], LABELS.colorize(truth))
    np.testing.assert_array_equal(arrays["prediction"], LABELS.colorize(predicted))
    np.testing.assert_allclose(arrays["image"], smooth, atol=2)
    large = predicted.repeat(2, axis=0).repeat(2, axis=1)
    drawn = overlay(smooth, large, LABELS, 0.55)
    far = np.s_[:, [0, 20, 30, 50, 59]]  # JPEG blurs the edge
    np.testing.assert_allclose(arrays["overlay"][far], drawn[far], atol=12)


def test_large_pictures_are_shrunk() -> None:
    extremes = Extremes()
    extremes.add(scored("big", 0.5, (480, 1280)))
    sizes = {
        decoded(a["src"] or "").size for t, a in Page(page(extremes=extremes)).tags if t == "img"
    }
    assert sizes == {(640, 240)}


def test_names_cannot_put_markup_into_the_page() -> None:
    text = page(title="<script>alert(1)</script>", facts={"data": "<img src=x>"})
    assert not {"script", "img"} & {tag for tag, _ in Page(text).tags}


def test_the_training_curve_is_drawn_to_scale() -> None:
    curve = [{"iteration": float(i), "miou": m} for i, m in ((0, 0.0), (50, 0.5), (100, 1.0))]
    [line] = [a for tag, a in Page(page(curve=curve)).tags if tag == "polyline"]
    points = [tuple(map(float, p.split(","))) for p in (line["points"] or "").split()]
    assert points == [(0, 200), (230, 100), (460, 0)]
    assert "polyline" not in page(curve=curve[:1]), "one record is no curve"


def test_extremes_are_the_highest_and_the_lowest_in_order() -> None:
    extremes = Extremes(keep=2)
    values = [0.4, 0.9, float("nan"), 0.1, 0.9, 0.5, 0.2]
    for index, value in enumerate(values):
        extremes.add(scored(str(index), value))
    assert [f.name for f in extremes.best] == ["1", "4"]
    assert [f.name for f in extremes.worst] == ["3", "6"]


def test_a_set_without_a_labeled_pixel_gives_a_page_without_figures() -> None:
    empty = Scores(4)
    empty.add(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8), np.ones((2, 2)))
    text = page(scores=empty)
    assert "<b>–<small> %</small></b>" in text
    assert 'id="confusion"' not in text
    assert rows_of(text)["0-2 m"][1:] == ["–", "–", "0.0"]


def columns(text: str, name: str) -> Sequence[str]:
    [line] = [line for line in text.splitlines() if line.startswith(name)]
    return line.removeprefix(name).split()


def test_the_table_says_what_is_absent() -> None:
    text = text_table(scores(), LABELS.names)
    assert columns(text, "wall") == ["0.750", "0.750", "57.14%"]
    assert columns(text, "ghost") == ["-", "-", "-"]
    assert columns(text, "2-4 m") == ["0.167", "0.333", "42.86%"]
    assert columns(text, "4+ m") == ["-", "-", "-"]
    assert text.splitlines()[-1] == (
        "mIoU 0.6944   mean accuracy 0.7500   pixel accuracy 0.7143   (1 frames)"
    )


def test_a_missing_jinja2_is_named_before_the_evaluation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    started = []
    monkeypatch.setattr("sgnet_core.eval.segmenter_masks", lambda *a, **k: started.append(1))
    assert main(["--data", "rooms:1:1", "--report", str(tmp_path / "r.html")]) == 2
    assert "the report needs jinja2: pip install 'sgnet_ros[train]'" in capsys.readouterr().err
    assert not started


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    path = tmp_path / "out" / "report.html"
    options = ["--data", "rooms:1000:2", "--size", "64x48", "--report", str(path)]
    assert main(options) == 0
    text = path.read_text(encoding="utf-8")
    assert "<h1>sgnet_lite on rooms:1000:2</h1>" in text
    assert len([tag for tag, _ in Page(text).tags if tag == "img"]) == 8
    assert "<dd>default.safetensors</dd>" in text
