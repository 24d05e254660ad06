"""Train for a limited time on a GPU, and split the run into small files for another machine.

The training command runs with ``precision=bf16``, is stopped between two iterations when the time
is over, as by Ctrl-C, and the files of its folder are split into parts of at most 15 MB:

    python tools/gpu_train.py --config config/train/nyuv2_lite.yaml --out out/gpu_train --minutes 10

The same command resumes the run. To resume it on another machine, copy ``OUT/parts`` there: the
command joins the parts if there is no run yet. With ``--join``, it only joins them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PART_BYTES = 15_000_000
INDEX = "parts.json"
PREVIOUS = "checkpoint_previous.pt"

STOPPING_S = 300.0
"""Longest time in which a stopped run writes its checkpoint."""


def train(arguments: Sequence[str], seconds: float) -> int:
    """Run the training command for at most ``seconds``; return its exit status, 0 if stopped."""
    command = [sys.executable, "-m", "sgnet_core.train", *arguments]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        code = process.wait(STOPPING_S)
        return 0 if code == 128 + signal.SIGTERM else code
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def split(run: Path, parts: Path, limit: int = PART_BYTES) -> int:
    """Split the files of a run's folder into parts; return the number of parts.

    Subfolders (pictures and TensorBoard's curves) and the previous checkpoint are left out. The
    index ``parts.json`` has size and SHA-256 of every file.
    """
    parts.mkdir(parents=True, exist_ok=True)
    for old in parts.iterdir():
        old.unlink()
    index = {}
    count = 0
    for path in sorted(p for p in run.iterdir() if p.is_file() and p.name != PREVIOUS):
        content = path.read_bytes()
        pieces = [content[at : at + limit] for at in range(0, len(content), limit)] or [b""]
        for number, piece in enumerate(pieces):
            (parts / f"{path.name}.{number:03d}").write_bytes(piece)
        index[path.name] = {
            "parts": len(pieces),
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        count += len(pieces)
    (parts / INDEX).write_text(json.dumps(index, indent=1) + "\n")
    return count


def join(parts: Path, run: Path) -> list[Path]:
    """Join the parts of `split` in the run's folder; return the files.

    Raises:
        ValueError: a part is missing or damaged; the message names the file.
        OSError: there is no index, or a file cannot be written.
    """
    run.mkdir(parents=True, exist_ok=True)
    written = []
    for name, entry in json.loads((parts / INDEX).read_text()).items():
        pieces = [parts / f"{name}.{number:03d}" for number in range(entry["parts"])]
        absent = [piece.name for piece in pieces if not piece.exists()]
        if absent:
            raise ValueError(f"{parts} lacks {', '.join(absent)}: copy it again")
        content = b"".join(piece.read_bytes() for piece in pieces)
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise ValueError(f"the parts of {name} in {parts} are damaged: copy them again")
        (run / name).write_bytes(content)
        written.append(run / name)
    return written


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status of the training, or 2 for damaged parts."""
    parser = argparse.ArgumentParser(
        prog="python tools/gpu_train.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, help="YAML file, as for python -m sgnet_core.train")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "gpu_train", metavar="DIR")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training (default: 10)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, …")
    parser.add_argument("--join", action="store_true", help="only join the parts")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_intermixed_args(argv)
    run, parts = args.out.resolve() / "run", args.out.resolve() / "parts"
    try:
        if args.join or (parts.exists() and not run.exists()):
            for path in join(parts, run):
                print(f"joined {path}", flush=True)
    except (ValueError, OSError) as error:
        parser.exit(2, f"gpu_train: {error}\n")
    if args.join:
        return 0
    arguments = ["--output", str(run), "--device", args.device, "precision=bf16", *args.overrides]
    if args.config:
        arguments += ["--config", str(args.config.resolve())]
    code = train(arguments, 60 * args.minutes)
    if run.exists():
        print(f"{split(run, parts)} parts in {parts}", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
