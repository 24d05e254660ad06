"""Extensions are found by group and name, and what keeps one from loading is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgnet_core.plugins import PluginError, load_plugin, plugin_names

ENTRY_POINTS = """\
[sgnet.tests]
right = offered_by_a_test:answer
needy = offered_by_a_test_too:answer
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that registers two extensions, one of which lacks a module."""
    (tmp_path / "offered_by_a_test.py").write_text("answer = 42\n")
    (tmp_path / "offered_by_a_test_too.py").write_text("import no_such_module\nanswer = 43\n")
    metadata = tmp_path / "offered_by_a_test-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: offered\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_registered_object_is_loaded() -> None:
    assert plugin_names("sgnet.tests") == ["needy", "right"]
    assert load_plugin("sgnet.tests", "right") == 42


def test_what_is_missing_is_named() -> None:
    with pytest.raises(PluginError, match=r"_too:answer needs .* no_such_module"):
        load_plugin("sgnet.tests", "needy")
    with pytest.raises(PluginError, match=r"no .* provides .wrong. in .* sgnet\.tests"):
        load_plugin("sgnet.tests", "wrong")
