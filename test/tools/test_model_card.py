"""The tables that tools/model_card.py writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_card import (
    CARD,
    README,
    SETTINGS,
    classes_table,
    replaced,
    score,
    scores_table,
    speed_table,
)


def figures(**changed: Any) -> dict[str, Any]:
    band = {"miou": 0.25, "pixels": 10}
    return {
        "miou": 0.5,
        "mean_accuracy": 0.625,
        "pixel_accuracy": 0.75,
        "by_distance": {"0-2 m": band, "2-4 m": band, "4+ m": band, "no depth": band},
        "per_class_iou": [0.875, None],
        "classes": ["wall", "box"],
        "confusion": [[6, 0], [2, 0]],
        "ms_per_frame": 70.4,
        **changed,
    }


@pytest.fixture
def results() -> dict[str, dict[str, Any]]:
    many = {"by_distance": {"no depth": {"miou": 0.125, "pixels": 2 * 10**6}}}
    found = {setting.name: figures() for setting in SETTINGS}
    return {**found, "holes": figures(**many), "rooms": figures(per_class_iou=[0.25, 0.125])}


def test_a_row_has_percents_and_dashes_where_there_is_no_score(
    results: dict[str, dict[str, Any]],
) -> None:
    rows = scores_table(results).splitlines()
    assert rows[2] == "| `data/nyuv2:test` | 50.0 | 62.5 | 75.0 | 25.0 | 25.0 | 25.0 | – |"
    assert rows[3].endswith("with holes | 50.0 | 62.5 | 75.0 | – | – | – | 12.5 |")
    assert len(rows) == 2 + len(SETTINGS)


def test_classes_have_their_scores_and_their_share(results: dict[str, dict[str, Any]]) -> None:
    rows = classes_table(results).splitlines()
    assert rows[2] == "| wall | 0.875 | 0.875 | 0.250 | 75.00% |"
    assert rows[3] == "| box | – | – | 0.125 | 25.00% |"


def test_the_readme_has_the_settings_that_differ_in_speed(
    results: dict[str, dict[str, Any]],
) -> None:
    rows = speed_table(results).splitlines()
    assert rows[2] == "| 336 | float32 | PyTorch | 50.0 | 75.0 | 70 |"
    assert len(rows) == 2 + len([s for s in SETTINGS if s.speed])


def test_settings_with_a_result_are_not_run_again(tmp_path: Path) -> None:
    for name in ("float32.onnx", "int8.onnx"):
        (tmp_path / name).touch()
    for number, setting in enumerate(SETTINGS):
        (tmp_path / f"{setting.name}.json").write_text(json.dumps({"miou": number}))
    assert [found["miou"] for found in score(tmp_path).values()] == list(range(len(SETTINGS)))


def test_both_pages_have_the_marks() -> None:
    for page, names in ((CARD, ("scores", "classes")), (README, ("scores",))):
        for name in names:
            text = replaced(page.read_text(encoding="utf-8"), name, "new")
            assert f"<!-- {name}: begin -->\nnew\n<!-- {name}: end -->" in text
    with pytest.raises(ValueError, match="needs the lines <!-- other: begin -->"):
        replaced("no marks", "other", "new")
