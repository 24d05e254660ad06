"""Where a run comes from: the commit and what was changed since, every start of it, its log."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

import sgnet_core
from sgnet_core.training import record
from sgnet_core.training.distributed import World, join_world
from sgnet_core.training.progress import RunLog
from sgnet_core.training.record import code_state, write_environment


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in a checkout of its own."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    folder = tmp_path / "checkout" / "package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("a = 1\n")
    git(folder.parent, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    monkeypatch.setattr(record, "PACKAGE", folder)
    return folder


def test_the_commit_and_the_changes_since_are_kept(tmp_path: Path, package: Path) -> None:
    commit = git(package, "rev-parse", "HEAD")
    state, changes = code_state()
    assert (state["commit"], state["dirty"], changes) == (commit, False, "")
    (package / "__init__.py").write_text("a = 2\n")
    (package / "new.py").write_text("")
    run = tmp_path / "run"
    run.mkdir()
    for iteration in (0, 70):
        write_environment(run, 5, iteration, torch.device("cpu"), World())
    starts = json.loads((run / "environment.json").read_text())
    assert [start["iteration"] for start in starts] == [0, 70]
    assert starts[1]["seed"] == 5
    code = starts[1]["code"]
    assert (code["commit"], code["dirty"], code["untracked"]) == (commit, True, ["package/new.py"])
    diff = (run / code["diff"]).read_text()
    assert "-a = 1\n+a = 2\n" in diff
    git(package, "checkout", "-q", ".")
    git(package.parent, "apply", str(run / code["diff"]))
    assert (package / "__init__.py").read_text() == "a = 2\n", "the diff brings the changes back"


def test_an_installed_package_has_its_version(package: Path) -> None:
    git(package, "rm", "-q", "--cached", "__init__.py")  # as in an environment inside a checkout
    state, changes = code_state()
    assert state == {"version": sgnet_core.__version__} and not changes


def test_an_uninstalled_checkout_has_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def uninstalled(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", uninstalled)
    assert code_state()[0]["version"] == sgnet_core.__version__


def test_library_and_setup_py_have_one_version() -> None:
    setup = (Path(__file__).parents[3] / "setup.py").read_text()
    assert f'version="{sgnet_core.__version__}"' in setup


def test_what_was_logged_after_the_checkpoint_is_logged_anew(tmp_path: Path) -> None:
    first = RunLog(tmp_path, 0)
    for iteration in (10, 20, 30):
        first.add({"iteration": iteration, "miou": iteration / 100})
    first.close()
    second = RunLog(tmp_path, 20)
    second.add({"iteration": 30, "miou": 0.5, "lr": 0.1})
    second.close()
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["iteration"] for row in rows] == ["10", "20", "30"]
    assert [row["miou"] for row in rows] == ["0.1", "0.2", "0.5"]
    assert [row["lr"] for row in rows] == ["", "", "0.1"]


def test_a_process_alone_needs_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with join_world("cpu") as (world, device):
        assert (world.rank, world.size, world.is_main, device.type) == (0, 1, True, "cpu")
        assert world.sum([1.5, 2.0]) == [1.5, 2.0]
        assert world.from_main("x") == "x"
    with pytest.raises(ValueError, match=r"device is auto, cpu.*'tpux'"), join_world("tpux"):
        pass
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no device cuda:1"), join_world("cuda:1"):
            pass
