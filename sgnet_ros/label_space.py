"""Write a model's classes as a label space and a color map for Hydra and Khronos.

    python -m sgnet_ros.label_space --model my.safetensors --out label_space

`docs/recipes.md` describes how to use the two files.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from sgnet_core.files import atomic_write
from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.models.labels import IGNORE_ID, LabelSet
from sgnet_core.models.model_file import ModelFileError
from sgnet_ros.node.chosen_classes import ground_ids, ids_of, obstacle_ids

_DYNAMIC = frozenset(
    ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle", "animal")
)
_STRUCTURE = frozenset(
    ("wall", "window", "door", "ceiling", "otherstructure", "building", "fence", "pole", "sky")
)
"""Names of the classes that are not objects, in all label sets of this package."""


def label_space(labels: LabelSet) -> str:
    """Return a label set as a label space of Hydra, in YAML.

    Ground classes are surfaces for places; people and vehicles are dynamic; all other classes that
    are not part of the building are objects. 255 is an invalid label.
    """
    ground = ground_ids(labels, None)
    dynamic = ids_of(labels, _DYNAMIC)
    others = {*dynamic, *ids_of(labels, _STRUCTURE)}
    objects = [i for i in obstacle_ids(labels, None, ground) if i not in others]
    lines = [
        "---",
        f"total_semantic_labels: {len(labels)}",
        f"dynamic_labels: {dynamic}",
        f"invalid_labels: [{IGNORE_ID}]",
        f"object_labels: {objects}",
        f"surface_places_labels: {ground}",
        "label_names:",
    ]
    names = zip(labels.ids, labels.names, strict=True)
    lines += [f"  - {{label: {i}, name: {json.dumps(name)}}}" for i, name in names]
    return "\n".join(lines) + "\n"


def color_map(labels: LabelSet) -> str:
    """Return the colors of a label set, as on ``~/color``, in CSV: name, RGBA, id."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("name", "red", "green", "blue", "alpha", "id"))
    for i, name, color in zip(labels.ids, labels.names, labels.colors, strict=True):
        rows.writerow((name, *color, 255, i))
    rows.writerow(("unlabeled", 0, 0, 0, 255, IGNORE_ID))
    return text.getvalue()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or exit with 2 and the reason."""
    parser = argparse.ArgumentParser(
        prog="python -m sgnet_ros.label_space",
        description="Write a model's classes as a label space (YAML) and a color map (CSV) for "
        "Hydra and Khronos.",
    )
    parser.add_argument("--model", help="model file (default: the shipped weights)")
    parser.add_argument(
        "--out", type=Path, default=Path("label_space"), help="folder of the two files"
    )
    args = parser.parse_args(argv)
    try:
        labels = Segmenter(args.model, "cpu").labels
        args.out.mkdir(parents=True, exist_ok=True)
        for name, text in (
            (f"{labels.name}_label_space.yaml", label_space(labels)),
            (f"{labels.name}_colors.csv", color_map(labels)),
        ):
            with atomic_write(args.out / name) as file:
                file.write(text.encode())
            print(args.out / name)
    except (ModelFileError, OSError) as error:
        parser.exit(2, f"label_space: {error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
