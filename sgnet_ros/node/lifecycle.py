"""The lifecycle node ``sgnet``: RGB-D images in, label images out."""

from __future__ import annotations

import gc
import threading
import time
from dataclasses import astuple, replace
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.task import Future
from std_srvs.srv import SetBool, Trigger

from sgnet_core.inference.segmenter import Segmenter
from sgnet_ros.node.activation import Activation
from sgnet_ros.node.bond import Bond, offer_bond
from sgnet_ros.node.declaration import Parameters
from sgnet_ros.node.device_health import DeviceHealth, free_cached_memory
from sgnet_ros.node.diagnostics import NOT_CONFIGURED, Diagnostics
from sgnet_ros.node.loading import load_segmenter, suggestion
from sgnet_ros.node.parameters import Settings
from sgnet_ros.node.publishers import Publishers
from sgnet_ros.node.sharing import Models, Turns
from sgnet_ros.system.throttle import Throttle

_STOP_TIMEOUT_S = 10.0
"""Longest wait for the current frame when a node is stopped; inference takes far less."""
_BACKENDS = {"torch": "PyTorch", "onnx": "ONNX Runtime"}
_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class SGNetNode(LifecycleNode):
    """Lifecycle node that labels the pixels of an RGB-D camera.

    The model is loaded in configure and kept until clean-up; subscriptions and the worker exist
    while the node is active.

    Args:
        models: loaded models, for nodes that share them.
        turns: give these nodes the model in turn.
    """

    def __init__(
        self, models: Models | None = None, turns: Turns | None = None, **kwargs: Any
    ) -> None:
        super().__init__("sgnet", **kwargs)
        self._models = models
        self._turns = turns
        try:
            self.parameters = Parameters(self, self._on_settings)
        except ParameterException:
            # Since rclpy 9, the context would destroy the half-constructed node.
            super().destroy_node()
            raise
        self._segmenter: Segmenter | None = None
        self._outputs: Publishers | None = None
        self._active: Activation | None = None
        self._bond: Bond | None = None
        self._in_use = self.parameters.settings  # of the loaded model
        self._loader: threading.Thread | None = None
        self._health = DeviceHealth()
        self._throttle = Throttle(interval_s=60.0)
        self._enabled = True
        self._diagnostics = Diagnostics(self)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # runs while simulated time stands still
        self.create_timer(1.0, self._diagnostics.tick, clock=steady)
        self.create_service(SetBool, "~/enable", self._on_enable)
        # a separate group, so that other callbacks run while the model is loaded
        group = MutuallyExclusiveCallbackGroup()
        self.create_service(Trigger, "~/reload", self._on_reload, callback_group=group)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and warm it up."""
        try:
            settings = self.parameters.settings
            self._use(self._load(settings), Publishers(self, settings.outputs), settings)
        except Exception as error:
            self._release()
            self._diagnostics.failure = f"{NOT_CONFIGURED}{error}"
            self.get_logger().error(self._diagnostics.failure)
            return _FAILURE
        return _SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start the worker."""
        assert self._outputs is not None
        present = set(self.subscriptions)
        try:
            active = Activation(
                self,
                self._outputs,
                settings=lambda: self.parameters.settings,
                model=lambda: self._segmenter,
                enabled=lambda: self._enabled,
                on_outcome=self._on_outcome,
                turns=self._turns,
            )
        except Exception as error:
            for subscription in set(self.subscriptions) - present:
                self.destroy_subscription(subscription)
            self.get_logger().error(f"not activated: {error}")
            return TransitionCallbackReturn.ERROR
        self._active = active
        inputs, counters = active.inputs, active.processor.counters
        self._diagnostics.watch(inputs.synchronizer.counts, counters, inputs.image_types)
        self._diagnostics.state = "active"
        self.get_logger().info(f"active: waiting for images on {', '.join(astuple(inputs.topics))}")
        self._bond = offer_bond(self, managed=not self.parameters.settings.autostart)
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and wait for the current frame; keep the model, unless it hangs."""
        if not self._deactivate():
            return TransitionCallbackReturn.ERROR
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model."""
        self._release()
        self.get_logger().info("unconfigured: model released")
        return _SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything."""
        self._release()
        self._diagnostics.state = "finalized"
        return _SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Return to unconfigured, so that the node can be configured again."""
        self._release()
        return _SUCCESS

    def destroy_node(self) -> None:
        """Stop worker and loader before the node is destroyed, in bounded time."""
        self.stop(_STOP_TIMEOUT_S)
        self._release()
        super().destroy_node()

    def stop(self, timeout_s: float) -> None:
        """Deactivate, and wait for the loading of a model, for at most ``timeout_s`` altogether."""
        end = time.monotonic() + timeout_s
        self._deactivate(timeout_s)
        loader, self._loader = self._loader, None  # a later stop does not wait for it again
        if loader is not None:  # a daemon thread, which does not keep the process alive
            loader.join(max(0.0, end - time.monotonic()))

    async def _replace_model(self, settings: Settings) -> None:
        """Load another model in a separate thread, while the current one keeps running.

        Raises:
            Exception: the model cannot be loaded, or the node was cleaned up meanwhile.
        """
        if self._loader is not None:
            raise RuntimeError("a model is being loaded already")
        outputs, executor = self._outputs, self.executor
        assert executor is not None  # the executor runs this coroutine
        loaded: Future = Future(executor=executor)

        def load() -> None:
            try:
                loaded.set_result(self._load(settings))
            except Exception as error:
                loaded.set_exception(error)
            executor.wake()

        self._loader = threading.Thread(target=load, name="loader", daemon=True)
        self._loader.start()
        try:
            segmenter = await loaded
        finally:
            self._loader = None
        if outputs is None or self._outputs is not outputs:
            raise RuntimeError("the node was cleaned up meanwhile")
        self._use(segmenter, outputs, settings)

    async def _fall_back(self, failed: Segmenter) -> None:
        """Run the same model on the CPU after a GPU has failed."""
        device, error = failed.device, self._last_error()
        if failed is not self._segmenter or device.type == "cpu" or self._loader is not None:
            return
        try:
            # An export would take a minute.
            backend = "torch" if failed.backend == "torch" else self._in_use.backend
            await self._replace_model(
                replace(self._in_use, device="cpu", precision="auto", backend=backend)
            )
        except Exception as problem:
            if self._throttle.passes():
                self.get_logger().error(
                    f"{device} fails ({error}), and the CPU fails too: {problem}"
                )
            return
        self._diagnostics.degraded = f"on the CPU since {device} failed; ~/reload tries it again"
        self.get_logger().error(f"{self._diagnostics.degraded}: {error}")

    def _last_error(self) -> str:
        return "" if self._active is None else self._active.processor.counters.counts().last_error

    def _load(self, settings: Settings) -> Segmenter:
        log = self.get_logger().info
        if self._models is None:
            return load_segmenter(settings, log)
        names = (settings.model, settings.device, settings.precision, settings.backend)
        return self._models.get(*names, lambda: load_segmenter(settings, log))

    def _use(self, segmenter: Segmenter, publishers: Publishers, settings: Settings) -> None:
        """Replace the model by a loaded one; the worker uses it from its next frame on."""
        self._segmenter, self._outputs, self._in_use = segmenter, publishers, settings
        self._diagnostics.degraded = self._diagnostics.failure = ""
        publishers.publish_class_map(segmenter.info)
        self._diagnostics.model = segmenter.info.name
        self._diagnostics.hardware_id = str(segmenter.device)
        if self._active is None:
            self._diagnostics.state = "inactive"
        self.get_logger().info(
            f"model {segmenter.info.name} ready on {segmenter.device}: {len(segmenter.labels)} "
            f"classes ({segmenter.labels.name}), in {_BACKENDS[segmenter.backend]}"
            + suggestion(segmenter, settings)
        )
        free_cached_memory()  # of loading, and of the model before

    def _deactivate(self, timeout_s: float | None = None) -> bool:
        """Deactivate; return False if inference of the current frame does not return."""
        if self._bond is not None:
            self._bond.close()
            self._bond = None
        active = self._active
        if active is None:
            return True
        returned = active.stop(_STOP_TIMEOUT_S if timeout_s is None else timeout_s)
        self._active = None
        self._diagnostics.unwatch()
        self._diagnostics.state = "inactive"
        counts = active.processor.counters.counts()
        pairs = active.inputs.synchronizer.counts().pairs
        drops = ", ".join(f"{number} {cause}" for cause, number in counts.drops.items())
        self.get_logger().info(
            f"inactive: {counts.segmented} of {pairs} RGB-D pairs segmented"
            + (f", dropped: {drops}" if drops else "")
        )
        if not returned:
            if self._models is not None and self._segmenter is not None:
                self._models.forget(self._segmenter)
            self.get_logger().error(
                f"inference on {self._diagnostics.hardware_id} does not return: its thread and the "
                "model are abandoned; configure the node again, or restart it"
            )
        return returned

    def _release(self) -> None:
        self._deactivate()
        if self._outputs is not None:
            self._outputs.destroy()
        self._outputs = self._segmenter = None
        self._diagnostics.state, self._diagnostics.model = "unconfigured", ""
        self._diagnostics.degraded = ""
        _collect_garbage()
        free_cached_memory()

    def _on_outcome(self, segmenter: Segmenter, cause: str | None) -> None:
        """Watch the device; runs in the worker's thread."""
        if self._health.note(cause) and self.executor is not None:
            self.executor.create_task(self._fall_back, segmenter)

    def _on_settings(self, settings: Settings) -> None:
        if self._active is not None:
            self._active.inputs.synchronizer.set_slop(settings.slop)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        response.success = True
        response.message = "enabled" if self._enabled else "disabled: frames are dropped"
        self.get_logger().info(response.message)
        return response

    async def _on_reload(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        """Load the model that the parameters name; if this fails, the old one keeps running."""
        if self._segmenter is None:
            response.message = "not configured: there is no model to replace"
            return response
        try:
            await self._replace_model(self.parameters.settings)
        except Exception as error:
            kept = f"kept {self._segmenter.info.name}: " if self._segmenter else ""
            response.message = f"{kept}{error}"
            self.get_logger().error(f"reload failed, {response.message}")
            return response
        response.success = True
        response.message = f"model {self._segmenter.info.name} on {self._segmenter.device}"
        return response


def _collect_garbage() -> None:
    """Free reference cycles, including those of objects that `sgnet_ros.node.process` froze."""
    frozen = gc.get_freeze_count()
    gc.unfreeze()
    gc.collect()
    if frozen:
        gc.freeze()
