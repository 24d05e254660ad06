"""Jobs on a real Ray of this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import fleet_jobs

pytest.importorskip("ray", reason="Ray is not installed: pip install 'sgnet_ros[fleet]'")

from fleet_jobs import Broken, Squares
from sgnet_core.fleet.jobs import Failure
from sgnet_core.fleet.ray_workers import LOST, Workers, WorkersError, run_on_ray

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers find the jobs' module."""
    places = [str(Path(fleet_jobs.__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, places)))


def test_mishaps_stay_with_their_task_and_a_killed_one_runs_again_once(tmp_path: Path) -> None:
    found = dict(run_on_ray(Squares(tmp_path), range(9), Workers()))
    assert found == {
        **{number: number**2 for number in (0, 1, 2, 4, 7, 8)},
        3: Failure("3 is poisoned"),
        5: Failure(LOST),
        6: Failure("ZeroDivisionError: a bug"),
    }
    tries = {int(path.name): path.stat().st_size for path in tmp_path.iterdir()}
    assert tries == {**dict.fromkeys(range(9), 1), 4: 2, 5: 2}


def test_work_that_no_worker_can_start_is_an_error() -> None:
    with pytest.raises(WorkersError, match=r"could be started: m\.safetensors: truncated"):
        list(run_on_ray(Broken(), [1, 2], Workers()))


def test_workers_that_no_machine_has_room_for_are_an_error() -> None:
    with pytest.raises(WorkersError, match="no machine of the Ray cluster has 4096 cores"):
        list(run_on_ray(Broken(), [1, 2], Workers(cores=4096)))
