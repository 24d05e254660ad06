"""Run jobs on Ray, on this machine or a cluster: one actor per GPU, or per number of cores."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from sgnet_core.fleet.jobs import Failure, Job, Result, Task, attempt

LOCAL = "local"
"""Address that starts a Ray on this machine for the run and stops it at the end."""

ATTEMPTS = 2
"""Number of attempts for a task whose worker dies."""

LOST = f"its worker died {ATTEMPTS} times: a crash, no memory left, or a lost machine"

_MIB = 1 << 20


class WorkersError(ValueError):
    """Ray is not installed or not reachable, or no worker can be started."""


@dataclass(frozen=True)
class Workers:
    """Workers requested from Ray.

    Attributes:
        address: `LOCAL`, or the address of a cluster: ``HOST:PORT``, ``ray://HOST:PORT`` or
            ``auto``.
        cores: CPU cores of each worker.
        gpus: give each worker a GPU if the cluster has any.
    """

    address: str = LOCAL
    cores: int = 1
    gpus: bool = True


class _Worker:
    """Ray actor that runs one task at a time."""

    def __init__(self, job: Job[Any, Any], cores: int) -> None:
        self._job, self._cores = job, cores
        self._run: Callable[[Any], Any]

    def start(self) -> Failure | None:
        """Prepare the process; return a Failure if it cannot do the work."""
        import torch  # takes seconds, and commands without Ray import this module too

        torch.set_num_threads(self._cores)
        started = attempt(lambda job: job.start(), self._job)
        if isinstance(started, Failure):
            return started
        self._run = started
        return None

    def run(self, task: Any) -> Any:
        return attempt(self._run, task)


def run_on_ray(
    job: Job[Task, Result], tasks: Sequence[Task], workers: Workers
) -> Generator[tuple[Task, Result | Failure], None, None]:
    """Run the tasks on Ray's workers.

    A task whose worker dies (a crash, a lost machine, no memory) runs a second time. The end of the
    generator, or closing it, stops the workers and a Ray that was started for them.

    Yields:
        Each task with its result, in the order in which they finish.

    Raises:
        WorkersError: Ray is not installed or not reachable, or no worker is left.
    """
    with _connected(workers) as ray:
        crew = _Crew(ray, job, workers, len(tasks))
        yield from crew.run(tasks)


class _Crew(Generic[Task, Result]):
    """The actors of a run and their tasks.

    An actor gets a task only after it has started. An actor that waits for resources, such as a
    replacement after the loss of a machine, therefore does not delay any task.
    """

    def __init__(self, ray: Any, job: Job[Task, Result], workers: Workers, tasks: int) -> None:
        self._ray = ray
        self._job = ray.put(job)  # stored once for all workers, because it may contain a model
        self._cores = workers.cores
        gpus = int(ray.cluster_resources().get("GPU", 0)) if workers.gpus else 0
        self._actor = ray.remote(num_cpus=workers.cores, num_gpus=1 if gpus else 0)(_Worker)
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Task, int]] = {}
        self._last_problem = ""
        for _ in range(min(tasks, gpus or self._places())):
            self._hire()

    def _places(self) -> int:
        """Return how many workers fit on the cores of the machines."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        places = sum(int(node.get("CPU", 0) // self._cores) for node in nodes)
        if not places:
            raise WorkersError(f"no machine of the Ray cluster has {self._cores} cores")
        return places

    def _hire(self) -> None:
        actor = self._actor.remote(self._job, self._cores)
        self._starting[actor.start.remote()] = actor

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Result | Failure]]:
        waiting = deque((task, 1) for task in tasks)
        while waiting or self._busy:
            while waiting and self._idle:
                actor, (task, attempts) = self._idle.pop(), waiting.popleft()
                self._busy[actor.run.remote(task)] = (actor, task, attempts)
            if not (self._starting or self._busy):
                raise WorkersError(f"no worker could be started: {self._last_problem}")
            [ready], _ = self._ray.wait([*self._busy, *self._starting])
            if ready in self._starting:
                self._started(ready)
                continue
            actor, task, attempts = self._busy.pop(ready)
            try:
                answer = self._ray.get(ready)
            except self._ray.exceptions.RayActorError:
                self._hire()
                if attempts < ATTEMPTS:
                    waiting.appendleft((task, attempts + 1))
                else:
                    yield task, Failure(LOST)
                continue
            except self._ray.exceptions.RayError as error:  # a bug that affects only this task
                answer = Failure(_last_line(error))
            self._idle.append(actor)
            yield task, answer

    def _started(self, ready: Any) -> None:
        """Add a prepared actor; an actor that cannot do the work is not replaced."""
        actor = self._starting.pop(ready)
        try:
            problem = self._ray.get(ready)
        except self._ray.exceptions.RayError as error:
            problem = Failure(_last_line(error))
        if problem is None:
            self._idle.append(actor)
        else:
            self._last_problem = problem.reason


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip()


@contextlib.contextmanager
def _connected(workers: Workers) -> Iterator[Any]:
    """Yield the module ``ray``, connected to a cluster or to a Ray started for the run."""
    # Disable Ray's usage statistics, and do not hide the GPUs from CPU workers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise WorkersError(f"--ray needs {error.name}: pip install 'sgnet_ros[fleet]'") from error
    quiet: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
    try:
        if workers.address == LOCAL:
            ray.init(LOCAL, include_dashboard=False, object_store_memory=512 * _MIB, **quiet)
        else:
            ray.init(workers.address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise WorkersError(f"--ray {workers.address}: {_last_line(error)}") from error
    try:
        yield ray
    finally:
        ray.shutdown()
