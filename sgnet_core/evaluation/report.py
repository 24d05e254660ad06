"""Reports of an evaluation: a table for the terminal, and one self-contained HTML page."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sgnet_core.data.images import overlay
from sgnet_core.evaluation.metrics import ConfusionMatrix, Scores
from sgnet_core.models.labels import LabelSet

OVERLAY_ALPHA = 0.55
PICTURE_WIDTH = 640
"""Maximum width in pixels of pictures in the page; wider pictures are shrunk."""

Rgb = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ScoredFrame:
    """A frame shown in the page.

    Attributes:
        name: name of the frame.
        miou: mIoU of this frame over the classes in its truth; NaN without labeled pixels.
        rgb: (h, w, 3) uint8.
        truth, predicted: (H, W) uint8 class ids of the same view, 255 = ignore.
        index: position in the data set.
    """

    name: str
    miou: float
    rgb: Rgb
    truth: Mask
    predicted: Mask
    index: int = 0


@dataclass
class Extremes:
    """The ``keep`` frames with the highest and with the lowest mIoU.

    Attributes:
        best, worst: the most extreme frame first; ties in the order of `add`.
    """

    keep: int = 3
    best: list[ScoredFrame] = field(default_factory=list)
    worst: list[ScoredFrame] = field(default_factory=list)

    def add(self, frame: ScoredFrame) -> None:
        """Keep the frame if it is among the extremes; ignore frames without labeled pixels."""
        if math.isnan(frame.miou):
            return
        self.best = sorted([*self.best, frame], key=lambda f: -f.miou)[: self.keep]
        self.worst = sorted([*self.worst, frame], key=lambda f: f.miou)[: self.keep]


@dataclass(frozen=True)
class Report:
    """Content of the page.

    Attributes:
        title: headline.
        facts: values by name about data, model and settings, shown below the headline.
        scores: the scores.
        labels: names and colors of the classes.
        extremes: frames to show.
        curve: records of the training in order, each with ``iteration`` and ``miou``, and possibly
            ``loss``; empty if there are none.
        iteration: iteration at which the model was saved, if known.
    """

    title: str
    facts: Mapping[str, str]
    scores: Scores
    labels: LabelSet
    extremes: Extremes = field(default_factory=Extremes)
    curve: Sequence[Mapping[str, float]] = ()
    iteration: float | None = None


def text_table(scores: Scores, names: Sequence[str]) -> str:
    """Return a table of classes, distances and means as text; "-" for classes without pixels."""
    total = scores.total
    share = _share(total)
    width = max(16, *(len(name) + 2 for name in names))
    lines = [f"{'class':<{width}}{'IoU':>8}{'recall':>8}{'pixels':>9}"]
    for name, iou, recall, part in zip(
        names, total.class_iou, total.class_accuracy, share, strict=True
    ):
        pixels = f"{part:.2%}" if part else "-"
        lines.append(f"{name:<{width}}{_number(iou):>8}{_number(recall):>8}{pixels:>9}")
    lines += ["", f"{'distance':<{width}}{'mIoU':>8}{'correct':>8}{'pixels':>9}"]
    for name, band in scores.by_distance.items():
        pixels = f"{band.pixels / max(1, total.pixels):.2%}" if band.pixels else "-"
        miou, correct = _number(band.miou), _number(band.pixel_accuracy)
        lines.append(f"{name:<{width}}{miou:>8}{correct:>8}{pixels:>9}")
    means = (("mIoU", total.miou), ("mean accuracy", total.mean_accuracy))
    summary = [
        f"{k} {_number(v, 4)}" for k, v in (*means, ("pixel accuracy", total.pixel_accuracy))
    ]
    return "\n".join([*lines, "", f"{'   '.join(summary)}   ({scores.frames} frames)"])


def page_template(name: str = "report.html", package: str = "sgnet_core.evaluation") -> Any:
    """Return a jinja2 template of a package; it can include templates of ``sgnet_core``.

    Raises:
        ModuleNotFoundError: jinja2 is not installed; the message says how to install it.
    """
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the report needs jinja2: pip install 'sgnet_ros[train]'", name="jinja2"
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(p) for p in (package, __package__)]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["cell_color"] = _cell_color
    return environment.get_template(name)


def html_page(report: Report) -> str:
    """Return the report as one HTML document with embedded pictures, without scripts and links.

    Raises:
        ModuleNotFoundError: jinja2 is not installed; the message says how to install it.
    """
    total = report.scores.total
    page: str = page_template().render(
        report=report,
        total=total,
        classes=class_rows(total, report.labels),
        absent=[n for n, s in zip(report.labels.names, _share(total), strict=True) if not s],
        bands=report.scores.by_distance,
        matrix=_matrix(total, report.labels),
        charts=_charts(report.curve),
        groups=_pictures(report.extremes, report.labels),
        legend=_legend(report.extremes, report.labels),
    )
    return page


def _share(confusion: ConfusionMatrix) -> npt.NDArray[np.float64]:
    """Return the (C,) share of each class among the labeled pixels."""
    return np.asarray(confusion.counts.sum(axis=1) / max(1, confusion.pixels))


def _number(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def percent(value: float, digits: int = 1) -> str:
    """Format a share 0..1 in percent; "–" for NaN."""
    return "–" if math.isnan(value) else f"{100 * value:.{digits}f}"


def _cell_color(share: float, right: bool) -> str:
    """Return the CSS color of a matrix cell: blue on the diagonal, red elsewhere."""
    if share < 0.005:
        return "#f3f5f8"
    strength = share if right else share**0.6
    return f"hsl({211 if right else 18} 65% {95 - 55 * strength:.1f}%)"


def hex_color(color: tuple[int, int, int]) -> str:
    """Return an RGB color as ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def class_rows(total: ConfusionMatrix, labels: LabelSet) -> list[dict[str, Any]]:
    """Return the classes in the truth, sorted by IoU."""
    right = np.diag(total.counts)
    predicted = total.counts.sum(axis=0)
    precision = np.divide(right, predicted, out=np.zeros(len(right)), where=predicted > 0)
    columns = {
        "name": labels.names,
        "color": [hex_color(color) for color in labels.colors],
        "iou": total.class_iou.tolist(),
        "recall": total.class_accuracy.tolist(),
        "precision": precision.tolist(),
        "share": _share(total).tolist(),
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return sorted((row for row in rows if row["share"]), key=lambda row: -row["iou"])


def _matrix(total: ConfusionMatrix, labels: LabelSet) -> dict[str, Any]:
    """Return the confusion matrix: a row per true class, a column per true or predicted class."""
    truth, predicted = total.counts.sum(axis=1), total.counts.sum(axis=0)
    rows = np.flatnonzero(truth)
    columns = np.flatnonzero(truth + predicted)
    shares = total.counts[rows][:, columns] / np.maximum(truth[rows], 1)[:, None]
    return {
        "rows": [labels.names[i] for i in rows],
        "columns": [labels.names[i] for i in columns],
        "diagonal": [int(np.flatnonzero(columns == i)[0]) for i in rows],
        "shares": shares.tolist(),
    }


@dataclass(frozen=True)
class Chart:
    """A curve in a box of 100 x 100 units with y downwards; ticks are (position, text)."""

    title: str
    line: Sequence[tuple[float, float]]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    end: float


def _charts(curve: Sequence[Mapping[str, float]]) -> list[Chart]:
    """Return the charts of mIoU and loss that have at least two points."""
    charts = []
    for key, title in (("miou", "validation mIoU"), ("loss", "training loss")):
        points = [(r["iteration"], r[key]) for r in curve if math.isfinite(r.get(key, math.nan))]
        if len(points) < 2:
            continue
        end = max(x for x, _ in points)
        ticks = round_ticks(min(0.0, *(y for _, y in points)), max(y for _, y in points))
        low, high = ticks[0], ticks[-1]
        charts.append(
            Chart(
                title,
                [(100 * x / end, 100 * (high - y) / (high - low)) for x, y in points],
                [(100 * x / end, f"{x:g}") for x in round_ticks(0, end) if x <= end],
                [(100 * (high - y) / (high - low), f"{y:g}") for y in ticks],
                end,
            )
        )
    return charts


def round_ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers that enclose the range."""
    span = (high - low) or 1.0
    power = 10 ** math.floor(math.log10(span / 4))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= span / 4 * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, max(last, first + 1) + 1)]


def _pictures(extremes: Extremes, labels: LabelSet) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the best and the worst frames with pictures as data URIs; no frame is in both."""
    taken = {id(frame) for frame in extremes.best}
    worst = [frame for frame in extremes.worst if id(frame) not in taken]
    groups = (("Best frames", extremes.best), ("Worst frames", worst))
    return [(name, [_panels(f, labels) for f in frames]) for name, frames in groups if frames]


def _panels(frame: ScoredFrame, labels: LabelSet) -> dict[str, Any]:
    height, width = frame.rgb.shape[:2]
    fitting = Image.fromarray(frame.predicted).resize((width, height), Image.Resampling.NEAREST)
    drawn = overlay(frame.rgb, np.asarray(fitting), labels, OVERLAY_ALPHA)
    panels = {
        "image": image_uri(frame.rgb),
        "truth": mask_uri(frame.truth, labels),
        "prediction": mask_uri(frame.predicted, labels),
        "overlay": image_uri(drawn),
    }
    return {"name": frame.name, "miou": frame.miou, "panels": panels}


def _legend(extremes: Extremes, labels: LabelSet) -> list[tuple[str, str]]:
    """Return (name, color) of the classes in the shown frames, sorted by number of pixels."""
    counts = np.zeros(256, np.int64)
    for frame in (*extremes.best, *extremes.worst):
        for mask in (frame.truth, frame.predicted):
            counts += np.bincount(mask.ravel(), minlength=256)
    order = np.argsort(-counts[: len(labels)], kind="stable")
    return [(labels.names[i], hex_color(labels.colors[i])) for i in order if counts[i]]


def image_uri(rgb: Rgb) -> str:
    """Encode (H, W, 3) uint8 as a JPEG data URI, at most `PICTURE_WIDTH` wide."""
    return _data_uri(Image.fromarray(rgb), "JPEG", Image.Resampling.LANCZOS, quality=88)


def mask_uri(mask: Mask, labels: LabelSet) -> str:
    """Encode (H, W) ids as a PNG data URI, at most `PICTURE_WIDTH` wide; 255 is black."""
    image = Image.fromarray(mask)
    image.putpalette(labels.palette.tobytes())
    return _data_uri(image, "PNG", Image.Resampling.NEAREST, optimize=True)


def _data_uri(image: Image.Image, kind: str, resampling: Image.Resampling, **options: Any) -> str:
    if image.width > PICTURE_WIDTH:
        height = max(1, round(image.height * PICTURE_WIDTH / image.width))
        image = image.resize((PICTURE_WIDTH, height), resampling)
    content = io.BytesIO()
    image.save(content, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content.getvalue()).decode()}"
