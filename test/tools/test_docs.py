"""The pages that are made from the code are up to date."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from check_docs import commands, rule_for  # noqa: E402


def test_the_page_of_parameters_is_what_the_node_declares() -> None:
    command = [sys.executable, str(ROOT / "tools" / "parameters_page.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_command_in_the_docs_is_one_that_the_check_can_try() -> None:
    found = list(commands())
    assert len(found) > 20
    assert [item for item in found if rule_for(item[1]) is None] == []
