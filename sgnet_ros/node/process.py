"""The node's process: one node and thread per camera, and a shutdown in bounded time.

python -m sgnet_ros.node --ros-args --params-file config/sgnet.yaml -r rgb/image_raw:=...
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions

from sgnet_ros.node.declaration import descriptor
from sgnet_ros.node.lifecycle import SGNetNode
from sgnet_ros.node.sharing import Models, Turns
from sgnet_ros.system.environment import prepare_environment
from sgnet_ros.system.names import camera_names

_STOP_TIMEOUT_S = 10.0
"""Longest wait for the current frames of all cameras when the process ends."""
_REPEATED_SIGNAL_S = 2.0
"""Time after the first signal in which further ones are ignored: Ctrl-C reaches both launcher and
node, and the launcher sends the node another signal.
"""
_JOIN_TIMEOUT_S = 2.0
"""Longest wait for the current callbacks of all cameras when the process ends."""
_LONGEST_END_S = _STOP_TIMEOUT_S + _JOIN_TIMEOUT_S + 3.0
"""Time after the first signal at which the process ends in any case."""
_WATCH = "end"
"""Name of the thread that waits for this time."""


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; return the exit status."""
    status = _main(args)
    main_thread = threading.main_thread()
    if any(t is not main_thread and t.name != _WATCH for t in threading.enumerate()):
        # A thread that loads a model or runs inference would abort the process if it came back from
        # PyTorch while the interpreter ends.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _main(args: list[str] | None) -> int:
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _interrupt)
        _limit_the_end()
        prepare_environment()
        # rclpy's own handlers would shut down the context before the node can deactivate.
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        return _run()
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    finally:
        rclpy.try_shutdown()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End the node at the first signal; a later one during its clean-up ends it at once."""
    first = time.monotonic()

    def exit_at_once(number: int, frame: FrameType | None) -> None:
        if time.monotonic() - first > _REPEATED_SIGNAL_S:
            os._exit(128 + number)

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, exit_at_once)
    raise KeyboardInterrupt


def _limit_the_end() -> None:
    """End the process some time after the first signal, even if a call in C hangs in its thread.

    Python runs `_interrupt` only when that call returns, which the loading of a model on a device
    that has failed may never do. The interpreter writes the signal's number into the pipe at once.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def wait() -> None:
        number = os.read(reader, 1)[0]
        time.sleep(_LONGEST_END_S)
        os._exit(128 + number)

    threading.Thread(target=wait, name=_WATCH, daemon=True).start()


def _run() -> int:
    nodes: list[SGNetNode] = []
    try:
        try:
            cameras, models, turns = _cameras(), Models(), Turns()
            for camera in cameras:
                # A rule for this node only, which takes precedence over a `-r __ns:=` for the whole
                # process.
                in_namespace = ["--ros-args", "-r", f"__ns:={camera}"]
                nodes.append(SGNetNode(models, turns, cli_args=in_namespace))
            nodes = nodes or [SGNetNode()]
        except ParameterException as error:
            rclpy.logging.get_logger("sgnet").error(str(error))
            return 1
        _spin(nodes)
        return 0
    finally:
        end = time.monotonic() + _STOP_TIMEOUT_S  # for all cameras together
        for node in nodes:
            node.stop(max(0.0, end - time.monotonic()))
        for node in nodes:
            node.destroy_node()


def _spin(nodes: list[SGNetNode]) -> None:
    """Start and spin every node in its own thread, so that none waits while another loads a model.

    Raises:
        KeyboardInterrupt: a signal asked the process to end; each thread ends after its current
            callback.
    """
    executors = [SingleThreadedExecutor() for _ in nodes]
    for node, executor in zip(nodes, executors, strict=True):
        executor.add_node(node)
    if len(nodes) == 1:
        _start(nodes[0])
        executors[0].spin()
        return
    threads = [
        threading.Thread(target=_start_and_spin, args=pair, daemon=True)
        for pair in zip(nodes, executors, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        while all(thread.is_alive() for thread in threads):
            threads[0].join(0.2)
    finally:
        for executor in executors:
            executor.shutdown(timeout_sec=0.0)
        end = time.monotonic() + _JOIN_TIMEOUT_S
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))


def _start_and_spin(node: SGNetNode, executor: SingleThreadedExecutor) -> None:
    with suppress(ExternalShutdownException):
        _start(node)
        executor.spin()


def _start(node: SGNetNode) -> None:
    """Configure and activate a node, unless a lifecycle manager does.

    A node whose model cannot be loaded stays unconfigured, reports the reason on /diagnostics, and
    can be configured later.
    """
    if node.parameters.settings.autostart and (
        node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    ):
        node.trigger_activate()
    # The objects of imports and model are permanent; each full collection would scan them and stop
    # all threads for 0.1 s.
    gc.freeze()


def _cameras() -> list[str]:
    """Read the absolute namespaces of the parameter ``cameras``, before the nodes are created."""
    node = rclpy.create_node("sgnet", enable_rosout=False, start_parameter_services=False)
    try:
        names = camera_names(node.declare_parameter("cameras", "", descriptor("cameras")).value)
        return [f"{node.get_namespace().rstrip('/')}/{name}" for name in names]
    except ValueError:
        return []  # the only node then refuses the value
    finally:
        node.destroy_node()
