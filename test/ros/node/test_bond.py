"""The node under nav2_lifecycle_manager."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState

from sgnet_ros.node import bond as bond_module

ROOT = Path(__file__).resolve().parents[3]

needs_bondpy = pytest.mark.skipif(
    bond_module.bondpy is None, reason="bondpy is not among the ROS 2 wheels"
)


class Manager:
    """Side of nav2_lifecycle_manager: transitions, and a bond once the node is active."""

    def __init__(self, robot: Any) -> None:
        self._robot = robot
        self.bond: Any = None
        self.formed = False

    def change(self, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return self._robot.call(ChangeState, "/sgnet/change_state", request).success

    def wait_until_answered(self) -> None:
        """Ask for the state until an answer comes: node and manager have found each other."""
        client = self._robot.create_client(GetState, "/sgnet/get_state")
        futures: list[Any] = []

        def answered() -> bool:
            if client.service_is_ready():
                futures.append(client.call_async(GetState.Request()))
                self._robot.spin_for(0.5)
            return any(future.done() for future in futures)

        self._robot.spin_until(answered)
        self._robot.destroy_client(client)

    def start_up(self) -> None:
        """Configure, activate and start the bond with nav2's default timeout."""
        assert self.change(Transition.TRANSITION_CONFIGURE)
        assert self.change(Transition.TRANSITION_ACTIVATE)
        self.formed = False
        self.bond = bond_module.bondpy.Bond(self._robot, "bond", "sgnet", on_formed=self._on_formed)
        self.bond.set_heartbeat_timeout(4.0)
        self.bond.set_heartbeat_period(0.1)
        self.bond.start()

    def _on_formed(self) -> None:
        self.formed = True

    def wait_until_formed(self) -> None:
        self._robot.spin_until(lambda: self.formed)

    def forget_bond(self) -> None:
        self.bond.shutdown()
        self._robot.destroy_subscription(self.bond.sub)
        self._robot.destroy_publisher(self.bond.pub)
        if self._robot.has_parameter("/bond_disable_heartbeat_timeout"):
            self._robot.undeclare_parameter("/bond_disable_heartbeat_timeout")


@pytest.fixture
def manager(robot: Any) -> Iterator[Manager]:
    manager = Manager(robot)
    yield manager
    if manager.bond is not None:
        manager.forget_bond()


@pytest.fixture
def start(tmp_path: Path, models: dict[str, Path]) -> Iterator[Any]:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        parameters = (f"model:={models['depth']}", "device:=cpu", "backend:=torch")
        arguments = [word for text in (*parameters, "autostart:=false") for word in ("-p", text)]
        with (tmp_path / f"node{len(started)}.log").open("w") as log:
            command = [sys.executable, "-m", "sgnet_ros.node", "--ros-args", *arguments]
            started.append(subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
    assert "Traceback" not in "".join(log.read_text() for log in tmp_path.glob("*.log"))


@needs_bondpy
def test_the_manager_forms_a_bond_hears_a_crash_and_starts_the_node_again(
    robot: Any, manager: Manager, start: Any, scene: Any
) -> None:
    crashing = start()
    manager.wait_until_answered()
    manager.start_up()
    manager.wait_until_formed()
    robot.spin_for(5.0)
    assert not manager.bond.is_broken(), "heartbeats go on for longer than the timeout"
    crashing.kill()
    crashing.wait()
    robot.spin_until(manager.bond.is_broken)
    manager.forget_bond()
    # until its DDS lease has expired, its services seem to be there
    robot.spin_until(lambda: "sgnet" not in robot.get_node_names())

    restarted = start()
    manager.wait_until_answered()
    manager.start_up()
    manager.wait_until_formed()
    robot.forget()
    robot.send_until(lambda: robot.labels, scene.messages())
    assert manager.change(Transition.TRANSITION_DEACTIVATE)
    robot.spin_until(manager.bond.is_broken)
    restarted.send_signal(signal.SIGINT)
    assert restarted.wait() == 0


@needs_bondpy
def test_every_activation_has_a_bond_of_its_own_that_leaves_nothing(
    run_node: Any, robot: Any, manager: Manager
) -> None:
    running = run_node("depth", autostart=False)
    for _ in range(2):
        manager.start_up()
        manager.wait_until_formed()
        robot.spin_for(0.5)  # bondpy misses heartbeats from the second one on
        assert manager.change(Transition.TRANSITION_DEACTIVATE)
        robot.spin_until(manager.bond.is_broken)
        manager.forget_bond()
        assert [s for s in running.node.subscriptions if s.topic_name == "/bond"] == []
        assert [p for p in running.node.publishers if p.topic_name == "/bond"] == []
        assert manager.change(Transition.TRANSITION_CLEANUP)
    running.stop()


def test_without_bondpy_the_log_says_how_to_configure_the_manager(
    run_node: Any, robot: Any, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bond_module, "bondpy", None)
    running = run_node("depth", autostart=False)
    assert manager.change(Transition.TRANSITION_CONFIGURE)
    assert manager.change(Transition.TRANSITION_ACTIVATE)
    robot.spin_until(lambda: [m for m in robot.log if "bond_timeout: 0.0" in m.msg])
    assert running.node.count_publishers("/bond") == 0
    running.stop()
