"""Camera, node and report in one command: `python -m sgnet_ros.demo --out out/demo`.

The demo starts a camera and the node `sgnet` as separate processes, observes them over DDS, and
writes summary.json, pictures, a film, and the node's outputs as a bag. The first few frames, which
do not count, determine the size and rate that the device can process.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sgnet_core.arguments import frame_size, positive
from sgnet_core.data.images import write_png
from sgnet_core.files import atomic_write
from sgnet_core.models.labels import LabelSet
from sgnet_ros.demo.pictures import Picture, contact_sheet, write_film
from sgnet_ros.demo.report import table
from sgnet_ros.demo.run import Demo, DemoError
from sgnet_ros.system.domains import free_domain, stay_local
from sgnet_ros.system.environment import prepare_environment

_SHEET_ROWS = 6


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser("python -m sgnet_ros.demo", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--source", default="rooms", help="rooms, a folder of images, or a bag")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder of the results")
    parser.add_argument("--rate", type=positive, help="Hz; default: what the device can process")
    parser.add_argument(
        "--seconds", type=positive, help="default: 20 for rooms; recordings once, at most 60"
    )
    parser.add_argument("--size", type=frame_size, help="WxH; default: what the device can process")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--model", help="model file; default: the shipped weights")
    parser.add_argument("--rgb-topic", help="topic of the color images, if the bag has several")
    parser.add_argument("--depth-topic", help="topic of the depth images, if the bag has several")
    parser.add_argument(
        "--view",
        action="store_true",
        help="also open the live viewer: pip install 'sgnet_ros[viz]'",
    )
    return parser.parse_args(argv)


def main() -> None:
    """Run the command; exit with 1 and the reason if the demo fails, with 130 on Ctrl-C."""
    args = parse_arguments(sys.argv[1:])
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, signal.default_int_handler)
    os.environ.setdefault("ROS_DOMAIN_ID", str(free_domain()))
    stay_local()
    prepare_environment()
    try:
        clear(args.out)
        with Demo(args) as demo:
            summary = demo.run()
        save(args.out, summary, demo.observer.pictures, demo.observer.label_set())
        if film := demo.observer.latest:
            write_film(args.out / "demo.webp", film)
    except (DemoError, OSError) as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        print("\ndemo: interrupted", file=sys.stderr)
        sys.exit(130)
    print(f"\n{table(summary)}\n\nsummary, pictures, logs and the bag are in {args.out}/")


def save(
    out: Path, summary: dict[str, Any], pictures: Sequence[Picture], label_set: LabelSet
) -> None:
    """Write summary.json, an overlay_NN.png for each picture, and contact_sheet.png."""
    with atomic_write(out / "summary.json") as file:
        file.write(json.dumps(summary, indent=2).encode() + b"\n")
    for i, picture in enumerate(pictures):
        write_png(out / f"overlay_{i:02d}.png", picture.overlay)
    rows = min(_SHEET_ROWS, len(pictures))
    if rows:
        shown = [pictures[round(i * (len(pictures) - 1) / max(1, rows - 1))] for i in range(rows)]
        write_png(out / "contact_sheet.png", contact_sheet(shown, label_set))


def clear(out: Path) -> None:
    """Create the folder, and delete the results of an earlier run."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("summary.json", "contact_sheet.png", "demo.webp", "overlay_*.png"):
        for old in out.glob(name):
            old.unlink()
    shutil.rmtree(out / "bag", ignore_errors=True)


if __name__ == "__main__":
    main()
