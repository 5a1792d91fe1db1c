"""A dot for every run of every candidate on a logarithmic axis, as SVG: spread and ratio are seen at once.

Written here because it is a hundred lines: a plotting library would be the heaviest dependency of the benchmarks.
"""

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

LEFT, RIGHT, TOP, ROW, BOTTOM, WIDTH = 150, 70, 34, 24, 34, 720
INK, GRID, OURS, THEIRS = "#7a7a7a", "#9a9a9a55", "#d9480f", "#1971c2"
"""Greys and colours that can be read on white and on black."""


class Series(NamedTuple):
    """One line of dots: the runs' values, and the mark they get."""

    values: Sequence[float]
    hollow: bool = False


class Row(NamedTuple):
    """A candidate: its name, its series, whether it is ours."""

    label: str
    series: Sequence[Series]
    ours: bool


def ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten, from the last below or at `low` to the first above or at `high`."""
    steps = [m * 10.0**e for e in range(_decade(low) - 1, _decade(high) + 2) for m in (1, 2, 5)]
    first = max(step for step in steps if step <= low * 1.0000001)
    last = min(step for step in steps if step >= high * 0.9999999)
    return [step for step in steps if first <= step <= last]


def _decade(value: float) -> int:
    return math.floor(math.log10(value))


def dots(title: str, rows: Sequence[Row]) -> str:
    """The picture.

    Args:
        title: what the axis shows, with its unit.
        rows: from above.

    Raises:
        ValueError: there is no value, or one that is not above 0.
    """
    values = [value for row in rows for series in row.series for value in series.values]
    if not values or min(values) <= 0:
        raise ValueError(f"{title}: a logarithmic axis wants values above 0")
    marks = ticks(min(values), max(values))
    low, high = math.log10(marks[0]), math.log10(marks[-1])
    span = (WIDTH - LEFT - RIGHT) / ((high - low) or 1.0)

    def x(value: float) -> float:
        return LEFT + (math.log10(value) - low) * span

    height = TOP + ROW * len(rows) + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="12" fill="{INK}">',
        f'<text x="{LEFT}" y="18" font-weight="bold">{escape(title)}</text>',
    ]
    for mark in marks:
        parts.append(f'<path d="M{x(mark):.1f} {TOP}V{height - BOTTOM}" stroke="{GRID}"/>')
        parts.append(f'<text x="{x(mark):.1f}" y="{height - 14}" text-anchor="middle">{mark:,g}</text>')
    for number, row in enumerate(rows):
        parts += _row(row, TOP + ROW * number + ROW / 2, x)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _row(row: Row, y: float, x: Callable[[float], float]) -> list[str]:
    colour = OURS if row.ours else THEIRS
    weight = ' font-weight="bold"' if row.ours else ""
    parts = [f'<text x="{LEFT - 10}" y="{y + 4:.0f}" text-anchor="end"{weight}>{escape(row.label)}</text>']
    for series in row.series:
        fill = "none" if series.hollow else colour
        parts += [
            f'<circle cx="{x(value):.1f}" cy="{y:.0f}" r="4.5" fill="{fill}" fill-opacity="0.7" stroke="{colour}"/>'
            for value in series.values
        ]
    return parts
