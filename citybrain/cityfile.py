"""A city folder in, its settings and its network out; every error of ``city.toml`` at once.

It reads no environment and no feed, and does not judge a city (``ingest.citycheck``).
"""

from __future__ import annotations

import difflib
import itertools
import re
import tomllib
import types
from collections import Counter
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from zoneinfo import ZoneInfo

from citybrain.errors import ConfigError
from citybrain.network import Network
from citybrain.settings import (
    CitySettings,
    Limits,
    ScriptedIncident,
    SimulatedFeed,
    TableFeed,
    Thresholds,
    TimeSettings,
    Webhook,
)
from citybrain.tomllines import TomlPath, key_lines, line_of

CITY_FILE = "city.toml"
UNITS: dict[str, str] = {
    "count_veh": r"veh",
    "flow_vph": r"veh/(\d+(\.\d+)?\s*)?(s|min|h)",
    "speed_kmh": r"km/h|mph|m/s",
    "occupancy": r"share|percent",
    "travel_time_s": r"s|min",
}
"""Units (regular expression) in which a table may hold each metric."""

_UNITS_IN_WORDS = {
    "count_veh": "'veh'",
    "flow_vph": "'veh/h' or vehicles in any interval such as 'veh/5min'",
    "speed_kmh": "'km/h', 'mph' or 'm/s'",
    "occupancy": "'share' or 'percent'",
    "travel_time_s": "'s' or 'min'",
}
_NOT_IN_THE_FILE = frozenset({"folder", "data_folder"})
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_LONGEST_S = 1e9
_DURATION = 'a duration such as "30s", "1min", "2h"'


def load_city(folder: Path, *, data_folder: Path | None = None) -> CitySettings:
    """Read the settings of the city in ``folder``.

    Parameters
    ----------
    folder
        Folder that holds ``city.toml``.
    data_folder
        Where broker, stores, archive and logs live; ``.citybrain-data`` in the city folder where it is not given.
        A relative ``secret_file`` of a webhook lies there.

    Raises
    ------
    ConfigError
        One line for each error, with file, line, value seen and values allowed.
    """
    folder = folder.resolve()
    path = folder / CITY_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder}: no readable {CITY_FILE} seen, a city folder that holds one allowed") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: byte {error.object[error.start]:#x} at {error.start} seen, UTF-8 allowed"
        ) from error
    return parse_city(text, folder, data_folder=data_folder)


def parse_city(text: str, folder: Path, *, data_folder: Path | None = None) -> CitySettings:
    """Return the settings that ``text`` makes as the ``city.toml`` of ``folder``; see `load_city`."""
    folder = folder.resolve()
    path = folder / CITY_FILE
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax_error(path, text, error)) from error
    reader = _Reader(path, key_lines(text))
    settings = reader.city(data, folder, (data_folder or folder / ".citybrain-data").resolve())
    if reader.errors or settings is None:
        raise ConfigError("\n".join(error for _, error in sorted(reader.errors)))
    return settings


def load_network(city: CitySettings) -> Network:
    """Read the road network of a city."""
    return Network.load(city.network_path)


def parse_duration(text: str) -> timedelta | None:
    """Return the length that ``text`` says, None where it says none.

    Examples
    --------
    >>> parse_duration("90s"), parse_duration("1h 30min"), parse_duration("soon")
    (datetime.timedelta(seconds=90), datetime.timedelta(seconds=5400), None)
    """
    if not text.strip() or _DURATION_PART.sub("", text).strip():
        return None
    seconds = sum(float(n) * _UNIT_S[unit] for n, unit in _DURATION_PART.findall(text))
    return timedelta(seconds=seconds) if seconds <= _LONGEST_S else None


