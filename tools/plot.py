"""Simple plots as SVG: lines or points in a box, each named beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgnet_core.evaluation.report import round_ticks

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        title: what it shows, with the unit.
        log: whether it is logarithmic; its values are positive then.
        from_zero: whether it begins at 0 whatever there is to show.
        ticks: (value, text) to be used in place of round numbers.
    """

    title: str
    log: bool = False
    from_zero: bool = False
    ticks: Sequence[tuple[float, str]] = ()


@dataclass(frozen=True)
class Series:
    """What belongs together.

    Attributes:
        name: written beside the last point.
        points: (x, y), by x.
        color: CSS. line: whether they are joined; dashed: how.
        spread: half the length of each point's error bar.
    """

    name: str
    points: Sequence[Point]
    color: str
    line: bool = True
    dashed: bool = False
    spread: Sequence[float] = ()


@dataclass(frozen=True)
class Plot:
    """The content of a picture.

    Attributes:
        title, note: its headline and a smaller line under it.
        front: points, by x, that a grey line joins, for what is better than all others.
    """

    title: str
    note: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    front: Sequence[Point] = ()


_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 612, 96, 400
"""The box, in pixels."""

_LINE_HEIGHT = 17


def svg(plot: Plot) -> str:
    """The picture as the text of an SVG file.

    Raises:
        ModuleNotFoundError: jinja2 is not installed; the message says how to install it.
    """
    points = [point for series in plot.series for point in series.points]
    bars = [
        y + sign * spread
        for series in plot.series
        for (_, y), spread in zip(series.points, series.spread, strict=False)
        for sign in (1, -1)
    ]
    x, x_ticks = _scale(plot.x, [p[0] for p in points], _LEFT + 14, _RIGHT - 14)
    y, y_ticks = _scale(plot.y, [p[1] for p in points] + bars, _BOTTOM, _TOP)

    def line(joined: Sequence[Point]) -> str:
        return " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in joined)

    marks: list[dict[str, Any]] = []
    for series in plot.series:
        last_x, last_y = series.points[-1]
        mark = {
            "name": series.name,
            "color": series.color,
            "dashed": series.dashed,
            "x": round(x(last_x), 1),
            "y": round(y(last_y), 1),
            "line": line(series.points) if series.line else "",
            "points": [(round(x(a), 1), round(y(b), 1)) for a, b in series.points],
            "bars": [
                (round(x(a), 1), round(y(b - spread), 1), round(y(b + spread), 1))
                for (a, b), spread in zip(series.points, series.spread, strict=False)
            ],
        }
        marks.append(mark)
    places = spaced([mark["y"] for mark in marks], _LINE_HEIGHT, _TOP, _BOTTOM)
    for mark, place in zip(marks, places, strict=True):
        mark["label_y"] = round(place, 1)
    box = {"left": _LEFT, "right": _RIGHT, "top": _TOP, "bottom": _BOTTOM}
    text: str = _template().render(
        plot=plot,
        box=box,
        marks=marks,
        x_ticks=[(round(x(value), 1), text) for value, text in x_ticks],
        y_ticks=[(round(y(value), 1), text) for value, text in y_ticks],
        front=line(plot.front),
    )
    return text


def _template() -> Any:
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    return jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True
    ).get_template("plot.svg")


def _scale(
    axis: Axis, values: Sequence[float], start: float, end: float
) -> tuple[Callable[[float], float], Sequence[tuple[float, str]]]:
    """From values to pixels, and the ticks."""
    ticks = axis.ticks
    if not ticks:
        low = min(0.0, *values) if axis.from_zero else min(values)
        numbers = (log_ticks if axis.log else round_ticks)(low, max(values))
        ticks = [(number, f"{number:g}") for number in numbers]
    known = [*values, *(value for value, _ in ticks)]
    shape: Callable[[float], float] = math.log if axis.log else float
    first, last = shape(min(known)), shape(max(known))
    span = (last - first) or 1.0
    return lambda value: start + (end - start) * (shape(value) - first) / span, ticks


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten that enclose the range."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    numbers = [float(f"{m}e{decade}") for decade in decades for m in (1, 2, 5)]
    first = max(i for i, number in enumerate(numbers) if number <= low * (1 + 1e-9))
    last = min(i for i, number in enumerate(numbers) if number >= high * (1 - 1e-9))
    return numbers[first : max(last, first + 1) + 1]


def spaced(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places near those that are wanted, in their order, at least ``gap`` from each other.

    They stay between ``low`` and ``high`` as far as there is room.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    places = [wanted[i] for i in order]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    if places:
        places[-1] = max(min(places[-1], high), low + gap * (len(places) - 1))
    for i in range(len(places) - 2, -1, -1):
        places[i] = min(places[i], places[i + 1] - gap)
    result = [0.0] * len(places)
    for place, i in zip(places, order, strict=True):
        result[i] = place
    return result
