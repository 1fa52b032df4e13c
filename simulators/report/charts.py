"""Charts: arrays in, SVG text out. Colours are the page's (CSS variables), so that light and dark both fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from simulators.report.svg import (
    NAMES_HIGH,
    WIDE,
    FloatArray,
    Frame,
    Line,
    axes,
    legend,
    margin,
    number,
    path,
    rect,
    rule,
    shades,
    svg,
    text,
    ticks,
)

TimeAxis = tuple[Sequence[float], Callable[[float], str]]
"""Places on a time axis, and what is written at each."""


def line_chart(
    lines: Sequence[Line],
    *,
    label: str,
    x_label: str,
    y_label: str,
    y_from: float | None = None,
    y_to: float | None = None,
    x_ticks: Sequence[float] | None = None,
    x_text: Callable[[float], str] = number,
    size: tuple[float, float] = (WIDE, 300),
    spans: Sequence[tuple[str, float, float]] = (),
) -> str:
    """Return lines over one axis; ``label`` is what a reader who sees no picture is told.

    ``spans`` are named stretches of the horizontal axis, shaded behind the lines.
    """
    values = np.concatenate([line.y[~np.isnan(line.y)] for line in lines])
    if not len(values):
        return '<p class="none">Nothing to draw.</p>'
    low = float(values.min()) if y_from is None else y_from
    high = float(values.max()) if y_to is None else y_to
    every_x = np.concatenate([line.x for line in lines])
    y = low, high + 0.04 * (high - low or 1.0)
    named = 14.0 * min(len({name for name, _, _ in spans}), NAMES_HIGH)
    x = float(every_x.min()), float(every_x.max())
    frame = Frame(size[0], size[1] + named, x, y, margin(*y), right=20, top=14 + named)
    shade, names = shades(frame, spans)
    parts = [*shade, axes(frame, x_label, y_label, x_ticks, x_text)]
    parts += [path(frame, line) for line in lines] + names
    return svg((frame.width, frame.height), label, "".join(parts)) + legend(
        [(line.name, line.ink, line.dashed) for line in lines]
    )


def small_multiples(
    panels: Sequence[tuple[str, Sequence[Line]]],
    *,
    label: str,
    y: tuple[float, float],
    x: TimeAxis,
    columns: int = 5,
) -> str:
    """Return one small chart a panel, all with the same axes."""
    wide, high, rows = WIDE / columns, 124.0, -(-len(panels) // columns)
    parts = []
    for at, (name, lines) in enumerate(panels):
        x0, y0 = (at % columns) * wide, (at // columns) * high
        every_x = np.concatenate([line.x for line in lines])
        frame = Frame(wide, high, (float(every_x.min()), float(every_x.max())), y, 26, 10, 20, 18)
        inside = [text(frame.left, 13, name, "panel")]
        for value in ticks(*y, 2):
            place = frame.py(value)
            inside.append(rule(frame.left, place, frame.width - frame.right, place))
            inside.append(text(frame.left - 4, place + 4, number(value), "tick", "end"))
        inside += [
            text(place, high - 4, x[1](value), "tick", "middle")
            for value in x[0]
            if 20 < (place := frame.px(value)) < wide - 20
        ]
        inside += [path(frame, line) for line in lines]
        parts.append(f'<g transform="translate({x0:.0f} {y0:.0f})">{"".join(inside)}</g>')
    return svg((wide * columns, high * rows), label, "".join(parts)) + legend(
        [(line.name, line.ink, line.dashed) for line in panels[0][1]]
    )


def bars(rows: Sequence[tuple[str, float, float, str]], *, label: str, unit: str) -> str:
    """Return a bar (mean absolute error) and a mark (bias) a row: its name, bar, mark and what is written after."""
    known = [row for row in rows if not np.isnan(row[1])]
    if not known:
        return '<p class="none">Nothing was compared.</p>'
    step, height = 26.0, 26.0 * len(known) + 46
    high = max(max(abs(row[1]), abs(row[2])) for row in known)
    low = min(0.0, min(row[2] for row in known))
    frame = Frame(WIDE, height, (low * 1.08, high * 1.08), (0, 1), 190, 210, 6, 40)
    parts = []
    for value in ticks(*frame.x, 6):
        x = frame.px(value)
        parts.append(rule(x, 6, x, height - 40))
        parts.append(text(x, height - 24, number(value), "tick", "middle"))
    parts.append(text(frame.px(sum(frame.x) / 2), height - 6, unit, "axis", "middle"))
    for at, (name, bar, mark, after) in enumerate(known):
        y = 6 + at * step
        width = frame.px(bar) - frame.px(0)
        parts.append(text(frame.left - 8, y + 17, name, "name", "end"))
        parts.append(rect(frame.px(0), y + 4, max(width, 0.5), 17, "bar"))
        parts.append(rect(frame.px(mark) - 1.5, y + 1, 3, 23, "bias"))
        parts.append(text(frame.width - frame.right + 10, y + 17, after, "tick"))
    parts.append(rule(frame.px(0), 6, frame.px(0), height - 40, "zero"))
    return svg((WIDE, height), label, "".join(parts)) + legend(
        [("mean absolute error", "published", False), ("bias", "worse", False)]
    )


def heat(cells: npt.NDArray[np.int64], step: float, *, label: str, x_label: str, y_label: str) -> str:
    """Return a square of counts, darker where there are more (logarithmic), with the line of no error."""
    used = int(max(np.flatnonzero(cells.sum(axis=0) + cells.sum(axis=1)).max(initial=0) + 1, 2))
    counts = cells[:used, :used]
    top = np.log1p(counts.max()) or 1.0
    size = (520.0, 500.0)
    frame = Frame(*size, (0, used * step), (0, used * step))
    parts = [axes(frame, x_label, y_label, None, number)]
    for row, column in np.argwhere(counts > 0).tolist():
        share = float(np.log1p(counts[row, column]) / top)
        x, y = frame.px(row * step), frame.py((column + 1) * step)
        parts.append(
            f'<rect class="heat" x="{x:.1f}" y="{y:.1f}" width="{frame.px(step) - frame.px(0):.2f}" '
            f'height="{frame.py(0) - frame.py(step):.2f}" fill-opacity="{0.08 + 0.92 * share:.2f}"/>'
        )
    end = used * step
    parts.append(rule(frame.px(0), frame.py(0), frame.px(end), frame.py(end), "none-wrong"))
    return svg(size, label, "".join(parts))


def scatter(
    groups: Sequence[tuple[str, FloatArray, FloatArray, str]], *, label: str, x_label: str, y_label: str
) -> str:
    """Return points; groups are name, x, y and ink."""
    x, y = (np.concatenate([group[at] for group in groups]).astype(float) for at in (1, 2))
    if not len(x):
        return '<p class="none">Nothing to draw.</p>'
    size = (620.0, 420.0)
    up = 0.0, float(y.max()) * 1.06 or 1.0
    frame = Frame(*size, (0, float(x.max()) * 1.04 or 1.0), up, margin(*up))
    parts = [axes(frame, x_label, y_label, None, number)]
    for _, across, upward, ink in groups:
        dots = "".join(
            f'<circle cx="{frame.px(a):.1f}" cy="{frame.py(b):.1f}" r="2.6"/>'
            for a, b in zip(across, upward, strict=True)
        )
        parts.append(f'<g class="dots {ink}">{dots}</g>')
    return svg(size, label, "".join(parts)) + legend([(name, ink, False) for name, _, _, ink in groups])


def reliability_chart(said: FloatArray, came: FloatArray, n: FloatArray, *, label: str) -> str:
    """Return how often what was said came, with the line of perfect probabilities; dots as large as they are many."""
    size = (308.0, 300.0)
    frame = Frame(*size, (0, 1), (0, 1), 48, 12, 12, 40)
    diagonal = rule(frame.px(0), frame.py(0), frame.px(1), frame.py(1), "none-wrong")
    parts = [axes(frame, "probability said", "share that came", [0, 0.2, 0.4, 0.6, 0.8, 1], number), diagonal]
    known = ~np.isnan(said)
    parts.append(path(frame, Line("", said[known], came[known], "published")))
    for x, y, count in zip(said[known], came[known], n[known], strict=True):
        radius = 2.5 + 5.0 * np.log1p(count) / np.log1p(max(n.max(), 1))
        parts.append(
            f'<circle class="dot published" cx="{frame.px(x):.1f}" cy="{frame.py(y):.1f}" r="{radius:.1f}">'
            f"<title>{x:.2f} said, {y:.2f} came, {int(count):,} times</title></circle>"
        )
    return svg(size, label, "".join(parts))


def timeline(
    rows: Sequence[tuple[str, float, float, float, float | None, str]],
    x: tuple[float, float],
    axis: TimeAxis,
    *,
    label: str,
) -> str:
    """Return a bar a row from its beginning to its end and queue's end, with a mark where it was found.

    Rows are name, begin, end, queue gone, found (None: never) and the bar's class.
    """
    step, height = 20.0, 20.0 * max(len(rows), 1) + 34
    frame = Frame(WIDE, height, x, (0, 1), 230, 20, 6, 28)
    parts = []
    for value in axis[0]:
        place = frame.px(value)
        parts.append(rule(place, 6, place, height - 28))
        parts.append(text(place, height - 8, axis[1](value), "tick", "middle"))
    for at, (name, begin, end, gone, found, kind) in enumerate(rows):
        y = 6 + at * step
        parts.append(text(frame.left - 8, y + 14, name, "tick", "end"))
        if gone > end:
            parts.append(rect(frame.px(end), y + 7, frame.px(gone) - frame.px(end), 6, "tail"))
        wide = max(frame.px(end) - frame.px(begin), 1.5)
        parts.append(rect(frame.px(begin), y + 4, wide, 12, kind))
        if found is not None:
            parts.append(f'<path class="mark" d="M{frame.px(found):.1f} {y + 1:.1f}l5 9l-5 9l-5 -9z"/>')
    return svg((WIDE, height), label, "".join(parts))
