"""The parts of a node that exist only while it is active: inputs, worker and processor."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.node import Node

from sgnet_core.inference.segmenter import Segmenter
from sgnet_ros.messages.camera_model import is_rectified
from sgnet_ros.messages.transforms import parse_pose
from sgnet_ros.node.cadence import Cadence
from sgnet_ros.node.depth_alignment import DepthAligner
from sgnet_ros.node.frame import Frame
from sgnet_ros.node.inputs import Inputs
from sgnet_ros.node.parameters import Settings
from sgnet_ros.node.processor import FrameProcessor
from sgnet_ros.node.publishers import Publishers
from sgnet_ros.node.sharing import Turns
from sgnet_ros.node.worker import Worker

_IDLE_AFTER_S = 1.0
"""Time without a subscriber after which inference stops."""


class Activation:
    """Subscriptions, processor and worker of an active node, until `stop`.

    Args:
        node: gets the subscriptions.
        outputs: publishers of the node.
        settings: returns the current values of its parameters.
        model: returns the current model; None while there is none.
        enabled: returns whether the node segments frames (``~/enable``).
        on_outcome: called in the worker's thread with the model that ran on a frame and the cause
            for which the frame was dropped, None if it was published.
        turns: for nodes that share a model.

    Attributes:
        inputs: subscriptions of the node.
        processor: segments the frames and counts them.
    """

    def __init__(
        self,
        node: Node,
        outputs: Publishers,
        settings: Callable[[], Settings],
        model: Callable[[], Segmenter | None],
        enabled: Callable[[], bool],
        on_outcome: Callable[[Segmenter, str | None], None],
        turns: Turns | None,
    ) -> None:
        self._node = node
        self._outputs = outputs
        self._settings = settings
        self._enabled = enabled
        self._subscribed_s = time.perf_counter()  # when an output had a subscriber last
        self._abandoned = False
        self._cadence = Cadence()
        self.inputs = Inputs(node, settings, self._on_frame, self._on_error)

        def rectified(topic: str) -> bool:
            chosen = settings().rectified
            return is_rectified(topic) if chosen == "auto" else chosen == "true"

        aligner = DepthAligner(
            self.inputs.topics,
            self.inputs.transforms,
            lambda: parse_pose(settings().depth_to_rgb),
            rectified,
        )
        self.processor = FrameProcessor(
            node,
            outputs,
            self.inputs.topics,
            aligner,
            rectified,
            settings,
            model,
            self.inputs.synchronizer.counts,
            on_outcome,
        )
        self._worker: Worker[Frame] = Worker(
            self.processor.process, self._on_error, "segmentation", self._wait_s, turns
        )

    def stop(self, timeout_s: float) -> bool:
        """Unsubscribe and wait for the current frame.

        Args:
            timeout_s: longest wait.

        Returns:
            False if inference does not return in time: its thread and its result are abandoned.
        """
        self.inputs.close()
        if self._worker.stop(timeout_s):
            self.processor.counters.drop("deactivated")
        self._abandoned = self._worker.consuming
        if self._abandoned:
            self.processor.counters.drop("hangs")
        return not self._abandoned

    def _on_frame(self, frame: Frame) -> None:
        """Hand a frame to the worker; runs in the executor's thread."""
        if not self._enabled():
            self.processor.counters.drop("disabled")
            return
        if self._is_idle(frame.complete_s):
            self.processor.counters.drop("idle")
            return
        self._cadence.tick(frame.complete_s)
        if self._worker.offer(frame):
            self.processor.counters.drop("overload")

    def _is_idle(self, now_s: float) -> bool:
        """Return whether no output has had a subscriber for a while."""
        if self._settings().always_run or self._outputs.has_subscribers:
            self._subscribed_s = now_s
        return now_s - self._subscribed_s > _IDLE_AFTER_S

    def _wait_s(self, frame: Frame) -> float:
        return self._cadence.wait_s(frame.complete_s, time.perf_counter())

    def _on_error(self, error: Exception) -> None:
        """Count and log a frame whose processing raised an unexpected exception."""
        if self._node.context.ok() and not self._abandoned:  # silent while shutting down
            self.processor.drop("internal_error", repr(error))
