"""The page of inputs has the tables that the readers use."""

from __future__ import annotations

import pytest

from inputs_page import PAGE, TABLES, updated
from sgnet_core.geometry import lens


def test_the_page_of_inputs_matches_the_readers() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in TABLES if f"<!-- table {name} -->" not in text] == []
    assert updated(text) == text, "run python tools/inputs_page.py"


def test_a_new_constant_of_a_reader_appears_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(lens.COEFFICIENTS, "thin_prism_fisheye", 8)
    before = "<!-- table lenses -->\n| old |\n<!-- end -->\nKept."
    after = updated(before)
    assert "| `thin_prism_fisheye` | 8 |\n<!-- end -->\nKept." in after
    assert "old" not in after
