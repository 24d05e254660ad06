"""Jobs: the same work on many tasks, in the workers of `ray_workers`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")
TaskIn = TypeVar("TaskIn", contravariant=True)
ResultOut = TypeVar("ResultOut", covariant=True)


@dataclass(frozen=True)
class Failure:
    """A task without a result.

    Attributes:
        reason: one line that names the file and says what is wrong.
    """

    reason: str


class Job(Protocol[TaskIn, ResultOut]):
    """Work that can be sent to other processes: it can be pickled."""

    def start(self) -> Callable[[TaskIn], ResultOut]:
        """Prepare a process, as by loading a model, and return what it does with each task.

        Raises:
            ValueError, OSError: the process cannot do this work.
        """


def attempt(run: Callable[[Task], Result], task: Task) -> Result | Failure:
    """Return the result of a task, or why there is none; other errors are raised as bugs."""
    try:
        return run(task)
    except (ValueError, OSError) as error:
        return Failure(" ".join(str(error).split()) or type(error).__name__)
