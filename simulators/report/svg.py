"""Parts of pictures: places, texts, boxes, lines and axes in, SVG text out. Colours are classes of the page's style."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
WIDE = 1130.0
"""A picture over the whole page, its units wide."""
NAMES_HIGH = 6
"""Lines of names above a chart; more begin at the top again."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart: ``ink`` is a colour's name in the page's style; dashed is what is for comparison only."""

    name: str
    x: FloatArray
    y: FloatArray
    ink: str
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """The plot's area in a picture, and what its axes span."""

    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]
    left: float = 56.0
    right: float = 14.0
    top: float = 14.0
    bottom: float = 40.0

    def px(self, x: float) -> float:
        """Return the place of a value on the horizontal axis."""
        share = (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1.0)
        return self.left + share * (self.width - self.left - self.right)

    def py(self, y: float) -> float:
        """Return the place of a value on the vertical axis."""
        share = (y - self.y[0]) / ((self.y[1] - self.y[0]) or 1.0)
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round values that divide a range into about so many parts.

    Examples
    --------
    >>> ticks(0.0, 9.3), ticks(1.0, 1.9)
    ([0.0, 2.0, 4.0, 6.0, 8.0], [1.0, 1.2, 1.4, 1.6, 1.8])
    """
    rough = max(high - low, 1e-9) / about
    scale = 10.0 ** np.floor(np.log10(rough))
    step = next(scale * part for part in (1, 2, 5, 10) if scale * part >= rough * 0.999)
    first = np.ceil(low / step - 1e-9)
    return [round(float((first + at) * step), 10) for at in range(int((high - first * step) / step + 1e-9) + 1)]


def margin(low: float, high: float) -> float:
    """Return the room that the name and the ticks of an upright axis need beside it.

    Examples
    --------
    >>> margin(1.0, 1.9), margin(0.0, 400_000.0)
    (51.0, 79.0)
    """
    return 30.0 + 7.0 * max(len(number(value)) for value in ticks(low, high))


def number(value: float) -> str:
    """Return a tick's text.

    Examples
    --------
    >>> number(10000.0), number(1.5), number(0.0)
    ('10,000', '1.5', '0')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 or value == round(value) else f"{value:g}"


def clock(minutes: float) -> str:
    """Return an axis text of minutes after midnight, beyond 24 h from 0 again.

    Examples
    --------
    >>> clock(27 * 60)
    '03:00'
    """
    return f"{int(minutes) // 60 % 24:02d}:{int(minutes) % 60:02d}"


def svg(size: tuple[float, float], label: str, inside: str) -> str:
    """Return a picture that is as wide as its place, at most its own width."""
    return (
        f'<svg viewBox="0 0 {size[0]:.0f} {size[1]:.0f}" style="max-width:{size[0]:.0f}px" role="img" '
        f'aria-label="{escape(label)}">{inside}</svg>'
    )


def legend(entries: Sequence[tuple[str, str, bool]]) -> str:
    """Return the names of lines with their colours."""
    items = "".join(
        f'<span><i class="key {ink}{" dashed" if dashed else ""}"></i>{escape(name)}</span>'
        for name, ink, dashed in entries
    )
    return f'<div class="legend">{items}</div>'


def axes(
    frame: Frame, x_label: str, y_label: str, x_ticks: Sequence[float] | None, x_text: Callable[[float], str]
) -> str:
    """Return both axes with their ticks and names."""
    parts = []
    for value in ticks(*frame.y):
        y = frame.py(value)
        parts.append(rule(frame.left, y, frame.width - frame.right, y))
        parts.append(text(frame.left - 7, y + 4, number(value), "tick", "end"))
    for value in ticks(*frame.x, 6) if x_ticks is None else x_ticks:
        x, y = frame.px(value), frame.height - frame.bottom
        parts.append(rule(x, y, x, y + 4))
        parts.append(text(x, y + 17, x_text(value), "tick", "middle"))
    middle = (frame.left + frame.width - frame.right) / 2
    parts.append(text(middle, frame.height - 5, x_label, "axis", "middle"))
    up = (frame.top + frame.height - frame.bottom) / 2
    turned = f'transform="translate(13 {up:.0f}) rotate(-90)"'
    parts.append(f'<text class="axis" {turned} text-anchor="middle">{escape(y_label)}</text>')
    return "".join(parts)


def path(frame: Frame, line: Line) -> str:
    """Return a line that is broken where nothing is known, and kept inside the frame."""
    parts, pen = [], "M"
    for x, y in zip(line.x.tolist(), line.y.tolist(), strict=True):
        if np.isnan(y):
            pen = "M"
            continue
        inside = min(max(y, frame.y[0]), frame.y[1])
        parts.append(f"{pen}{frame.px(x):.1f} {frame.py(inside):.1f}")
        pen = "L"
    return f'<path class="line {line.ink}{" dashed" if line.dashed else ""}" d="{"".join(parts)}"/>'


def text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    """Return words at a place."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    """Return a box."""
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2"/>'


def rule(x1: float, y1: float, x2: float, y2: float, kind: str = "rule") -> str:
    """Return a straight line."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def shades(frame: Frame, spans: Sequence[tuple[str, float, float]]) -> tuple[list[str], list[str]]:
    """Return stretches of the horizontal axis, and their names above it, a line each; a name once only."""
    boxes: list[str] = []
    names: dict[str, str] = {}
    for name, begin, end in spans:
        first, last = (min(max(value, frame.x[0]), frame.x[1]) for value in (begin, end))
        if first >= last:
            continue
        left, right = frame.px(first), frame.px(last)
        boxes.append(rect(left, frame.top, max(right - left, 1.0), frame.height - frame.top - frame.bottom, "span"))
        if name not in names:
            y = 12.0 + 14 * (len(names) % NAMES_HIGH)
            roomy = frame.width - frame.right - left > 160
            names[name] = text(left + 4, y, name, "tick") if roomy else text(right - 4, y, name, "tick", "end")
    return boxes, list(names.values())
