"""Mutated files give the documented error or a result, in bounded memory and time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import fuzz_files

COUNT = 300


@pytest.mark.slow
def test_mutated_files_give_an_error_or_a_result(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    pytest.importorskip("scipy")
    script = Path(fuzz_files.__file__)
    done = subprocess.run(
        [sys.executable, script, tmp_path, str(COUNT)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = json.loads(done.stdout)
    assert len(outcomes) == 17
    for kind, (refused, read) in outcomes.items():
        assert refused + read == COUNT
        assert refused > 0, kind
    assert sum(read for _, read in outcomes.values()) > 500  # not all stop at the first check
