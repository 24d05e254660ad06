"""Training run: loop, step, validation, and files."""

from __future__ import annotations

import contextlib
import itertools
import math
import signal
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import yaml
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from sgnet_core.data.loading import Batch, Samples, training_batches
from sgnet_core.data.rooms import Rooms
from sgnet_core.data.transforms import Augmentation
from sgnet_core.evaluation.predict import prediction_sheet
from sgnet_core.files import atomic_write
from sgnet_core.models.labels import LabelSet
from sgnet_core.models.model_file import save_model
from sgnet_core.ops.cudnn import fastest_algorithms
from sgnet_core.training.checkpoint import save_checkpoint
from sgnet_core.training.config import TrainConfig
from sgnet_core.training.device import check_device, check_parts, make_deterministic
from sgnet_core.training.distributed import World
from sgnet_core.training.divergence import Diverged, divergence
from sgnet_core.training.holdout import mix_in, open_training_sets
from sgnet_core.training.initialization import build_model
from sgnet_core.training.interruption import Interruption
from sgnet_core.training.objective import Objective, class_weights
from sgnet_core.training.optimization import (
    frozen_norms,
    learning_rate,
    make_optimizer,
    update_average,
)
from sgnet_core.training.progress import RunLog, Throughput
from sgnet_core.training.record import write_environment
from sgnet_core.training.resume import CONFIG, find_checkpoint
from sgnet_core.training.state import State
from sgnet_core.training.summary import summary
from sgnet_core.training.validation import save_best, score, scores_of

LOG_EVERY = 10
"""Iterations between two points of the TensorBoard curves."""


