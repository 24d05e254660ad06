"""Ablation of S-Conv and its parts: ``python tools/ablation.py --output DIR``.

The command trains every variant with the same budget, data and seeds, and prints a table of the
scores on the validation set at the last iteration, the number of parameters and the latency. The
variants are those of tables III and V of Chen et al., IEEE TIP 2021, DCNv2 in the place of S-Conv,
and the cheaper S-Convs of the shipped network. Finished runs are not repeated; an interrupted
command continues when it is run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sgnet_core.benchmark.measure import Case, Group, Machine, measure
from sgnet_core.data.catalog import open_dataset
from sgnet_core.files import atomic_write
from sgnet_core.geometry.spatial import SPATIAL_CHANNELS
from sgnet_core.inference.device import pick_device
from sgnet_core.models.fusion import fuse
from sgnet_core.models.sgnet import SGNet, create_model
from sgnet_core.training.config import TrainConfig, load_config
from sgnet_core.training.divergence import Diverged
from sgnet_core.training.progress import read_log
from sgnet_core.training.run import Run

INPUT_ERROR, DIVERGED = 2, 3
"""Exit statuses, as in `sgnet_core.train`."""

PLAIN = "none (plain convolution)"

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    PLAIN: {"spatial": "none", "shared_projector": False},
    "η (offsets) from depth": {"projector": False, "masks": False},
    "φ + η (offsets)": {"masks": False},
    "φ + f (weights)": {"offsets": False},
    "φ + η + f from depth": {},
    "φ + η + f from HHA": {"spatial": "hha"},
    "φ + η + f from 3D coordinates": {"spatial": "points"},
    "φ + η + f from the features": {"spatial": "features"},
    "DCNv2 (from the features)": {"spatial": "features", "operator": "dcnv2"},
    "φ + η + f from depth, as shipped": {
        "layers": [2, 3, 4],
        "projected_channels": 32,
        "shared_projector": True,
    },
}
"""Entries of `SGNetConfig` for each variant."""


@dataclass(frozen=True)
class VariantResult:
    """Scores of one variant, one per seed, and its cost.

    Attributes:
        name: name in `VARIANTS`.
        miou, pixel_accuracy: 0..1 on the validation set, one per seed.
        parameters: number of parameters of the fused network.
        p50_ms: median latency of the fused network on one frame of the training size.
        ratio: p50_ms divided by that of the plain network.
    """

    name: str
    miou: list[float]
    pixel_accuracy: list[float]
    parameters: int
    p50_ms: float
    ratio: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser("python tools/ablation.py", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--config", type=Path, required=True, help="config/train/ablation.yaml")
    parser.add_argument("--output", type=Path, required=True, help="folder of the runs")
    add = parser.add_argument
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one run each (default: 0 1 2)")
    numbered = "\n".join(f"{index} {name}" for index, name in enumerate(VARIANTS))
    parser.epilog = f"variants:\n{numbered}"
    add(
        "--variants",
        type=int,
        nargs="+",
        choices=range(len(VARIANTS)),
        default=range(len(VARIANTS)),
        metavar="N",
        help="numbers of the variants to train (default: all)",
    )
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: auto)")
    add(
        "--set",
        nargs="*",
        default=[],
        metavar="key=value",
        dest="overrides",
        help="keys of the configuration, as in python -m sgnet_core.train",
    )
    args = parser.parse_args(argv)
    names = [list(VARIANTS)[number] for number in args.variants]
    try:
        device = pick_device(args.device)
        config = load_config(args.config, args.overrides)
        for seed in args.seeds:  # all variants with one seed before the next seed
            for name in names:
                stopped = _train(config, name, seed, args.output, device)
                if stopped:
                    print("stopped; run the same command to continue", file=sys.stderr)
                    return stopped
        rows = list(_rows(config, names, args.seeds, args.output, device))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return INPUT_ERROR
    except Diverged as error:
        print(f"error: {error}", file=sys.stderr)
        return DIVERGED
    except KeyboardInterrupt:  # between the runs, or the second time within one
        print("\nstopped; run the same command to continue", file=sys.stderr)
        return 130
    print(table(rows))
    with atomic_write(args.output / "ablation.json") as file:
        file.write(json.dumps([asdict(row) for row in rows], indent=1).encode())
    return 0


def variant_config(config: TrainConfig, name: str, seed: int) -> TrainConfig:
    """Return the configuration of one variant with one seed."""
    return replace(config, architecture={**config.architecture, **VARIANTS[name]}, seed=seed)


def _folder(output: Path, name: str, seed: int) -> Path:
    return output / f"{list(VARIANTS).index(name)}-seed{seed}"


def _train(config: TrainConfig, name: str, seed: int, output: Path, device: torch.device) -> int:
    """Train one variant unless it is finished; return the exit status."""
    folder = _folder(output, name, seed)
    if any(int(row["iteration"]) >= config.iterations for row in read_log(folder)):
        return 0
    print(f"{name}, seed {seed}: {folder}", flush=True)
    return Run.start(variant_config(config, name, seed), folder, device).train()


def _rows(
    config: TrainConfig,
    names: Sequence[str],
    seeds: Sequence[int],
    output: Path,
    device: torch.device,
) -> Iterator[VariantResult]:
    _, labels = open_dataset(config.validation, config.size)
    models = {}
    for name in (PLAIN, *names):
        architecture = variant_config(config, name, 0).architecture
        models[name] = create_model(config.model, len(labels), **architecture).to(device)
    times = {record.name: record for record in _latency(models, config.size, device)}
    for name in names:
        model = models[name]
        folders = [_folder(output, name, seed) for seed in seeds]
        # The last scores, because choosing the best ones would favor noisy runs.
        results = [read_log(folder)[-1] for folder in folders]
        yield VariantResult(
            name,
            [float(result["miou"]) for result in results],
            [float(result["pixel_accuracy"]) for result in results],
            sum(p.numel() for p in fuse(model).parameters()),
            times[name].p50_ms,
            times[name].ratio,
        )


def _latency(models: Mapping[str, SGNet], size: tuple[int, int], device: torch.device) -> list[Any]:
    fused = {
        name: fuse(model).to(memory_format=torch.channels_last) for name, model in models.items()
    }

    def fresh() -> tuple[Tensor, Tensor]:
        rgb = torch.randn(1, 3, *size, device=device).contiguous(memory_format=torch.channels_last)
        return rgb, torch.rand(1, 3, *size, device=device)

    def case(name: str, model: SGNet) -> Case:
        channels = SPATIAL_CHANNELS[model.config.spatial]
        return Case(name, lambda inputs: model(inputs[0], inputs[1][:, :channels]), PLAIN)

    group = Group("ablation", f"1x3x{size[0]}x{size[1]}", fresh, [case(*m) for m in fused.items()])
    return measure(group, Machine.measure(device), repeats=20, warm_up=3)


def table(rows: Sequence[VariantResult]) -> str:
    """Return the rows in Markdown; scores in percent, mean ± standard deviation over the seeds."""
    lines = [
        "| variant | mIoU % | pixel accuracy % | parameters | ms | × plain |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.name} | {_spread(row.miou)} | {_spread(row.pixel_accuracy)} "
            f"| {row.parameters / 1e6:.2f} M | {row.p50_ms:.1f} | {row.ratio:.2f} |"
        )
    return "\n".join(lines)


def _spread(scores: Sequence[float]) -> str:
    mean = f"{100 * statistics.mean(scores):.1f}"
    return mean if len(scores) < 2 else f"{mean} ± {100 * statistics.stdev(scores):.1f}"


if __name__ == "__main__":
    sys.exit(main())
