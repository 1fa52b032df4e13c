"""A run's folder in, a picture of its days out: vehicles on the road and the network's travel time index, as SVG.

Drawn from the truth, so it shows what happened and not what anybody saw of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from html import escape
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from citybrain.clock import utc
from citybrain.errors import ConfigError
from citybrain.units import MS_PER_H

FloatArray = npt.NDArray[np.float64]

WIDTH, HEIGHT = 960, 440
_LEFT, _RIGHT, _TOP, _GAP, _PANEL = 64, 16, 64, 34, 150
_SVG = "http://www.w3.org/2000/svg"
_BIN_MS = 300_000
"""Five minutes for a day, and so many more for several."""
_LEAST_VEHICLES = 30.0
"""Below so many vehicles a single one decides the index: it is not drawn."""
_COLOURS = {
    "incident": "#c0392b",
    "works": "#b9770e",
    "closure": "#922b21",
    "weather": "#2e86c1",
    "event": "#7d3c98",
    "evacuation": "#196f3d",
}


def picture_of(run: Path) -> str:
    """Return the picture of a run.

    Raises
    ------
    ConfigError
        If the folder holds no run with its truth.
    """
    files = sorted((run / "truth").glob("city-*.parquet"))
    if not files or not (run / "run.json").exists():
        raise ConfigError(f"{run}: no run.json with truth/city-*.parquet seen, the folder of a run allowed")
    about = json.loads((run / "run.json").read_text(encoding="utf-8"))
    city = pa.concat_tables([pq.read_table(path) for path in files]).sort_by("minute_ms")
    columns = {name: city.column(name).to_numpy().astype(np.float64) for name in city.column_names}
    days = (about["until_ms"] - about["from_ms"]) / (24 * MS_PER_H)
    return _Picture(about, _binned(columns, _BIN_MS * max(1, round(days)))).text()


def _binned(columns: Mapping[str, FloatArray], bin_ms: int) -> dict[str, FloatArray]:
    """Return means of vehicles and the index of sums."""
    bins, of = np.unique(columns["minute_ms"] // bin_ms, return_inverse=True)
    sums = {name: np.bincount(of, weights=values) for name, values in columns.items()}
    count = np.bincount(of)
    on_road, free = sums["on_road_veh"] / count, sums["vht_free_flow_veh_h"]
    tti = np.where(on_road >= _LEAST_VEHICLES, sums["vht_veh_h"] / np.maximum(free, 1e-9), np.nan)
    return {"at_ms": (bins + 0.5) * bin_ms, "on_road": on_road, "tti": np.maximum(tti, 1.0)}


class _Picture:
    """The parts of the picture, put together by `text`."""

    def __init__(self, about: Mapping[str, Any], series: Mapping[str, FloatArray]) -> None:
        self.about = about
        self.series = series
        self.zone = ZoneInfo(about["timezone"])
        self.from_ms, self.until_ms = float(about["from_ms"]), float(about["until_ms"])

    def text(self) -> str:
        """Return the SVG."""
        lower = _TOP + _PANEL + _GAP
        vehicles, tti = self.series["on_road"], self.series["tti"]
        most = _ceiling(float(vehicles.max(initial=1.0)))
        top = max(2.0, _ceiling(float(np.nanmax(tti, initial=1.0)) * 10) / 10)
        parts = [
            f'<svg xmlns="{_SVG}" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" role="img">',
            f"<title>{escape(self._title())}</title>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
            _write(_LEFT, 20, self._title(), size=15, weight="bold"),
            *self._marks(),
            *self._frame(_TOP, "vehicles on the road", [(v, f"{v:,.0f}") for v in np.linspace(0, most, 5)], 0, most),
            self._area(_TOP, vehicles, 0, most),
            *self._frame(lower, "travel time index", [(v, f"{v:.2f}") for v in np.linspace(1, top, 5)], 1, top),
            self._line(lower, tti, 1, top),
            *self._hours(lower + _PANEL),
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    def _title(self) -> str:
        first = utc(int(self.from_ms)).astimezone(self.zone)
        return f"{self.about['title']}: {self.about['city']}, {first:%A %Y-%m-%d}, seed {self.about['seed']}"

    def _x(self, at_ms: float) -> float:
        share = (at_ms - self.from_ms) / (self.until_ms - self.from_ms)
        return float(_LEFT + min(max(share, 0.0), 1.0) * (WIDTH - _LEFT - _RIGHT))

    def _frame(self, top: int, name: str, ticks: Sequence[tuple[float, str]], low: float, high: float) -> list[str]:
        found = [_write(_LEFT, top - 6, name, fill="#555555")]
        for value, label in ticks:
            y = _y(top, value, low, high)
            line = f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e3e3e3"/>'
            found += [line, _write(_LEFT - 6, y + 4, label, anchor="end", fill="#555555")]
        return found

    def _points(self, top: int, values: FloatArray, low: float, high: float) -> list[list[str]]:
        """Return the points as texts, a list for each stretch that is known."""
        stretches: list[list[str]] = [[]]
        for at_ms, value in zip(self.series["at_ms"], values, strict=True):
            if np.isnan(value):
                stretches.append([])
            else:
                stretches[-1].append(f"{self._x(at_ms):.1f},{_y(top, float(value), low, high):.1f}")
        return [stretch for stretch in stretches if stretch]

    def _area(self, top: int, values: FloatArray, low: float, high: float) -> str:
        (points,) = self._points(top, values, low, high)
        base = top + _PANEL
        first, last = points[0].split(",")[0], points[-1].split(",")[0]
        outline = " ".join([f"{first},{base}", *points, f"{last},{base}"])
        return f'<polygon points="{outline}" fill="#1f6f8b" fill-opacity="0.35" stroke="#1f6f8b"/>'

    def _line(self, top: int, values: FloatArray, low: float, high: float) -> str:
        drawn = 'fill="none" stroke="#c25b12" stroke-width="1.6"'
        lines = [f'<polyline points="{" ".join(at)}" {drawn}/>' for at in self._points(top, values, low, high)]
        return "\n".join(lines)

    def _marks(self) -> list[str]:
        """Return a band for everything that happens, its name above, in two rows so that neighbours can be read."""
        found = []
        marks = [mark for day in self.about["days"] for mark in day["happenings"]]
        for number, mark in enumerate(marks):
            left, right = self._x(mark["onset_ms"]), self._x(mark["end_ms"])
            colour = _COLOURS[mark["kind"]]
            found.append(
                f'<rect x="{left:.1f}" y="{_TOP}" width="{max(right - left, 1.0):.1f}" '
                f'height="{2 * _PANEL + _GAP}" fill="{colour}" fill-opacity="0.10" '
                f'stroke="{colour}" stroke-opacity="0.4"/>'
            )
            label = mark["name"] or mark["kind"]
            anchor, x = ("end", right) if left > 0.85 * WIDTH else ("start", left)
            found.append(_write(x, 34 + 12 * (number % 2), label, fill=colour, size=11, anchor=anchor))
        return found

    def _hours(self, bottom: int) -> list[str]:
        """Return the local hours, or the days where there are several."""
        found = []
        days = (self.until_ms - self.from_ms) / (24 * MS_PER_H)
        every = 2 if days <= 1.1 else 24
        moment = utc(int(self.from_ms)).astimezone(self.zone)
        moment = moment.replace(hour=0 if every == 24 else moment.hour, minute=0)
        while (at_ms := moment.timestamp() * 1000) <= self.until_ms:
            if at_ms >= self.from_ms and moment.hour % every == 0:
                found += self._tick(at_ms, bottom, f"{moment:%a}" if every == 24 else f"{moment:%H:%M}")
            moment = _later(moment, self.zone)
        return found

    def _tick(self, at_ms: float, bottom: int, label: str) -> list[str]:
        x = self._x(at_ms)
        line = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}" stroke="#888888"/>'
        return [line, _write(x, bottom + 17, label, anchor="middle", fill="#555555")]


def _later(moment: datetime, zone: ZoneInfo) -> datetime:
    """Return the next hour, by the clock that counts and not the one on the wall."""
    return utc(int((moment.timestamp() + timedelta(hours=1).total_seconds()) * 1000)).astimezone(zone)


def _y(top: int, value: float, low: float, high: float) -> float:
    return top + _PANEL * (1.0 - (value - low) / (high - low))


def _ceiling(value: float) -> float:
    """Return the next number with few digits."""
    scale = 10.0 ** np.floor(np.log10(max(value, 1e-9)))
    return float(scale * next(step for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if step * scale >= value))


def _write(
    x: float, y: float, text: str, *, anchor: str = "start", fill: str = "#222222", size: int = 12,
    weight: str = "normal",
) -> str:  # fmt: skip
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" font-size="{size}" '
        f'font-weight="{weight}">{escape(text)}</text>'
    )
