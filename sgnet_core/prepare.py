"""Write data sets as plain folders, and check such folders: ``python -m sgnet_core.prepare``.

`sgnet_core.data.datasets.folder` and docs/data.md describe the layout.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tqdm import tqdm

from sgnet_core.arguments import image_size
from sgnet_core.data.catalog import open_dataset
from sgnet_core.data.datasets import cityscapes, nyuv2, sunrgbd
from sgnet_core.data.datasets.check import check_folder
from sgnet_core.data.datasets.folder import MILLIMETERS
from sgnet_core.data.datasets.folder_writer import NamedSamples, write_folder
from sgnet_core.data.datasets.frame_files import DatasetError
from sgnet_core.data.datasets.shards import write_shards
from sgnet_core.data.rooms import Rooms
from sgnet_core.data.sample import Sample
from sgnet_core.data.transforms import resize
from sgnet_core.fleet.jobs import Failure
from sgnet_core.fleet.ray_workers import LOCAL, Workers, run_on_ray
from sgnet_core.fleet.rooms import RoomsJob
from sgnet_core.models.labels import NYU13, NYU40, LabelSet

DATA_HELP = "FOLDER, FOLDER:SPLIT or a list file"
CITYSCAPES_SCALE = 0.005
"""Meters per unit of depth images for Cityscapes, because 16-bit millimeters end at 65 m."""


def main(argv: list[str] | None = None) -> int:
    """Run the command; return 0, 1 for problems in a checked folder, or 2 for an error."""
    args = _parser().parse_args(argv)
    try:
        if args.command == "check":
            check = check_folder(args.folder)
            print(check.report())
            return 1 if check.problems else 0
        if args.command == "shards":
            return _shards(args)
        if args.command == "rooms" and args.ray is not None:
            return _rooms_on_ray(args)
        splits = {
            "nyuv2": _nyuv2,
            "sunrgbd": _sunrgbd,
            "cityscapes": _cityscapes,
            "rooms": _rooms,
            "resize": _resized,
        }
        scale = CITYSCAPES_SCALE if args.command == "cityscapes" else MILLIMETERS
        count = write_folder(args.out, splits[args.command](args), scale)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        unfinished = f": {args.out} is not complete, remove it" if args.command != "check" else ""
        print(f"\ninterrupted{unfinished}", file=sys.stderr)
        return 130
    print(
        f"{count} frames in {args.out}; check them: python -m sgnet_core.prepare check {args.out}"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sgnet_core.prepare",
        description="Write a data set as a plain folder, or check such a folder.",
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
        return sub

    nyu = command("nyuv2", "NYUDv2: nyu_depth_v2_labeled.mat, split 795/654, 40 or 13 classes.")
    nyu.add_argument("source", type=Path, help="the .mat file, or the folder that contains it")
    nyu.add_argument("--splits", type=Path, help="splits.mat (default: next to the .mat file)")
    nyu.add_argument(
        "--mapping", type=Path, help="classMapping40.mat (default: next to the .mat file)"
    )
    nyu.add_argument("--mapping13", type=Path, help="class13Mapping.mat: write 13 classes")
    sun = command("sunrgbd", "SUN RGB-D: SUNRGBD and SUNRGBDtoolbox, split 5285/5050, 37 classes.")
    sun.add_argument("source", type=Path, help="the folder that contains both")
    for sub in (nyu, sun):
        sub.add_argument(
            "--raw-depth",
            action="store_true",
            help="use the depth of the sensor with its holes instead of the filled depth",
        )
    city = command("cityscapes", "Cityscapes: depth from disparity, train and val, 19 classes.")
    city.add_argument(
        "source", type=Path, help="folder that contains leftImg8bit, gtFine, disparity, camera"
    )
    rooms = command("rooms", "Procedural rooms.")
    rooms.add_argument("--seed", type=int, required=True, help="each seed gives different rooms")
    rooms.add_argument("--count", type=int, required=True, help="number of frames")
    size = "size of the frames (default: 640x480)"
    rooms.add_argument("--size", type=image_size, default=(480, 640), metavar="WxH", help=size)
    rooms.add_argument(
        "--ray",
        nargs="?",
        const=LOCAL,
        metavar="ADDRESS",
        help="render in parallel with Ray, on all cores of this machine or of the cluster at "
        "HOST:PORT, whose machines must share the folder; a second run renders only missing frames",
    )
    resized = command("resize", "Any data set at another size: small frames are read faster.")
    resized.add_argument("data", metavar="D", help=DATA_HELP)
    resized.add_argument("--size", type=image_size, required=True, metavar="WxH", help="320x240")
    shards = commands.add_parser("shards", help="Write any data set as tar shards.")
    shards.add_argument("data", metavar="D", help=DATA_HELP)
    shards.add_argument("--out", required=True, metavar="DEST", help="folder, or URL: s3://, …")
    check = commands.add_parser(
        "check", help="Check every file of a plain folder and report all problems."
    )
    check.add_argument("folder", type=Path)
    return parser


Splits = Mapping[str, NamedSamples]


def _nyuv2(args: argparse.Namespace) -> Splits:
    source: Path = args.source
    file = source / "nyu_depth_v2_labeled.mat" if source.is_dir() else source
    if not file.is_file():
        raise DatasetError(f"{file} does not exist")
    classes = nyuv2.class_table(
        args.mapping or file.with_name("classMapping40.mat"), args.mapping13
    )
    label_set = NYU13 if args.mapping13 else NYU40
    lists = args.splits or file.with_name("splits.mat")
    return {
        split: nyuv2.NyuFile(
            file, nyuv2.read_split(lists, split), classes, label_set, raw_depth=args.raw_depth
        )
        for split in nyuv2.SPLIT_VARIABLES
    }


def _sunrgbd(args: argparse.Namespace) -> Splits:
    return {
        split: sunrgbd.SunRgbd(args.source, split, raw_depth=args.raw_depth)
        for split in sunrgbd.SPLITS
    }


def _cityscapes(args: argparse.Namespace) -> Splits:
    return {split: cityscapes.Cityscapes(args.source, split) for split in cityscapes.SPLITS}


def _named(data: str) -> NamedSamples:
    samples, _ = open_dataset(data, (480, 640))
    if not hasattr(samples, "names"):
        raise ValueError(f"{data} has no files: write rooms with `prepare rooms` first")
    return cast(NamedSamples, samples)


def _resized(args: argparse.Namespace) -> Splits:
    return {"": _Resized(_named(args.data), args.size)}


@dataclass(frozen=True)
class _Resized:
    samples: NamedSamples
    size: tuple[int, int]

    @property
    def label_set(self) -> LabelSet:
        return self.samples.label_set

    @property
    def names(self) -> Sequence[str]:
        return self.samples.names

    def __getitem__(self, index: int) -> Sample:
        height, width = self.size
        return resize(self.samples[index], width, height)


def _shards(args: argparse.Namespace) -> int:
    written = write_shards(args.out, _named(args.data))
    print(f"{written} frames in {args.out}")
    return 0


def _rooms_on_ray(args: argparse.Namespace) -> int:
    """Render rooms in Ray's workers; return 1 if some frames failed."""
    rooms = _rooms(args)[""]
    job = RoomsJob(args.out.absolute(), args.seed, args.count, args.size)
    job.prepare()
    blocks = job.blocks()
    failed = 0
    with (
        contextlib.closing(run_on_ray(job, blocks, Workers(args.ray, gpus=False))) as outcomes,
        tqdm(total=args.count, unit="frame") as bar,
    ):
        for block, outcome in outcomes:
            if isinstance(outcome, Failure):
                failed += len(block)
                tqdm.write(
                    f"failed: frames {block[0]} to {block[-1]}: {outcome.reason}", sys.stderr
                )
            bar.update(len(block))
    if failed:
        print(f"error: {failed} frames failed; the same command tries them again", file=sys.stderr)
        return 1
    job.finish(rooms.label_set)
    print(f"{args.count} frames in {args.out}")
    return 0


def _rooms(args: argparse.Namespace) -> Splits:
    if args.count < 1 or args.seed < 0:
        raise ValueError("--count must be at least 1, --seed must not be negative")
    return {"": _NamedRooms(Rooms(args.seed, args.count, args.size))}


@dataclass(frozen=True)
class _NamedRooms:
    rooms: Rooms
    label_set: LabelSet = NYU40

    @property
    def names(self) -> list[str]:
        return [f"{index:06d}" for index in range(len(self.rooms))]

    def __getitem__(self, index: int) -> Sample:
        return self.rooms[index]


if __name__ == "__main__":
    sys.exit(main())
