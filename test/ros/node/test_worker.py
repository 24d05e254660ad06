from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from sgnet_ros.node.worker import Worker
from waiting import PATIENCE_S


class Gate:
    """A consumer that holds each item until it is let through."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.errors: list[Exception] = []
        self.entered = threading.Semaphore(0)
        self.opened = threading.Semaphore(0)

    def consume(self, item: int) -> None:
        self.taken.append(item)
        self.entered.release()
        assert self.opened.acquire(timeout=PATIENCE_S)
        if item < 0:
            raise ValueError(item)

    def wait_for_entry(self) -> None:
        assert self.entered.acquire(timeout=PATIENCE_S)

    def let_through(self) -> None:
        self.opened.release()


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def worker(gate: Gate) -> Iterator[Worker[int]]:
    worker = Worker(gate.consume, gate.errors.append, "test")
    yield worker
    gate.opened.release(100)
    worker.stop()


def test_the_newest_item_replaces_the_one_that_waits(gate: Gate, worker: Worker[int]) -> None:
    assert not worker.offer(1)
    gate.wait_for_entry()
    assert [worker.offer(item) for item in (2, 3, 4)] == [False, True, True]
    gate.let_through()
    gate.wait_for_entry()
    assert gate.taken == [1, 4]
    assert not worker.offer(5)


def test_items_slower_than_the_worker_are_all_consumed_in_order(
    gate: Gate, worker: Worker[int]
) -> None:
    for item in range(20):
        assert not worker.offer(item)
        gate.wait_for_entry()
        gate.let_through()
    assert gate.taken == list(range(20))


def test_an_exception_is_reported_and_the_thread_continues(gate: Gate, worker: Worker[int]) -> None:
    for item in (-1, 2, -3, 4):
        worker.offer(item)
        gate.wait_for_entry()
        gate.let_through()
    worker.offer(5)
    gate.wait_for_entry()
    assert gate.taken == [-1, 2, -3, 4, 5]
    assert [str(error) for error in gate.errors] == ["-1", "-3"]


def test_stop_waits_for_the_running_call_and_drops_what_waits(gate: Gate) -> None:
    worker = Worker(gate.consume, gate.errors.append, "stopping")
    worker.offer(1)
    gate.wait_for_entry()
    worker.offer(2)
    lost: list[bool] = []
    stopper = threading.Thread(target=lambda: lost.append(worker.stop()))
    stopper.start()
    stopper.join(0.1)
    assert stopper.is_alive(), "the call that runs is not interrupted"
    gate.let_through()
    stopper.join(PATIENCE_S)
    assert not stopper.is_alive()
    assert lost == [True]
    assert gate.taken == [1]
    assert "stopping" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(RuntimeError, match="'stopping' was stopped"):
        worker.offer(3)
    assert worker.stop() is False


def test_a_call_that_does_not_return_in_time_is_abandoned(gate: Gate) -> None:
    worker = Worker(gate.consume, gate.errors.append, "hanging")
    worker.offer(1)
    gate.wait_for_entry()
    assert worker.offer(2) is False
    assert worker.stop(0.05) is True
    assert worker.consuming
    gate.let_through()
    assert worker.stop(PATIENCE_S) is False
    assert not worker.consuming
    assert gate.taken == [1], "what waited is lost, as when a worker stops in time"


def test_an_idle_worker_stops_at_once(gate: Gate) -> None:
    assert Worker(gate.consume, gate.errors.append).stop() is False
    assert gate.taken == []


def test_an_item_waits_for_a_newer_one_for_the_given_time(gate: Gate) -> None:
    asked: list[int] = []
    waiting = threading.Event()

    def wait_s(item: int) -> float:
        asked.append(item)
        waiting.set()
        return PATIENCE_S if item == 1 else 0

    worker = Worker(gate.consume, gate.errors.append, "test", wait_s)
    worker.offer(1)
    assert waiting.wait(PATIENCE_S)
    assert not gate.taken
    assert worker.offer(2)
    gate.wait_for_entry()
    assert (gate.taken, asked) == ([2], [1])
    gate.let_through()
    worker.stop()


def test_the_wait_for_a_newer_item_ends(gate: Gate) -> None:
    worker = Worker(gate.consume, gate.errors.append, "test", lambda item: 0.01)
    worker.offer(1)
    gate.wait_for_entry()
    assert gate.taken == [1]
    gate.let_through()
    worker.stop()


def test_an_item_that_waits_for_a_newer_one_does_not_delay_stopping(gate: Gate) -> None:
    waiting = threading.Event()

    def wait_s(item: int) -> float:
        waiting.set()
        return PATIENCE_S

    worker = Worker(gate.consume, gate.errors.append, "test", wait_s)
    worker.offer(1)
    assert waiting.wait(PATIENCE_S)
    assert worker.stop()
    assert not gate.taken