@dataclass
class Run:
    """One training run in its folder: checkpoint, model files, logs, pictures.

    Attributes:
        config: the configuration.
        folder: folder that rank 0 writes to.
        device: device of this process.
        samples, validation: the data sets.
        labels: classes of the data sets.
        state: weights, optimizer and counters.
        objective: network and loss; ``parallel`` wraps it for several processes.
        frozen: batch norms that keep their statistics and factors.
        world: processes of the run.
        throughput: time and images of the steps since the start.
        interruption: signal that ends the run between two iterations.
    """

    config: TrainConfig
    folder: Path
    device: torch.device
    samples: Samples
    validation: Samples
    labels: LabelSet
    state: State
    objective: Objective
    frozen: Sequence[nn.Module] = ()
    world: World = field(default_factory=World)
    throughput: Throughput = field(default_factory=Throughput)
    interruption: Interruption = field(default_factory=Interruption)

    def __post_init__(self) -> None:
        self.parallel: nn.Module = self.objective
        if self.world.size > 1:
            self.parallel = DistributedDataParallel(self.objective)
        self.stopping = False
        self.miou = float("nan")
        self.logged = Throughput()

    @classmethod
    def start(
        cls, config: TrainConfig, folder: Path, device: torch.device, world: World | None = None
    ) -> Run:
        """Start a new run, or resume the one in ``folder``.

        Raises:
            ValueError: configuration, data sets, weights and checkpoint do not match.
            OSError: a file cannot be read or written.
        """
        world = world or World()
        check_device(config, device)
        if config.deterministic:
            make_deterministic(device)
        samples, validation, labels = open_training_sets(
            config.train, config.validation, config.size
        )
        folder.mkdir(parents=True, exist_ok=True)
        saved, changed = world.from_main(find_checkpoint(folder, config) if world.is_main else None)
        torch.manual_seed(config.seed)
        with world.main_first():
            model, note = build_model(replace(config, weights="none") if saved else config, labels)
        check_parts(config, model.config.head, world.size)
        if config.sync_bn:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        frozen = frozen_norms(model, config.freeze_bn)
        for norm in frozen:
            norm.requires_grad_(False)
        average = None
        if config.ema and world.is_main:
            average = AveragedModel(model)
        scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        weights = torch.ones(len(labels))
        if saved is None and world.is_main:
            weights = class_weights(samples, len(labels), config.class_balance)
        samples = mix_in(samples, labels, config.mix, config.size, config.seed)
        weights = world.from_main(weights)
        state = State(model, average, make_optimizer(model, config), scaler, weights)
        if saved is not None:
            state.restore(saved)
            note = f"resuming {folder} at iteration {state.iteration} of {config.iterations}"
            note += "".join(f"\nchanged: {change}" for change in changed)
        objective = Objective(model, state.class_weights, config)
        run = cls(
            config, folder, device, samples, validation, labels, state, objective, frozen, world
        )
        if world.is_main:
            print(note, flush=True)
            run._prepare_folder()
        return run

    def _prepare_folder(self) -> None:
        # Render a validation set of rooms only once.
        if isinstance(getattr(self.validation, "dataset", self.validation), Rooms):
            frames = tqdm(range(len(self.validation)), "validation set", leave=False)
            self.validation = [self.validation[i] for i in frames]
        with atomic_write(self.folder / CONFIG) as file:
            file.write(yaml.safe_dump(self.config.to_dict(), sort_keys=False).encode())
        write_environment(
            self.folder, self.config.seed, self.state.iteration, self.device, self.world
        )

    @property
    def finished(self) -> bool:
        """True once all iterations are done or early stopping has ended the run."""
        early = bool(self.config.patience) and self.state.stale >= self.config.patience
        return early or self.state.iteration >= self.config.iterations

    @property
    def validation_due(self) -> bool:
        """True if the model of this iteration must be validated and has not been validated yet."""
        iteration = self.state.iteration
        wanted = iteration % self.config.validate_every == 0 or self.finished
        return wanted and iteration > self.state.validated

    def train(self) -> int:
        """Train to the end; return the exit status: 0, or 128 + N after signal N.

        Raises:
            Diverged: the loss or the gradient diverged; the batch is saved in the folder.
            OSError: a file cannot be read or written; files written before are complete.
        """
        config, state = self.config, self.state
        bar = tqdm(
            initial=state.iteration,
            total=config.iterations,
            unit="it",
            disable=not self.world.is_main,
        )
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.closing(bar))
            stack.enter_context(self.interruption)
            log = None
            if self.world.is_main and (self.validation_due or not self.finished):
                log = stack.enter_context(contextlib.closing(RunLog(self.folder, state.iteration)))
            if self.validation_due:  # after an interrupted validation or fewer iterations
                self.validate(log)
                self.save()
            batches = stack.enter_context(contextlib.closing(self._batches()))
            for parts in self.throughput.timed(batches):
                loss = self.step(parts)
                state.seconds += self.throughput.step_done(config.batch)
                state.loss = loss if state.iteration == 1 else 0.98 * state.loss + 0.02 * loss
                self._report(bar, log)
                if self.validation_due:
                    self.validate(log)
                if state.iteration % config.checkpoint_every == 0 or self.finished or self.stopping:
                    self.save()
                if self.finished or self.stopping:
                    break
        if self.stopping and (self.validation_due or not self.finished):
            self._print_main(f"stopped at iteration {state.iteration}; the same command resumes")
            return 128 + (self.interruption.number or signal.SIGINT)
        if self.finished and state.iteration < config.iterations:
            self._print_main(
                f"ended early at iteration {state.iteration}: {state.stale} validations without a "
                "better mIoU (patience)"
            )
        self._print_main(summary(config, self.folder))
        if self.throughput.images:
            self._print_main(
                f"data: {self.throughput.idle:.1%} of the step time was spent waiting for it, at "
                f"{self.throughput.images_per_second:.1f} images/s with workers={config.workers}"
            )
        return 0

    def _batches(self) -> Generator[list[Batch], None, None]:
        """Yield the remaining batches, each as the list of parts that this process computes."""
        config = self.config
        if self.finished or self.stopping:
            return
        batches = training_batches(
            self.samples,
            Augmentation(**config.augment),
            size=config.size,
            batch=config.batch,
            seed=config.seed,
            first=self.state.iteration,
            last=config.iterations,
            workers=config.workers,
            pin=self.device.type == "cuda",
            parts=config.accumulate,
            rank=self.world.rank,
            processes=self.world.size,
        )
        with contextlib.closing(batches):
            while parts := list(itertools.islice(batches, config.accumulate)):
                yield parts

    def step(self, parts: Sequence[Batch]) -> float:
        """Do one optimizer step on the parts of a batch that this process computes.

        Returns:
            The loss of the whole batch.

        Raises:
            Diverged: loss or gradient are not finite or exploded; the weights are unchanged.
        """
        config, state, scaler = self.config, self.state, self.state.scaler
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(config, state.iteration) * group["lr_factor"]
        # Dropout must differ between the processes.
        step_seed = config.seed * 1_000_003 + state.iteration
        torch.manual_seed(step_seed * self.world.size + self.world.rank)
        state.model.train()
        for norm in self.frozen:
            norm.eval()
        [weight] = self.world.sum([sum(self.objective.weight(part) for part in parts)])
        state.optimizer.zero_grad(set_to_none=True)
        losses = []
        for index, part in enumerate(parts):
            with self._gathering(index == len(parts) - 1), fastest_algorithms():
                loss = self.parallel(part.to(self.device), weight)
                # DistributedDataParallel averages gradients, but the parts of a loss add up.
                scaler.scale(loss * self.world.size).backward()
            losses.append(loss.detach())
        scaler.unscale_(state.optimizer)
        gradients = [p.grad for p in state.model.parameters() if p.grad is not None]
        size = nn.utils.get_total_norm(gradients)
        own_loss, norm = torch.stack((torch.stack(losses).sum(), size)).tolist()  # waits for a GPU
        signaled = float(self.interruption.number != 0)
        total, signals = self.world.sum([own_loss, signaled])
        self.stopping = signals > 0
        self._check(total, norm, parts)
        if config.clip:
            nn.utils.clip_grads_with_norm_(state.model.parameters(), config.clip, size)
        scaler.step(state.optimizer)
        scaler.update()
        if state.average is not None:
            update_average(state.average, state.model, config.ema)
        state.iteration += 1
        return total

    def _gathering(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Return a context that exchanges gradients between processes only after the last part."""
        if last or not isinstance(self.parallel, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.parallel.no_sync()

    def _check(self, loss: float, norm: float, parts: Sequence[Batch]) -> None:
        state = self.state
        if not math.isfinite(norm) and state.scaler.is_enabled() and state.scaler.get_scale() >= 1:
            norm = 0.0  # float16 overflowed: the scaler skips this step and lowers the scale
        bound = self.config.loss_bound
        wrong = divergence(loss, norm, state.loss, state.iteration, bound)
        if wrong is None:
            return
        rank = f"_rank{self.world.rank}" if self.world.size > 1 else ""
        path = self.folder / f"bad_batch_{state.iteration}{rank}.pt"
        with atomic_write(path) as file:
            torch.save(vars(Batch.joined(parts)), file)
        raise Diverged(
            f"iteration {state.iteration}: {wrong}; its batch is in {path}. Inspect that batch. "
            "Then resume from the last checkpoint with a lower lr, a longer warmup, a smaller clip"
            + (" or precision=fp32" if self.config.precision != "fp32" else "")
            + (" or a higher loss_bound" if "exploded" in wrong else "")
        )

    def _report(self, bar: tqdm[None], log: RunLog | None) -> None:
        """Update the progress bar and TensorBoard's curves after a step."""
        recent, iteration = self.throughput.since(self.logged), self.state.iteration
        bar.update()
        score = "–" if math.isnan(self.miou) else f"{self.miou:.3f}"
        bar.set_postfix_str(
            f"loss {self.state.loss:.3f}, mIoU {score}, "
            f"{recent.images_per_second:.1f} img/s, data {recent.idle:.0%}",
            refresh=False,
        )
        if log is not None and iteration % LOG_EVERY == 0:
            curves = {
                "loss": self.state.loss,
                "lr": learning_rate(self.config, iteration - 1),
                "images_per_second": recent.images_per_second,
                "loader_idle": recent.idle,
            }
            log.scalars(curves, iteration)

    def validate(self, log: RunLog | None) -> None:
        """Score, log and save the model on rank 0; pass its mIoU to all processes.

        A signal interrupts the validation and stops the run; it is repeated when the run resumes.
        """
        state = self.state
        miou = self.world.from_main(self._score(log) if log is not None else None)
        if miou is None:
            self.stopping = True
            return
        self.miou, state.validated = miou, state.iteration
        state.stale += 1
        if self.miou > state.best_miou:
            state.best_miou, state.stale = self.miou, 0

    def _score(self, log: RunLog) -> float | None:
        state, recent = self.state, self.throughput.since(self.logged)
        model = state.final_model
        confusion = score(
            model, self.validation, self.config.batch, lambda: self.interruption.number != 0
        )
        if confusion is None:
            return None
        if math.isnan(confusion.miou):
            raise ValueError(
                f"{self.config.validation}: no pixel is labeled, so the best model cannot be "
                "selected; use another validation set"
            )
        scores = scores_of(confusion)
        record = {
            "iteration": state.iteration,
            "seconds": round(state.seconds, 1),
            "loss": round(state.loss, 4),
            "lr": learning_rate(self.config, state.iteration - 1),
            "images_per_second": round(recent.images_per_second, 2),
            "loader_idle": round(recent.idle, 4),
            **scores,
        }
        self.logged = self.throughput.snapshot()
        pictures = self.folder / "predictions"
        pictures.mkdir(exist_ok=True)
        prediction_sheet(model, self.validation, pictures / f"{state.iteration:06d}.png")
        training = {**record, "config": self.config.to_dict()}
        model.info = replace(model.info, training=training)
        save_model(model, self.folder / "last.safetensors")
        if confusion.miou > state.best_miou:
            save_best(model, confusion, record, self.folder)
        log.add(record)
        log.scalars(scores, state.iteration)
        return confusion.miou

    def save(self) -> None:
        """Write the checkpoint on rank 0."""
        if self.world.is_main:
            save_checkpoint(self.folder / "checkpoint.pt", self.state.to_dict())

    def _print_main(self, text: str) -> None:
        if self.world.is_main:
            print(text, flush=True)
