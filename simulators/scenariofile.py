"""A scenario's file in, the scenario out; everything that is wrong with it at once, each with its line.

With a city at hand, what the scenario names is looked up in it, too: segments, roads, detectors. Ready scenarios lie
in ``simulators/scenarios`` and are called by their names.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from citybrain.errors import ConfigError
from citybrain.network import Network
from citybrain.tomllines import TomlPath, key_lines
from citybrain.tomlrecords import WRONG, RecordReader, Rule, Rules, Wrong, parse_duration, parse_toml
from simulators.calendar import DAY_STARTS
from simulators.demand import DemandRules
from simulators.faults import partners_of
from simulators.places import Place, PlaceUnknown, segments_at
from simulators.roads import FloatArray
from simulators.scenario import (
    Closure,
    Evacuation,
    Event,
    Incidents,
    PlannedFault,
    PlannedIncident,
    Scenario,
    Sensing,
    Spell,
    Works,
)
from simulators.sensorplan import SensorPlan
from simulators.vehicles import VehicleRules

READY = Path(__file__).parent / "scenarios"
MOST_DAYS = 366
_ZERO = timedelta(0)
_CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
_MIDNIGHT_MIN = DAY_STARTS.hour * 60


@dataclass(frozen=True, slots=True)
class City:
    """What places are looked up in: the network, and the flow of its segments in the morning once it is asked for."""

    network: Network
    busy: Callable[[], FloatArray]


@dataclass(frozen=True, slots=True)
class ScenarioFile:
    """A scenario that was read.

    Attributes
    ----------
    name
        Name of the file without its end.
    path
        The file.
    text
        What it says.
    scenario
        What that means.
    """

    name: str
    path: Path
    text: str
    scenario: Scenario


def ready_names() -> tuple[str, ...]:
    """Return the names of the ready scenarios."""
    return tuple(sorted(path.stem for path in READY.glob("*.toml")))


def read_scenario(name: str, city: City | None = None) -> ScenarioFile:
    """Read a scenario.

    Parameters
    ----------
    name
        Name of a ready scenario, or path of a file.
    city
        Where its places must be; None checks the file alone.

    Raises
    ------
    ConfigError
        If there is none, or one line for each error, with file, line, value seen and values allowed.
    """
    path, text = _text_of(name)
    return ScenarioFile(path.stem, path, text, parse_scenario(text, path, city))


def named_city(name: str) -> Path | None:
    """Return the city folder that a scenario names, None where it names none; what else it says is not judged."""
    path, text = _text_of(name)
    city = parse_toml(text, path).get("city")
    return path.parent / city if isinstance(city, str) and city else None


def _text_of(name: str) -> tuple[Path, str]:
    path = READY / f"{name}.toml" if name in ready_names() else Path(name)
    try:
        return path, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        allowed = f"the path of a TOML file or a ready scenario ({', '.join(ready_names())})"
        raise ConfigError(f"scenario {name!r} seen, {allowed} allowed") from error


def parse_scenario(text: str, path: Path, city: City | None = None) -> Scenario:
    """Return the scenario that a text says; see `read_scenario`."""
    data = parse_toml(text, path)
    days = data.get("days", 1)
    reader = _Reader(path, key_lines(text), city, days if type(days) is int and days > 0 else 1)
    reader.take_calendar(data)
    scenario = reader.record(Scenario, {"demand": {}, **data}, ())
    reader.refuse()
    assert isinstance(scenario, Scenario)
    return scenario


def minutes_of(clock: str) -> int:
    """Return the minutes from 04:00 to a time of day: the order in which times follow one another in a day.

    Examples
    --------
    >>> minutes_of("04:00"), minutes_of("23:30"), minutes_of("01:30")
    (0, 1170, 1290)
    """
    hour, minute = clock.split(":")
    return (int(hour) * 60 + int(minute) - _MIDNIGHT_MIN) % (24 * 60)


def end_minutes_of(clock: str) -> int:
    """Return the same of an end: 04:00 is the end of the day."""
    return minutes_of(clock) or 24 * 60


_TIME = Rule(lambda text: _CLOCK.fullmatch(text) is not None, "a time of day such as '07:04'")
_TEXT = Rule(lambda text: bool(text.strip()), "a text that is not empty")
_SHARE = Rule(lambda share: 0 <= share <= 1, "a share from 0 to 1")
_LEFT = Rule(lambda share: 0 < share <= 1, "a share above 0, to 1")
_LONGER = Rule(lambda length: length > _ZERO, "a duration above 0")
_COUNT = Rule(lambda number: 0 <= number < float("inf"), "a number of 0 or more")
_POSITIVE = Rule(lambda number: 0 < number < float("inf"), "a number above 0")
_FROM_ONE = Rule(lambda number: number >= 1, "a whole number of 1 or more")
_PARTS = (PlannedIncident, Works, Closure, Spell, Event, Evacuation, PlannedFault)
_TIMES = ("at", "begin", "end")

RULES: Rules = {
    (Scenario, "title"): _TEXT,
    (Scenario, "seed"): _COUNT,
    (Scenario, "days"): Rule(lambda days: 1 <= days <= MOST_DAYS, f"1 to {MOST_DAYS}"),
    (DemandRules, "trips"): _COUNT,
    (DemandRules, "factor"): _COUNT,
    (DemandRules, "growth_per_year"): Rule(lambda share: -1 < share <= 1, "a share above -1, to 1"),
    **{(DemandRules, name): _SHARE for name in ("through", "live_outside", "work_outside")},
    (DemandRules, "week"): Rule(lambda week: len(week) == 7, "seven types of day, from Monday"),
    (VehicleRules, "truck_share"): _SHARE,
    (Place, "km"): _COUNT,
    (Place, "fraction"): _SHARE,
    (Place, "rank"): _FROM_ONE,
    (Place, "length_km"): _COUNT,
    (Spell, "capacity"): _LEFT,
    (Spell, "free_flow"): _LEFT,
    (Spell, "incidents"): _POSITIVE,
    (Incidents, "per_day"): _COUNT,
    (PlannedIncident, "duration"): _LONGER,
    (PlannedIncident, "lanes"): _FROM_ONE,
    (Works, "lanes"): _FROM_ONE,
    (Event, "name"): _TEXT,
    (Event, "attendance"): _FROM_ONE,
    (Event, "car_share"): _SHARE,
    (Event, "persons_per_car"): Rule(lambda number: number >= 1, "a number of 1 or more"),
    (Event, "emptied_in"): _LONGER,
    (Evacuation, "name"): _TEXT,
    (Evacuation, "radius_km"): _POSITIVE,
    (Evacuation, "vehicles"): _FROM_ONE,
    (Evacuation, "left_in"): _LONGER,
    (Evacuation, "usual_trips"): _SHARE,
    (PlannedFault, "factor"): _POSITIVE,
    (Sensing, "faulty_share"): _SHARE,
    (SensorPlan, "per_lane"): _SHARE,
    (SensorPlan, "single"): _SHARE,
    **{(part, name): _TIME for part in _PARTS for name in _TIMES if name in part.__dataclass_fields__},
    **{(part, "day"): Rule(lambda day: day >= 0, "the number of a day, or 0 for every day") for part in _PARTS},
}


class _Reader(RecordReader):
    """Adds what must be true of several values together, and of the city."""

    def __init__(self, path: Path, lines: dict[TomlPath, int], city: City | None, days: int) -> None:
        super().__init__(path, lines, RULES)
        self.city = city
        self.days = days
        self._calendar: dict[str, Any] = {}

    def take_calendar(self, data: dict[str, Any]) -> None:
        """Take up what the demand must know of the calendar; what is wrong with it is told elsewhere."""
        holidays, first = data.get("holidays"), data.get("first", Scenario.__dataclass_fields__["first"].default)
        good = isinstance(holidays, list) and all(type(day) is date for day in holidays)
        self._calendar["holidays"] = tuple(holidays) if good and holidays else ()
        self._calendar["grows_from"] = first if type(first) is date else date(2026, 1, 1)

    def record(self, cls: type, data: object, path: TomlPath, given: dict[str, Any] | None = None) -> object:
        """Return a record, or `WRONG`; what must be true of several values is judged though one of them is wrong."""
        before = len(self.errors)
        given = self._calendar if cls is DemandRules else given
        value = RecordReader.record(self, cls, data, path, given)
        if isinstance(value, Place):
            self._place(value, path)
        elif cls is Sensing and isinstance(data, dict):
            self._interval(data, path)
        elif cls is Scenario and isinstance(data, dict):
            self._holidays(data, path)
        elif cls in _PARTS and isinstance(data, dict):
            self._part(cls, data, path)
        return value if len(self.errors) == before else WRONG

    def item(self, key: str, value: object, path: TomlPath) -> object:
        """Refuse a coverage that is no share."""
        if (
            path[:2] in (("sensors", "coverage"), ("sensors", "plan"))
            and not isinstance(value, Wrong)
            and not _SHARE.holds(value)
        ):
            return self.error(path, repr(value), _SHARE.allowed)
        return value

    def _place(self, place: Place, path: TomlPath) -> None:
        said = [name for name in ("segment", "road", "busiest") if getattr(place, name)]
        if len(said) != 1:
            self.error(path, " and ".join(said) or "nothing", "one of segment, road and busiest")
        elif self.city is not None:
            try:
                segments_at(place, self.city.network, self.city.busy)
            except PlaceUnknown as unknown:
                self.error((*path, unknown.key), unknown.seen, unknown.allowed)

    def _part(self, cls: type, data: dict[str, Any], path: TomlPath) -> None:
        """Refuse a day that the scenario does not have, and what does not end within its day."""
        day, begin, end = data.get("day"), _clock(data.get("begin")), _clock(data.get("end"))
        if type(day) is int and day > self.days:
            self.error((*path, "day"), str(day), f"0 to {self.days} (days of the scenario)")
        if begin and end and minutes_of(begin) >= end_minutes_of(end):
            self.error((*path, "end"), repr(end), f"a time after {begin} and at the latest 04:00, the day's end")
        if cls is PlannedIncident:
            self._length(_clock(data.get("at")), data.get("duration"), path)
        if cls is PlannedFault and self.city is not None and isinstance(data.get("detector"), str):
            self._detector(data["detector"], data, path)

    def _detector(self, name: str, data: dict[str, Any], path: TomlPath) -> None:
        assert self.city is not None
        known = self.city.network.detectors.id.tolist()
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            allowed = f"{close[0]!r} (nearest)" if close else "a detector of the network"
            self.error((*path, "detector"), repr(name), allowed)
        elif data.get("kind") == "swapped" and partners_of(self.city.network)[known.index(name)] < 0:
            self.error((*path, "kind"), "'swapped'", "a detector with another beside it, for this kind")

    def _length(self, at: str, duration: object, path: TomlPath) -> None:
        """Refuse an incident that is longer than what is left of its day."""
        length = parse_duration(duration) if isinstance(duration, str) else None
        left = timedelta(minutes=24 * 60 - (minutes_of(at) if at else 0))
        if length is not None and length > left:
            since = f"from {at} to the day's end at 04:00" if at else "a day"
            self.error((*path, "duration"), repr(duration), f"at most {left / timedelta(hours=1):g} h ({since})")

    def _interval(self, data: dict[str, Any], path: TomlPath) -> None:
        length = parse_duration(data["interval"]) if isinstance(data.get("interval"), str) else None
        seconds = length.total_seconds() if length else 30.0
        if seconds < 2 or seconds % 1 or 3600 % seconds:
            self.error((*path, "interval"), f"{seconds:g} s", "whole seconds from 2 that divide an hour")

    def _holidays(self, data: dict[str, Any], path: TomlPath) -> None:
        first, holidays = data.get("first"), data.get("holidays")
        if type(first) is not date or not isinstance(holidays, list):
            return
        last = first + timedelta(days=self.days - 1)
        for at, holiday in enumerate(holidays):
            if type(holiday) is date and not first <= holiday <= last:
                allowed = f"a day of the scenario, {first} to {last}"
                self.error((*path, "holidays", at), holiday.isoformat(), allowed)


def _clock(raw: object) -> str:
    """Return a time of day, empty where it is none."""
    return raw if isinstance(raw, str) and _CLOCK.fullmatch(raw) else ""
