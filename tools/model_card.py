"""Score the shipped weights and write the figures into the model card and the README.

    python tools/model_card.py --out out/card

The command runs ``python -m sgnet_core.eval`` in every setting below, about a quarter of an hour on
two cores, and writes each result to ``NAME.json`` in the folder. Settings with a result are not run
again. The data set is ``data/nyuv2``, which ``python -m sgnet_core.prepare nyuv2`` writes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from page_marks import replaced

ROOT = Path(__file__).resolve().parent.parent
CARD, README = ROOT / "docs" / "model_card.md", ROOT / "README.md"
TEST = "data/nyuv2:test"

Figures = Mapping[str, Any]


class Setting(NamedTuple):
    """An evaluation.

    Attributes:
        name: name of the file of its result.
        arguments: arguments of ``python -m sgnet_core.eval``; OUT is the folder of the results.
        caption: caption of its row in the model card.
        speed: (rows, arithmetic, runtime) of its row in the README; None without a row there.
    """

    name: str
    arguments: str
    caption: str
    speed: tuple[str, str, str] | None = None


SETTINGS = (
    Setting("336 rows, float32", f"--data {TEST}", f"`{TEST}`", ("336", "float32", "PyTorch")),
    Setting(
        "holes",
        f"--data {TEST} --depth-sensor 0.0392",
        "the same, depth from a simulated sensor with holes",
    ),
    Setting(
        "240 rows, float32",
        f"--data {TEST} --input-height 240",
        "at 240 rows",
        ("240", "float32", "PyTorch"),
    ),
    Setting(
        "480 rows, float32",
        f"--data {TEST} --input-height 480",
        "at 480 rows",
        ("480", "float32", "PyTorch"),
    ),
    Setting(
        "336 rows, bfloat16",
        f"--data {TEST} --precision bf16",
        "in bfloat16",
        ("336", "bfloat16", "PyTorch"),
    ),
    Setting(
        "336 rows, float32, ONNX",
        f"--data {TEST} --model OUT/float32.onnx",
        "in ONNX Runtime",
        ("336", "float32", "ONNX Runtime"),
    ),
    Setting(
        "336 rows, INT8, ONNX",
        f"--data {TEST} --model OUT/int8.onnx",
        "in INT8, calibrated with 48 training frames",
        ("336", "INT8", "ONNX Runtime"),
    ),
    Setting("rooms", "--data rooms:2000:200", "`rooms:2000:200`"),
)
EXPORTS = {"float32.onnx": "", "int8.onnx": "--int8 --calibrate data/nyuv2:train"}
"""Exported files of the settings, and arguments of ``python -m sgnet_core.export`` for each."""


def run(module: str, arguments: str, out: Path) -> None:
    """Run a command of ``sgnet_core``.

    Raises:
        CalledProcessError: the command failed, after it printed the reason.
    """
    words = [word.replace("OUT", str(out)) for word in arguments.split()]
    print(f"python -m sgnet_core.{module}", *words, file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", f"sgnet_core.{module}", *words], check=True)


def score(out: Path) -> dict[str, Figures]:
    """Return the figures of every setting by name; run the settings without a result."""
    out.mkdir(parents=True, exist_ok=True)
    for name, arguments in EXPORTS.items():
        if not (out / name).exists():
            run("export", f"--out OUT/{name} {arguments}", out)
    results = {}
    for setting in SETTINGS:
        path = out / f"{setting.name}.json"
        if not path.exists():
            partial = out / "partial.json"
            run("eval", f"{setting.arguments} --json OUT/partial.json", out)
            partial.rename(path)
        results[setting.name] = json.loads(path.read_bytes())
    return results


def scores_table(results: Mapping[str, Figures]) -> str:
    """Return the model card's table of all settings."""
    lines = [
        "| data | mIoU % | mean accuracy % | pixel accuracy % | mIoU at 0–2 m | 2–4 m | beyond 4 m "
        "| without depth |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for setting in SETTINGS:
        figures = results[setting.name]
        bands = figures["by_distance"]
        scores = [figures[key] for key in ("miou", "mean_accuracy", "pixel_accuracy")]
        scores += [bands.get(band, {}).get("miou") for band in ("0-2 m", "2-4 m", "4+ m")]
        # Few pixels without depth, beyond the range of the sensor, are not representative.
        missing = bands.get("no depth", {})
        scores.append(missing.get("miou") if missing.get("pixels", 0) > 10**5 else None)
        lines.append(f"| {setting.caption} | {' | '.join(map(_percent, scores))} |")
    return "\n".join(lines)


def classes_table(results: Mapping[str, Figures]) -> str:
    """Return the model card's table of classes."""
    test, holes, rooms = (results[name] for name in (SETTINGS[0].name, "holes", "rooms"))
    pixels = [sum(row) for row in test["confusion"]]
    lines = [
        "| class | IoU, NYUDv2 | IoU, NYUDv2 with holes | IoU, rooms | share of NYUDv2's pixels |",
        "|---|---|---|---|---|",
    ]
    for index, name in enumerate(test["classes"]):
        scores = [_score(r["per_class_iou"][index]) for r in (test, holes, rooms)]
        share = 100 * pixels[index] / sum(pixels)
        lines.append(f"| {name} | {' | '.join(scores)} | {share:.2f}% |")
    return "\n".join(lines)


def speed_table(results: Mapping[str, Figures]) -> str:
    """Return the README's table of scores and milliseconds."""
    lines = [
        "| `input_height` | arithmetic | runtime | mIoU % | pixel accuracy % | ms |",
        "|---|---|---|---|---|---|",
    ]
    for setting in SETTINGS:
        if setting.speed is not None:
            figures = results[setting.name]
            shown = [_percent(figures[key]) for key in ("miou", "pixel_accuracy")]
            cells = (*setting.speed, *shown, f"{figures['ms_per_frame']:.0f}")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def commands() -> str:
    """Return the commands of all settings."""
    lines = [f"python -m sgnet_core.export --out {name} {given}" for name, given in EXPORTS.items()]
    lines += [f"python -m sgnet_core.eval {setting.arguments}" for setting in SETTINGS]
    return "\n".join(["```sh", *(line.replace("OUT/", "").rstrip() for line in lines), "```"])


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def _score(share: float | None) -> str:
    return "–" if share is None else f"{share:.3f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python tools/model_card.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the results")
    args = parser.parse_args(argv)
    try:
        results = score(args.out)
        card = CARD.read_text(encoding="utf-8")
        card = replaced(card, "scores", f"{scores_table(results)}\n\n{commands()}")
        card = replaced(card, "classes", classes_table(results))
        readme = replaced(README.read_text(encoding="utf-8"), "scores", speed_table(results))
    except (subprocess.CalledProcessError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    CARD.write_text(card, encoding="utf-8")
    README.write_text(readme, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
