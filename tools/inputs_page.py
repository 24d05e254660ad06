"""Update the tables of accepted inputs in docs/inputs.md from the constants in the code.

The text of the page is written by hand; each table is between `<!-- table NAME -->` and
`<!-- end -->`. With `--check`, the page is not changed, and the exit status is 1 if it is out of
date.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from sgnet_core.data import images
from sgnet_core.data.catalog import LAYOUTS
from sgnet_core.data.datasets.check import NEAREST_MEDIAN
from sgnet_core.data.datasets.folder import DEPTH_SUFFIXES, MILLIMETERS, RGB_SUFFIXES
from sgnet_core.data.datasets.frame_files import MAX_JSON_BYTES, MAX_LIST_BYTES
from sgnet_core.data.datasets.matlab import MAX_CHUNK_BYTES
from sgnet_core.data.datasets.matlab_checks import MAX_MAT_BYTES
from sgnet_core.data.depth_units import FARTHEST_M, KNOWN_SCALES, NO_MEASUREMENT
from sgnet_core.data.jpeg import MAX_SCANS
from sgnet_core.geometry.depth_range import DEPTH_RANGE
from sgnet_core.geometry.lens import COEFFICIENTS
from sgnet_core.inference.image_names import ARRAY_SUFFIXES, IMAGE_SUFFIXES
from sgnet_core.models.labels import IGNORE_ID, LABEL_SETS
from sgnet_ros.messages.images import COLOR_ENCODINGS, DEPTH_ENCODINGS
from sgnet_ros.recordings.bags import BAG_SUFFIXES
from sgnet_ros.recordings.matching import MAX_SKEW_S
from sgnet_ros.recordings.storages import MAX_METADATA_BYTES
from sgnet_ros.recordings.unpacking import MAX_FILE_RATIO, MAX_RECORD_BYTES
from sgnet_ros.system.camera_presets import CAMERAS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "inputs.md"

Rows = list[tuple[str, ...]]

PIXELS = {
    "rgb8": "red, green, blue; read without a copy",
    "rgba8": "red, green, blue, ignored; read without a copy",
    "mono8": "gray; read without a copy",
    "bgr8": "blue, green, red",
    "bgra8": "blue, green, red, ignored",
    "8UC3": "blue, green, red (OpenCV's order)",
    "8UC1": "gray; read without a copy",
    "yuv422": "YUV 4:2:2, UYVY order",
    "uyvy": "YUV 4:2:2, UYVY order",
    "yuv422_yuy2": "YUV 4:2:2, YUYV order",
    "yuyv": "YUV 4:2:2, YUYV order",
    "nv12": "YUV 4:2:0, two planes, U first",
    "nv21": "YUV 4:2:0, two planes, V first",
    "16UC1": "millimeters",
    "mono16": "millimeters",
    "32FC1": "meters",
}


def message_rows() -> Rows:
    """Return the encodings of sensor_msgs/Image."""
    rows: Rows = [("encoding", "used as", "pixels")]
    for use, names in (("color", COLOR_ENCODINGS), ("depth", DEPTH_ENCODINGS)):
        for name in names:
            bayer = "Bayer mosaic, named by its first four pixels"
            rows.append((f"`{name}`", use, bayer if "bayer" in name else PIXELS[name]))
    return rows


def file_rows() -> Rows:
    """Return the suffixes of image files."""
    return [
        ("read by", "color", "depth", "labels"),
        ("`predict`", code(IMAGE_SUFFIXES), code((*IMAGE_SUFFIXES, *ARRAY_SUFFIXES)), "–"),
        ("[plain folder](data.md)", code(RGB_SUFFIXES), code(DEPTH_SUFFIXES), "`.png`"),
    ]


def number_rows() -> Rows:
    """Return units, limits and reserved values."""
    near, far = DEPTH_RANGE
    scales = ", ".join(f"{scale:g}" for scale in KNOWN_SCALES)
    return [
        ("quantity", "value"),
        ("unit of integer depth in files and arrays by default", f"{MILLIMETERS:g} m"),
        ("depth that counts as a measurement by default", f"{near:g} to {far:g} m"),
        ("median depth of an image at most", f"{FARTHEST_M:g} m"),
        ("median depth of an image for `prepare check` at least", f"{NEAREST_MEDIAN:g} m"),
        ("units that messages suggest", f"{scales} m"),
        ("integers without a measurement", f"0 and {NO_MEASUREMENT}"),
        ("largest time between color and depth in bags", f"{MAX_SKEW_S:g} s"),
        ("largest chunk or message of a recording, unpacked", f"{MAX_RECORD_BYTES >> 20} MiB"),
        (
            "largest compressed file of a recording, unpacked",
            f"{MAX_FILE_RATIO} times its size, or {MAX_RECORD_BYTES >> 20} MiB if that is more",
        ),
        ("largest metadata.yaml of a recording", f"{MAX_METADATA_BYTES >> 20} MiB"),
        (
            "largest image or array in a file or a compressed message",
            f"{images.MAX_PIXELS:,} pixels",
        ),
        ("most scans of a JPEG", f"{MAX_SCANS}"),
        ("largest JSON file", f"{MAX_JSON_BYTES >> 20} MiB"),
        ("largest MATLAB file, unpacked, and largest array in one", f"{MAX_MAT_BYTES >> 20} MiB"),
        ("largest chunk of an array in a MATLAB file of v7.3", f"{MAX_CHUNK_BYTES >> 20} MiB"),
        ("largest list of frames", f"{MAX_LIST_BYTES >> 20} MiB"),
        ("id of unlabeled pixels", f"{IGNORE_ID}"),
    ]


def layout_rows() -> Rows:
    """Return the layouts of data sets in folders."""
    split = [text.partition(": ") for _, text in LAYOUTS]
    return [("layout", "files"), *((name, files) for name, _, files in split)]


def lens_rows() -> Rows:
    """Return the distortion models."""
    rows = [(f"`{name}`", f"{count}") for name, count in COEFFICIENTS.items()]
    return [("distortion model", "coefficients at most"), *rows]


def label_set_rows() -> Rows:
    """Return the built-in label sets."""
    rows = [(f"`{name}`", f"{len(labels)}") for name, labels in LABEL_SETS.items()]
    return [("label set", "classes"), *rows]


def recording_rows() -> Rows:
    """Return the suffixes of recordings."""
    kinds = {".bag": "rosbag1", ".mcap": "rosbag2, mcap", ".db3": "rosbag2, sqlite3"}
    rows = [(f"`{ending}`", kinds[ending]) for ending in BAG_SUFFIXES]
    return [("ending", "format"), *rows, ("folder", "rosbag2, with or without `metadata.yaml`")]


def camera_rows() -> Rows:
    """Return the presets of `sgnet.launch.py`."""
    rows: Rows = [("`camera:=`", "driver, and what to set", "color and depth topics", "depth")]
    for name, camera in CAMERAS.items():
        link = f"[{camera.driver.split(',')[0].split(';')[0]}]({camera.source})"
        driver = link + camera.driver[link.index("]") - 1 :] if camera.source else camera.driver
        rows.append((f"`{name}`", driver, code((camera.rgb, camera.depth)), camera.encoding))
    return rows


TABLES: dict[str, Callable[[], Rows]] = {
    "cameras": camera_rows,
    "messages": message_rows,
    "files": file_rows,
    "numbers": number_rows,
    "layouts": layout_rows,
    "lenses": lens_rows,
    "label sets": label_set_rows,
    "recordings": recording_rows,
}


def code(names: Iterable[str]) -> str:
    """Return names as Markdown code, separated by commas."""
    return ", ".join(f"`{name}`" for name in names)


def table(rows: Rows) -> str:
    """Return rows as a Markdown table; the first row is the head."""
    lines = [rows[0], ("---",) * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def updated(page: str) -> str:
    """Return the page with new tables.

    Raises:
        KeyError: the page has a table that is not in `TABLES`.
    """
    return re.sub(
        r"<!-- table ([a-z ]+) -->\n.*?<!-- end -->",
        lambda found: f"<!-- table {found[1]} -->\n{table(TABLES[found[1]]())}\n<!-- end -->",
        page,
        flags=re.DOTALL,
    )


def main() -> int:
    """Write the page, or check it; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare, and write nothing")
    check = parser.parse_args().check
    old = PAGE.read_text(encoding="utf-8")
    missing = [name for name in TABLES if f"<!-- table {name} -->" not in old]
    if missing:
        print(f"{PAGE} lacks the tables {', '.join(missing)}", file=sys.stderr)
        return 1
    new = updated(old)
    if not check:
        PAGE.write_text(new, encoding="utf-8")
    elif new != old:
        print(f"{PAGE} is out of date: run python tools/inputs_page.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
