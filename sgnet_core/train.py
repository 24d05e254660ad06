"""Trains a network: ``python -m sgnet_core.train --config config/train/rooms.yaml --output DIR``.

The same command again resumes the run. The order of the data, the augmentation and the dropout
depend on the seed and the iteration alone, so a resumed run computes what an unbroken one does.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from sgnet_core.backbone import load_imagenet, torchvision_weights
from sgnet_core.convert import read_checkpoint
from sgnet_core.data.catalog import open_dataset
from sgnet_core.data.loading import ENDLESS, Batch, Samples, training_loader
from sgnet_core.data.rooms import Rooms
from sgnet_core.data.transforms import Augmentation
from sgnet_core.eval import evaluate, prediction_sheet, run_batch
from sgnet_core.files import atomic_write
from sgnet_core.heads import upsample
from sgnet_core.labels import IGNORE_ID, LabelSet
from sgnet_core.model_file import load_model, save_model
from sgnet_core.network import SGNet, create_model
from sgnet_core.train_config import TrainConfig, load_config

CLASS_SAMPLE = 200
"""Frames from which the class frequencies are estimated."""


def main(argv: list[str] | None = None) -> int:
    """Command line of training; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m sgnet_core.train",
        description="Train an SGNet. Interrupt it whenever you like; the same command resumes it.",
        epilog="Overrides: key=value for any configuration key, e.g. iterations=500 lr=1e-3 "
        "model=sgnet_r50 augment.flip=0.5",
    )
    parser.add_argument("--config", type=Path, help="YAML file, e.g. config/train/rooms.yaml")
    parser.add_argument("--output", type=Path, required=True, help="folder of the run")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, …")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args(argv)
    try:
        config = load_config(args.config, args.overrides)
        auto = "cuda" if torch.cuda.is_available() else "cpu"
        device = torch.device(auto if args.device == "auto" else args.device)
        run = Run.start(config, args.output, device)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return run.train()


@dataclass
class State:
    """What changes while training, all of it saved in a checkpoint."""

    model: SGNet
    average: AveragedModel | None
    optimizer: torch.optim.Optimizer
    class_weights: Tensor
    iteration: int = 0
    best_miou: float = 0.0
    seconds: float = 0.0

    @property
    def final_model(self) -> SGNet:
        """The network that is validated and saved."""
        model = self.model if self.average is None else self.average.module
        assert isinstance(model, SGNet)
        return model

    def save(self, path: Path) -> None:
        content = {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "class_weights": self.class_weights,
            "iteration": self.iteration,
            "best_miou": self.best_miou,
            "seconds": self.seconds,
        }
        with atomic_write(path) as file:
            torch.save(content, file)

    def load(self, path: Path) -> None:
        """Raises ValueError where the file is no checkpoint of this configuration."""
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            self.model.load_state_dict(content["model"])
            if self.average is not None:
                self.average.load_state_dict(content["average"])
            self.optimizer.load_state_dict(content["optimizer"])
            self.class_weights.copy_(content["class_weights"])
        except Exception as error:
            raise ValueError(
                f"{path} is not a checkpoint of this configuration ({error}); "
                "train into a new --output folder"
            ) from error
        self.iteration = content["iteration"]
        self.best_miou = content["best_miou"]
        self.seconds = content["seconds"]


