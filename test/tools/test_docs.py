"""The pages agree with the code, and every command on them works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from architecture import problems
from check_docs import commands, rule_for

ROOT = Path(__file__).parents[2]


def test_the_page_of_parameters_is_what_the_node_declares() -> None:
    command = [sys.executable, str(ROOT / "tools" / "parameters_page.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_folders_and_imports_are_those_of_the_drawing() -> None:
    assert problems(ROOT) == []


def test_every_command_in_the_docs_is_one_that_the_check_can_try() -> None:
    found = list(commands())
    assert len(found) > 20
    assert [item for item in found if rule_for(item[1]) is None] == []


@pytest.mark.slow
def test_every_command_in_the_docs_works() -> None:
    command = [sys.executable, str(ROOT / "tools" / "check_docs.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