def _syntax_error(path: Path, text: str, error: tomllib.TOMLDecodeError) -> str:
    place = re.search(r"line (\d+)", str(error))
    number = int(place[1]) if place else max(1, len(text.splitlines()))
    lines = text.splitlines()
    seen = lines[number - 1].strip() if number <= len(lines) else "the end of the file"
    return f"{path}:{number}: {seen!r} seen, TOML allowed ({str(error).split(' (at')[0].lower()})"


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a value of the right type must also satisfy."""

    holds: Callable[[Any], bool]
    allowed: str


def _known_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # unknown, a folder of zones, or no path at all
        return False
    return bool(name)


def _divides_an_hour(pane: timedelta) -> bool:
    return pane >= timedelta(seconds=1) and timedelta(hours=1) % pane == timedelta(0)


def _falls(breaks: tuple[float, ...]) -> bool:
    return all(1 > a > b > 0 for a, b in itertools.pairwise(breaks))


_ZERO = timedelta(0)
_ZONE = _Rule(_known_zone, "an IANA time zone such as 'Europe/Lisbon'")
_TEXT = _Rule(lambda text: bool(text.strip()), "a text that is not empty")
_NAME = _Rule(lambda text: re.fullmatch(r"[\w.-]+", text) is not None, "letters, digits, '_', '-' and '.'")
_LONGER = _Rule(lambda length: length > _ZERO, "a duration above 0")
_NOT_NEGATIVE = _Rule(lambda length: length >= _ZERO, "a duration of 0 or more")
_POSITIVE = _Rule(lambda number: 0 < number < float("inf"), "a number above 0")
_COUNT = _Rule(lambda number: 0 <= number < float("inf"), "a number of 0 or more")
_SHARE = _Rule(lambda share: 0 <= share <= 1, "a share from 0 to 1")
_FILE = _Rule(lambda name: bool(name) and "/" not in name, "the name of a file in the city folder")

_RULES: dict[tuple[type, str], _Rule] = {
    (CitySettings, "name"): _TEXT,
    (CitySettings, "timezone"): _ZONE,
    (CitySettings, "network_file"): _FILE,
    (CitySettings, "typical_file"): _Rule(lambda name: "/" not in name, "the name of a file in the city folder"),
    (CitySettings, "database_url"): _Rule(lambda url: not url or "://" in url, "a SQLAlchemy URL, or empty"),
    (TimeSettings, "pane"): _Rule(_divides_an_hour, 'a duration that divides an hour, such as "30s", "1min", "5min"'),
    (TimeSettings, "reorder"): _NOT_NEGATIVE,
    (TimeSettings, "lateness"): _NOT_NEGATIVE,
    (TimeSettings, "source_idle"): _LONGER,
    (TimeSettings, "skew"): _NOT_NEGATIVE,
    (TimeSettings, "provisional"): _LONGER,
    (TimeSettings, "checkpoint"): _LONGER,
    (Limits, "flow_vph_per_lane"): _POSITIVE,
    (Limits, "speed_kmh"): _POSITIVE,
    (Limits, "interval"): _LONGER,
    (Thresholds, "level_breaks"): _Rule(_falls, "four falling ratios between 0 and 1"),
    (Thresholds, "speed_floor_kmh"): _POSITIVE,
    (Thresholds, "warn_probability"): _SHARE,
    (Thresholds, "open_after"): _NOT_NEGATIVE,
    (Thresholds, "close_after"): _NOT_NEGATIVE,
    (Thresholds, "update_every"): _NOT_NEGATIVE,
    (Thresholds, "alert_min_km"): _COUNT,
    (TableFeed, "name"): _NAME,
    (TableFeed, "files"): _TEXT,
    (TableFeed, "detector_column"): _TEXT,
    (TableFeed, "time_column"): _TEXT,
    (TableFeed, "metrics"): _Rule(bool, "at least one metric"),
    (TableFeed, "interval"): _LONGER,
    (TableFeed, "timezone"): _ZONE,
    (TableFeed, "time_format"): _Rule(lambda text: text == "iso" or "%" in text, "'iso' or a strptime pattern"),
    (SimulatedFeed, "name"): _NAME,
    (SimulatedFeed, "seed"): _COUNT,
    (SimulatedFeed, "trips"): _COUNT,
    (SimulatedFeed, "interval"): _LONGER,
    (SimulatedFeed, "incidents_per_day"): _COUNT,
    (SimulatedFeed, "faulty_share"): _SHARE,
    (SimulatedFeed, "speed"): _POSITIVE,
    (ScriptedIncident, "segment"): _TEXT,
    (ScriptedIncident, "at"): _Rule(
        lambda text: re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text) is not None, "a time of day such as '07:04'"
    ),
    (ScriptedIncident, "duration"): _LONGER,
    (ScriptedIncident, "lanes"): _Rule(lambda lanes: lanes >= 1, "a whole number of 1 or more"),
    (SimulatedFeed, "start"): _Rule(
        lambda text: re.fullmatch(r"|([01]\d|2[0-3]):[0-5]\d", text) is not None, "a time of day such as '07:00'"
    ),
    (Webhook, "name"): _NAME,
    (Webhook, "url"): _Rule(lambda url: re.match(r"https?://[^/\s]+", url) is not None, "an http or https address"),
    (Webhook, "secret_file"): _TEXT,
}


class _Wrong:
    """Marks a value that was reported as an error."""


_WRONG = _Wrong()


@dataclass(slots=True)
class _Reader:
    """Turns parsed TOML into settings and gathers what is wrong."""

    path: Path
    lines: dict[TomlPath, int]
    errors: list[tuple[int, str]] = field(default_factory=list)

    def city(self, data: dict[str, Any], folder: Path, data_folder: Path) -> CitySettings | None:
        """Return the settings, or None where something was wrong."""
        city = self._record(CitySettings, data, (), given={"folder": folder, "data_folder": data_folder})
        self._no_name_twice(data, ("tables", "simulated"), "feed")
        self._no_name_twice(data, ("webhooks",), "webhook")
        if not isinstance(city, CitySettings):
            return None
        hooks = tuple(replace(hook, secret_file=str(data_folder / hook.secret_file)) for hook in city.webhooks)
        return replace(city, webhooks=hooks)

    def _error(self, path: TomlPath, seen: str, allowed: str) -> _Wrong:
        line = line_of(self.lines, path)
        self.errors.append((line, f"{self.path}:{line}: {_dotted(path)}: {seen} seen, {allowed} allowed"))
        return _WRONG

    def _no_name_twice(self, data: dict[str, Any], keys: tuple[str, ...], what: str) -> None:
        named = [
            (item.get("name"), (key, at, "name"))
            for key in keys
            for at, item in enumerate(data[key] if isinstance(data.get(key), list) else [])
            if isinstance(item, dict) and isinstance(item.get("name"), str)
        ]
        counts = Counter(name for name, _ in named)
        for name, path in named:
            if counts[name] > 1:
                self._error(path, f"{name!r} {counts[name]} times", f"one {what} of a name")

    def _record(self, cls: type, data: object, path: TomlPath, given: dict[str, Any] | None = None) -> object:
        if not isinstance(data, dict):
            return self._error(path, repr(data), "a table")
        given = dict(given or {})
        hints = get_type_hints(cls)
        known = [f for f in fields(cls) if f.name not in given]
        names = [f.name for f in known]
        before = len(self.errors)
        for key in data:
            if key not in names:
                self._error((*path, key), f"unknown setting {key!r}", _nearest(key, names))
        for f in known:
            if f.name in data:
                given[f.name] = self._checked(cls, f.name, hints[f.name], data[f.name], (*path, f.name))
            elif f.default is MISSING and f.default_factory is MISSING:
                self._error((*path, f.name), "nothing", _in_words(hints[f.name]))
        return cls(**given) if len(self.errors) == before else _WRONG

    def _checked(self, cls: type, name: str, hint: Any, raw: object, path: TomlPath) -> object:
        value = self._value(hint, raw, path)
        rule = _RULES.get((cls, name))
        if rule and not isinstance(value, _Wrong) and not rule.holds(value):
            return self._error(path, repr(raw), rule.allowed)
        return value

    def _value(self, hint: Any, raw: object, path: TomlPath) -> object:
        origin, args = get_origin(hint), get_args(hint)
        if origin is tuple:
            return self._items(args, raw, path)
        if origin is dict:
            return self._mapping(args, raw, path)
        if is_dataclass(hint) and isinstance(hint, type):
            return self._record(hint, raw, path)
        value = _scalar(hint, raw)
        return self._error(path, repr(raw), _in_words(hint)) if isinstance(value, _Wrong) else value

    def _items(self, args: tuple[Any, ...], raw: object, path: TomlPath) -> object:
        many = len(args) == 2 and args[1] is Ellipsis
        if not isinstance(raw, list) or not (many or len(raw) == len(args)):
            wanted = "a list" if many else f"a list of {len(args)} numbers"
            return self._error(path, repr(raw), f"{wanted} ([[{path[-1]}]])" if is_dataclass(args[0]) else wanted)
        values = [self._value(args[0], item, (*path, at)) for at, item in enumerate(raw)]
        return _WRONG if any(isinstance(value, _Wrong) for value in values) else tuple(values)

    def _mapping(self, args: tuple[Any, Any], raw: object, path: TomlPath) -> object:
        if not isinstance(raw, dict):
            return self._error(path, repr(raw), "a table")
        values: dict[str, object] = {}
        for key, item in raw.items():
            names = list(get_args(args[0]))
            if names and key not in names:
                self._error((*path, key), f"unknown metric {key!r}", _nearest(key, names))
                continue
            values[key] = self._value(args[1], item, (*path, key))
            unit = getattr(values[key], "unit", None)
            if unit is not None and not re.fullmatch(UNITS[key], unit):
                values[key] = self._error((*path, key, "unit"), repr(unit), _UNITS_IN_WORDS[key])
        wrong = len(values) < len(raw) or any(isinstance(value, _Wrong) for value in values.values())
        return _WRONG if wrong else values


def _scalar(hint: Any, raw: object) -> object:
    if get_origin(hint) is Literal:
        return raw if isinstance(raw, str) and raw in get_args(hint) else _WRONG
    if hint is timedelta:
        length = parse_duration(raw) if isinstance(raw, str) else None
        return _WRONG if length is None else length
    if hint is float and isinstance(raw, int) and not isinstance(raw, bool):
        return float(raw)
    return raw if type(raw) is hint else _WRONG


def _in_words(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(repr(name) for name in get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_in_words(part) for part in get_args(hint))
    words = {str: "a text", bool: "true or false", int: "a whole number", float: "a number", timedelta: _DURATION}
    return words.get(hint, "a table" if get_origin(hint) is dict else "a value")


def _nearest(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"{close[0]!r} (nearest)" if close else "one of " + ", ".join(repr(known) for known in names)


def _dotted(path: TomlPath) -> str:
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text or CITY_FILE