@dataclass
class Run:
    """One training run in its folder: checkpoint, model files, logs, pictures."""

    config: TrainConfig
    folder: Path
    device: torch.device
    samples: Samples
    validation: Samples
    labels: LabelSet
    state: State

    @classmethod
    def start(cls, config: TrainConfig, folder: Path, device: torch.device) -> Run:
        """A new run, or the one that ``folder`` holds."""
        samples, labels = open_dataset(config.train, config.size)
        held_out, other = open_dataset(config.validation, config.size)
        if other != labels:
            raise ValueError(f"{config.train} and {config.validation} differ in their classes")
        validation: Samples = held_out
        if isinstance(held_out, Rooms):  # rendered once
            frames = tqdm(range(len(held_out)), "validation set", leave=False)
            validation = [held_out[i] for i in frames]
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = folder / "checkpoint.pt"
        torch.manual_seed(config.seed)
        resumed = checkpoint.exists()
        model = build_model(replace(config, weights="none") if resumed else config, labels)
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        average = None
        if config.ema:
            average = AveragedModel(
                model, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True
            )
        state = State(model, average, make_optimizer(model, config), torch.ones(len(labels)))
        run = cls(config, folder, device, samples, validation, labels, state)
        if resumed:
            state.load(checkpoint)
            print(f"resuming {folder} at iteration {state.iteration} of {config.iterations}")
        else:
            state.class_weights = class_weights(samples, len(labels), config.class_balance)
        state.class_weights = state.class_weights.to(device)
        with atomic_write(folder / "config.yaml") as file:
            file.write(yaml.safe_dump(config.to_dict(), sort_keys=False).encode())
        return run

    def train(self) -> int:
        """Runs to the last iteration; returns the exit status."""
        config, state = self.config, self.state
        loader = training_loader(
            self.samples,
            Augmentation(**config.augment),
            size=config.size,
            batch=config.batch,
            seed=config.seed,
            first=state.iteration,
            last=config.iterations,
            workers=config.workers,
            pin=self.device.type == "cuda",
        )
        writer = SummaryWriter(str(self.folder / "tensorboard"))
        bar = tqdm(loader, initial=state.iteration, total=config.iterations, unit="it")
        started, loss_sum, miou = time.monotonic(), 0.0, float("nan")
        try:
            for batch in bar:
                loss = self.step(batch.to(self.device))
                now = time.monotonic()
                state.seconds, started = state.seconds + now - started, now
                loss_sum = loss if loss_sum == 0 else 0.98 * loss_sum + 0.02 * loss
                bar.set_postfix(loss=f"{loss_sum:.3f}", miou=f"{miou:.3f}")
                writer.add_scalar("loss", loss, state.iteration)
                last = state.iteration == config.iterations
                if state.iteration % config.validate_every == 0 or last:
                    miou = self.validate(loss_sum)
                    writer.add_scalar("miou", miou, state.iteration)
                    started = time.monotonic()
                if state.iteration % config.checkpoint_every == 0 or last:
                    state.save(self.folder / "checkpoint.pt")
        except KeyboardInterrupt:
            state.save(self.folder / "checkpoint.pt")
            print(f"\nstopped at iteration {state.iteration}; the same command resumes")
            return 130
        finally:
            writer.close()
        print(f"best validation mIoU {state.best_miou:.4f}: {self.folder / 'best.safetensors'}")
        return 0

    def step(self, batch: Batch) -> float:
        """One optimiser step; returns the loss.

        Raises:
            FloatingPointError: the loss is not finite; the batch is saved beside the run.
        """
        config, state = self.config, self.state
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(config, state.iteration)
        torch.manual_seed(config.seed * 1_000_003 + state.iteration)  # dropout
        state.model.train()
        loss = batch_loss(state.model, batch, config, state.class_weights)
        if not torch.isfinite(loss):
            path = self.folder / f"bad_batch_{state.iteration}.pt"
            with atomic_write(path) as file:
                torch.save(vars(batch), file)
            raise FloatingPointError(f"the loss became {loss.item()}; its batch is in {path}")
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if config.clip:
            nn.utils.clip_grad_norm_(state.model.parameters(), config.clip)
        state.optimizer.step()
        if state.average is not None:
            state.average.update_parameters(state.model)
        state.iteration += 1
        return float(loss.detach())

    def validate(self, loss: float) -> float:
        """Scores the model on the validation set, logs it, saves it; returns its mIoU."""
        state = self.state
        model = state.final_model
        confusion = evaluate(model, self.validation, batch=self.config.batch)
        miou = confusion.miou
        record = {
            "iteration": state.iteration,
            "seconds": round(state.seconds, 1),
            "loss": round(loss, 4),
            "miou": round(miou, 4),
            "pixel_accuracy": round(confusion.pixel_accuracy, 4),
            "mean_accuracy": round(confusion.mean_accuracy, 4),
        }
        log = self.folder / "log.csv"
        new = not log.exists()
        with open(log, "a", newline="") as file:
            writer = csv.DictWriter(file, record)
            if new:
                writer.writeheader()
            writer.writerow(record)
        prediction_sheet(model, self.validation, self.folder / "predictions.png")
        model.info = replace(
            model.info,
            input_height=self.config.input_height or None,
            training={**record, "config": self.config.to_dict()},
        )
        save_model(model, self.folder / "last.safetensors")
        if miou > state.best_miou:
            state.best_miou = miou
            save_model(model, self.folder / "best.safetensors")
            scores = dict(zip(self.labels.names, confusion.class_iou, strict=True))
            present = {k: round(float(v), 4) for k, v in scores.items() if np.isfinite(v)}
            with atomic_write(self.folder / "best.json") as file:
                file.write(json.dumps({**record, "iou": present}, indent=1).encode())
        return miou


