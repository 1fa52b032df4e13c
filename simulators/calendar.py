"""Days of the simulated city: an instant in, the day it belongs to and its civil hours out.

A day runs from 04:00 local time, when the roads are empty, to 04:00 of the next; daylight saving makes it 23 or 25
hours long. Each is filled for half an hour before it counts, so that any day can be run alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from citybrain.clock import epoch_ms, utc
from simulators.profiles import DAY_TYPES, DayType

ORDINARY_WEEK: tuple[DayType, ...] = ("weekday", "weekday", "weekday", "weekday", "friday", "saturday", "sunday")
DAY_STARTS = time(4)
FILL = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Day:
    """One day: its date, and instants in ms UTC.

    Attributes
    ----------
    date
        Civil date on which it begins.
    timezone
        IANA zone.
    fill_ms, start_ms, end_ms
        Where its traffic begins, where it counts from, where it ends.
    """

    date: date
    timezone: str
    fill_ms: int
    start_ms: int
    end_ms: int

    @property
    def minutes(self) -> int:
        """Minutes from the fill to the end."""
        return (self.end_ms - self.fill_ms) // 60_000

    @property
    def seconds(self) -> int:
        """Seconds from the fill to the end."""
        return (self.end_ms - self.fill_ms) // 1000


def day_of(instant_ms: int, timezone: str) -> Day:
    """Return the day that an instant belongs to.

    Examples
    --------
    >>> day_of(1_790_000_000_000, "Europe/Lisbon").date.isoformat()
    '2026-09-21'
    """
    local = utc(instant_ms).astimezone(ZoneInfo(timezone))
    day = local.date() if local.time() >= DAY_STARTS else local.date() - timedelta(days=1)
    return on(day, timezone)


def on(day: date, timezone: str) -> Day:
    """Return the day that begins on a civil date."""
    zone = ZoneInfo(timezone)
    start = epoch_ms(datetime.combine(day, DAY_STARTS, zone))
    end = epoch_ms(datetime.combine(day + timedelta(days=1), DAY_STARTS, zone))
    return Day(day, timezone, start - int(FILL.total_seconds() * 1000), start, end)


def day_types(
    day: Day, week: tuple[DayType, ...] = ORDINARY_WEEK, holidays: tuple[date, ...] = ()
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return, for each minute from the fill on, its type of day as an index into `DAY_TYPES`, and its civil hour.

    The hours after midnight are those of the next civil day: the night to a Saturday is a Saturday's.

    Parameters
    ----------
    day
        The day.
    week
        Type of day of Monday to Sunday.
    holidays
        Dates that are driven like a Sunday.
    """
    _, hours = local_hours(day)
    after_midnight = np.concatenate([[False], np.cumsum(np.diff(hours) < -12.0) > 0])
    dates = (day.date, day.date + timedelta(days=1))
    today, tomorrow = (DAY_TYPES.index("sunday" if at in holidays else week[at.weekday()]) for at in dates)
    return np.where(after_midnight, tomorrow, today), hours


def local_hours(day: Day) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return, for each minute from the fill on, its type of day (0 weekday, 1 Saturday, 2 Sunday) and civil hour."""
    zone = ZoneInfo(day.timezone)
    moments = [
        datetime.fromtimestamp(day.fill_ms / 1000 + 60 * minute, UTC).astimezone(zone) for minute in range(day.minutes)
    ]
    kind = np.array([max(moment.weekday() - 4, 0) for moment in moments], dtype=np.int64)
    return kind, np.array([moment.hour + moment.minute / 60 for moment in moments])
