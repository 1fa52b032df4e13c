"""A scenario's run: a city and its days in; day after day as files, each kept when it is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from citybrain.clock import utc
from simulators.calendar import Day, on
from simulators.city import SimulatedCity
from simulators.day import DayRun
from simulators.files import write_batches
from simulators.happenings import end_ms
from simulators.runfolder import RunFolder
from simulators.scenario import Scenario

Told = Callable[[Day, int], object]
"""Hears the day and how far it has come, ms UTC."""


@dataclass(frozen=True, slots=True)
class Span:
    """Days of a run; the last one may end early.

    Attributes
    ----------
    first
        Date of the first day.
    days
        How many there are.
    until
        Local time at which the last day ends, such as ``09:00``; empty is its end.
    """

    first: date
    days: int
    until: str = ""

    @classmethod
    def of(cls, scenario: Scenario, until: str = "") -> Span:
        """Return the days of a scenario."""
        return cls(scenario.first, scenario.days, until)

    def each(self, timezone: str) -> Iterator[tuple[Day, int]]:
        """Yield every day with the instant at which it is over, ms UTC."""
        for number in range(self.days):
            day = on(self.first + timedelta(days=number), timezone)
            last = number == self.days - 1
            yield day, end_ms(day, self.until) if self.until and last else day.end_ms


def run_days(city: SimulatedCity, span: Span, folder: RunFolder, told: Told | None = None) -> int:
    """Run the days that the folder does not have yet.

    Parameters
    ----------
    city
        The city with its scenario.
    span
        Its days.
    folder
        Opened; keeps each day as it becomes whole.
    told
        Hears how far it has come.

    Returns
    -------
    int
        Number of days run.
    """
    whole = {known["date"] for known in folder.days}
    ran = 0
    for day, until_ms in span.each(city.timezone):
        if day.date.isoformat() in whole:
            continue
        hidden = folder.begin(day.date.isoformat())
        try:
            city.write_truth_to(hidden / "truth")
            run = city.run_of(day)
            with closing(run):
                batches = run.batches(day.start_ms, until_ms)
                rows = write_batches(batches, until_ms, hidden, partial(told or _nobody, day))
            folder.keep(hidden, about_day(run, until_ms, rows))
        except BaseException:
            folder.drop(hidden)
            raise
        ran += 1
    return ran


def about_day(run: DayRun, until_ms: int, rows: dict[str, int]) -> dict[str, Any]:
    """Return what a run's description says of a day that is over."""
    engine = run.engine
    return {
        "date": run.day.date.isoformat(),
        "from_ms": run.day.start_ms,
        "until_ms": until_ms,
        "rows": rows,
        "trips": len(engine.trips),
        "arrived": engine.arrived,
        "still_on_the_road": engine.on_road,
        "happenings": [asdict(mark) for mark in run.marks],
        "locked": [asdict(found) for found in run.locked],
    }


GRIDLOCK_SHARE = 0.005
"""Share of the segments from which on what is locked is the city and not a corner of it [judgement]."""


def gridlock(days: list[dict[str, Any]], timezone: str, roads: dict[str, str]) -> list[str]:
    """Return in plain words where and when roads were locked: one sentence a day on which they were.

    Parameters
    ----------
    days
        Days of a run's description.
    timezone
        IANA zone of the city.
    roads
        Name of the road of each segment id.
    """
    said = []
    for day in days:
        if not day["locked"]:
            continue
        worst = max(day["locked"], key=lambda found: (found["count"], found["vehicles"]))
        first = utc(day["locked"][0]["at_ms"]).astimezone(ZoneInfo(timezone))
        at = utc(worst["at_ms"]).astimezone(ZoneInfo(timezone))
        names = list(dict.fromkeys(roads.get(name) or name for name in worst["segments"]))
        where = ", ".join(names[:3])
        still = day["still_on_the_road"]
        what = "gridlock" if worst["count"] >= GRIDLOCK_SHARE * len(roads) else "locked roads"
        said.append(
            f"{day['date']}: {what}: from {first:%H:%M} on some segments did not move for a quarter of an hour; "
            f"at {at:%H:%M} it was {worst['count']} of {len(roads)} with {worst['vehicles']} vehicles, most of them on "
            f"{where}; "
            f"{still} vehicles were still on the road at the end"
        )
    return said


def _nobody(day: Day, at_ms: int) -> None:
    """Hear how far a run has come, and keep it to oneself."""