def build_model(config: TrainConfig, labels: LabelSet) -> SGNet:
    """The configured network with its starting weights."""
    if config.weights.endswith(".safetensors"):
        return load_model(config.weights)
    model = create_model(config.model, len(labels), **config.architecture)
    model.info = replace(model.info, labels=labels)
    if config.weights == "imagenet":
        load_imagenet(model.trunk, torchvision_weights(model.config.depth))
    elif config.weights != "none":
        load_imagenet(model.trunk, read_checkpoint(config.weights)[0])
    return model


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW or SGD; norms and biases are not decayed."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    return torch.optim.AdamW(groups, lr=config.lr)


def learning_rate(config: TrainConfig, iteration: int) -> float:
    """Linear warm-up, then polynomial (power 0.9) or cosine decay to 0."""
    if iteration < config.warmup:
        return config.lr * (iteration + 1) / config.warmup
    progress = (iteration - config.warmup) / max(1, config.iterations - config.warmup)
    progress = min(progress, 1.0)
    if config.schedule == "poly":
        return float(config.lr * (1 - progress) ** 0.9)
    return float(config.lr * (1 + np.cos(np.pi * progress)) / 2)


def batch_loss(
    model: SGNet, batch: Batch, config: TrainConfig, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy of the logits, plus that of the deep-supervision head."""
    output = run_batch(model, batch)
    stride = config.label_stride
    labels = batch.labels[:, ::stride, ::stride]

    def loss(logits: Tensor) -> Tensor:
        scores = upsample(logits.float(), (labels.shape[1], labels.shape[2]))
        return F.cross_entropy(scores, labels, weights, ignore_index=IGNORE_ID)

    total = loss(output.logits)
    if output.aux is not None:
        total = total + config.aux_weight * loss(output.aux)
    return total


def class_weights(samples: Samples, num_classes: int, balance: float) -> Tensor:
    """(C,) weights frequency^−β with mean 1 over the pixels; absent classes weigh 1."""
    if not balance:
        return torch.ones(num_classes)
    counts = np.zeros(256)
    # Spread over the set, whose neighbours may show one scene.
    step = 1 if len(samples) == ENDLESS else max(1, len(samples) // CLASS_SAMPLE)
    chosen = range(0, len(samples), step)[:CLASS_SAMPLE]
    for i in tqdm(chosen, desc="class frequencies", leave=False):
        counts += np.bincount(samples[i].labels.reshape(-1), minlength=256)
    frequency = counts[:num_classes] / max(1.0, counts[:num_classes].sum())
    present = frequency > 0
    weights = np.where(present, np.where(present, frequency, 1.0) ** -balance, 0.0)
    weights /= (weights * frequency).sum()
    return torch.from_numpy(np.where(present, weights, 1.0)).float()


if __name__ == "__main__":
    sys.exit(main())
