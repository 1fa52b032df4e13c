"""Words and figures of the report: values in, the texts, tables and axes of the page out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from html import escape
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from citybrain.clock import utc
from citybrain.network import Network
from simulators.happenings import Mark
from simulators.judgement.areas import AreaSeries, index_error
from simulators.judgement.errors import Score
from simulators.judgement.judge import LONG_MS, Judgement
from simulators.judgement.table import INDEX_BOUNDS
from simulators.report.svg import clock

MIN_PER_DAY = 24 * 60


def table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, total: bool = False, words: Sequence[int] = ()
) -> str:
    """Return a table; with ``total`` its first row is set off, columns of ``words`` begin at the left."""

    def cells(kind: str, texts: Sequence[str]) -> str:
        return "".join(
            f"<{kind}{' class=words' if at in words else ''}>{escape(text)}</{kind}>" for at, text in enumerate(texts)
        )

    head = cells("th", heads)
    body = "".join(
        f"<tr{' class=total' if total and not at else ''}>{cells('td', row)}</tr>" for at, row in enumerate(rows)
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def place(network: Network, segment: int) -> str:
    """Return the name of a segment's road; where it has none, the district it lies in, as the live page has it."""
    segments, areas = network.segments, network.areas
    if road := str(segments.road[segment]):
        return road
    district = int(segments.district[segment])
    return f"road in {areas.name[district]}" if district >= 0 else str(segments.id[segment])


def minutes_of(judgement: Judgement, ms: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return minutes after the midnight before the run's first instant, local time."""
    first = local(judgement, judgement.span_ms[0])
    since = first.hour * 60 + first.minute
    return np.asarray((ms - judgement.span_ms[0]) / 60_000 + since, dtype=np.float64)


def span_minutes(judgement: Judgement) -> tuple[float, float]:
    """Return the run's first and last instant as such minutes."""
    first, last = minutes_of(judgement, np.array(judgement.span_ms))
    return float(first), float(last)


def time_axis(judgement: Judgement, most: int = 14) -> tuple[list[float], Callable[[float], str]]:
    """Return at most about so many round times for an axis of such minutes, and what to write at them.

    Of a run of several days these are the midnights, with the day that begins.
    """
    low, high = span_minutes(judgement)
    hours = (15, 30, 60, 120, 240, 720) if high - low <= 2 * MIN_PER_DAY else ()
    days = (MIN_PER_DAY * count for count in range(1, 1000))
    every = next(m for m in (*hours, *days) if (high - low) / m <= most)
    first = local(judgement, judgement.span_ms[0]).date()

    def text(minutes: float) -> str:
        day = first + timedelta(minutes=minutes)
        return f"{day:%a} {day.day}" if every >= MIN_PER_DAY else clock(minutes)

    return [at * every for at in range(int(np.ceil(low / every)), int(high // every) + 1)], text


def local(judgement: Judgement, ms: int) -> datetime:
    """Return an instant in the city's time."""
    return utc(ms).astimezone(ZoneInfo(judgement.timezone))


def figure(value: float, unit: str) -> str:
    """Return a value with its unit for a tile."""
    return "–" if np.isnan(value) else f"{value:.2f} {unit}" if value < 10 else f"{value:.1f} {unit}"


def signed(value: float, digits: int = 2) -> str:
    """Return a value with its sign, a dash where it is not known."""
    if np.isnan(value):
        return "–"
    rounded = round(value, digits) + 0.0
    return f"{rounded:+.{digits}f}".replace("-", "\N{MINUS SIGN}") if rounded else f"{0:.{digits}f}"


def percent(share: float) -> str:
    """Return a share in per cent, a dash where it is not known."""
    return "–" if np.isnan(share) else f"{100 * share:.1f} %"


def count(n: int) -> str:
    """Return a number with its thousands."""
    return f"{n:,}"


def shaded(judgement: Judgement, marks: Sequence[Mark]) -> list[tuple[str, float, float]]:
    """Return what happened as stretches of a chart's axis, but for incidents, which are many."""
    known = [mark for mark in marks if mark.kind != "incident"]
    begin, end = (
        minutes_of(judgement, np.array([getattr(mark, name) for mark in known], dtype=np.int64)).tolist()
        for name in ("onset_ms", "end_ms")
    )
    return list(zip(map(named, known), begin, end, strict=True))


def named(mark: Mark) -> str:
    """Return what happened in words."""
    return f"{mark.kind}: {mark.name}" if mark.name else mark.kind


def index_score(judgement: Judgement, truth: AreaSeries, metric: str, at: int) -> Score:
    """Return the error of an area's index in quarters of an hour."""
    assert judgement.area_published is not None, "indices were published"
    published, true = judgement.area_published.over(LONG_MS), truth.over(LONG_MS)
    both = np.intersect1d(published.start_ms, true.start_ms)
    told, came = (getattr(s, metric)[np.isin(s.start_ms, both), at] for s in (published, true))
    return index_error(came, told, INDEX_BOUNDS[metric])
