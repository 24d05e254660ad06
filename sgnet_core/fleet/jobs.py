"""Jobs: the same work on many tasks, run by the workers of `ray_workers`."""

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
    """Work that can be pickled and sent to other processes."""

    def start(self) -> Callable[[TaskIn], ResultOut]:
        """Prepare a process, for example load a model, and return the function of a task.

        Raises:
            ValueError, OSError: the process cannot do this work.
        """


def attempt(run: Callable[[Task], Result], task: Task) -> Result | Failure:
    """Return the result of a task, or a Failure for ValueError and OSError; others are bugs."""
    try:
        return run(task)
    except (ValueError, OSError) as error:
        return Failure(" ".join(str(error).split()) or type(error).__name__)
