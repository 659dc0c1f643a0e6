"""Computes the geometry of charts: positions of marks, in per cent of width and height, and ticks of axes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MAX_LABELS: Final = 5
"""Labels below a chart: more would run into each other on a telephone."""
INSET: Final = 3.0
"""Per cent of the width that the first and last marks stand from the edges."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    """Per cent from the left, or from the top."""
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A point or a bar."""

    x: float
    """Per cent from the left."""
    y: float
    """Per cent from the top."""
    label: str
    low: float | None = None
    high: float | None = None
    """Ends of the interval, per cent from the top."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """Marks that belong together."""

    name: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """One or more series over the same axes."""

    series: tuple[Series, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    bar_width: float = 0.0
    """Per cent of the width."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A value before it has a place."""

    place: int
    """0-based position along the x axis."""
    value: float
    label: str
    low: float | None = None
    high: float | None = None


def line_chart(lines: Sequence[tuple[str, Sequence[Point]]], x_labels: Sequence[str], decimals: int) -> Chart:
    """Return a chart of lines, whose y axis begins at zero."""
    points = [point for _, line in lines for point in line]
    top, ticks = axis(max((point.high or point.value for point in points), default=1.0), decimals)
    return Chart(
        series=tuple(
            Series(name=name, marks=tuple(_mark(point, len(x_labels), top, INSET) for point in line))
            for name, line in lines
        ),
        x_ticks=_x_ticks(x_labels, INSET),
        y_ticks=ticks,
    )


def bar_chart(name: str, values: Sequence[tuple[float, str]], x_labels: Sequence[str]) -> Chart:
    """Return a chart of a bar for each value with its label."""
    top, ticks = axis(max((value for value, _ in values), default=1.0), 0)
    slot = 100 / max(1, len(values))
    points = [Point(place=place, value=value, label=label) for place, (value, label) in enumerate(values)]
    return Chart(
        series=(Series(name=name, marks=tuple(_mark(point, len(values), top, slot / 2) for point in points)),),
        x_ticks=_x_ticks(x_labels, slot / 2),
        y_ticks=ticks,
        bar_width=0.72 * slot,
    )


def axis(highest: float, decimals: int) -> tuple[float, tuple[Tick, ...]]:
    """Return the top of an axis from zero that holds a value, and three to six round ticks on it."""
    highest = highest if highest > 0 else 1.0
    rough = highest / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= rough * (1 - 1e-9))
    if not decimals:
        step = max(1.0, step)
    count = max(1, math.ceil(highest / step - 1e-9))
    top = step * count
    return top, tuple(
        Tick(at=100 - 100 * number / count, label=_number(step * number, decimals)) for number in range(count + 1)
    )


def _mark(point: Point, count: int, top: float, inset: float) -> Mark:
    def height(value: float | None) -> float | None:
        return None if value is None else 100 - 100 * value / top

    return Mark(
        x=_x(point.place, count, inset),
        y=100 - 100 * point.value / top,
        label=point.label,
        low=height(point.low),
        high=height(point.high),
    )


def _x(place: int, count: int, inset: float) -> float:
    return 50.0 if count < 2 else inset + (100 - 2 * inset) * place / (count - 1)


def _x_ticks(labels: Sequence[str], inset: float) -> tuple[Tick, ...]:
    stride = math.ceil(len(labels) / MAX_LABELS)
    # Counted from the end: the last one is what people look for.
    chosen = range(len(labels) - 1, -1, -max(1, stride))
    return tuple(Tick(at=_x(place, len(labels), inset), label=labels[place]) for place in reversed(chosen))


def _number(value: float, decimals: int) -> str:
    if decimals:
        return f"{value:.{decimals}f}".removeprefix("0") if 0 < value < 1 else f"{value:g}"
    for size, unit in ((1_000_000, " M"), (1000, " k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
