"""Parsed TOML in, frozen records out; everything that is wrong with the file is gathered, each with its line.

What a record may say follows from its fields' types and from rules by field. Files of one kind have a reader of their
own, which adds what must be true of several values together (``cityfile``).
"""

from __future__ import annotations

import difflib
import re
import tomllib
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from citybrain.errors import ConfigError
from citybrain.tomllines import TomlPath, line_of

_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_LONGEST_S = 1e9
_DURATION = 'a duration such as "30s", "1min", "2h"'


@dataclass(frozen=True, slots=True)
class Rule:
    """What a value of the right type must also satisfy."""

    holds: Callable[[Any], bool]
    allowed: str


Rules = Mapping[tuple[type, str], Rule]
"""Rules by record and field."""


class Wrong:
    """Marks a value that was reported as an error."""


WRONG = Wrong()


def parse_toml(text: str, path: Path) -> dict[str, Any]:
    """Return the tables of a text.

    Raises
    ------
    ConfigError
        If it is no TOML: with the line.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax_error(path, text, error)) from error


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


@dataclass(slots=True)
class RecordReader:
    """Turns parsed TOML into records and gathers what is wrong."""

    path: Path
    lines: dict[TomlPath, int]
    rules: Rules
    errors: list[tuple[int, str]] = field(default_factory=list)

    def refuse(self) -> None:
        """Raise `ConfigError` with all errors, in the order of their lines, if there are any."""
        if self.errors:
            raise ConfigError("\n".join(error for _, error in sorted(self.errors)))

    def error(self, path: TomlPath, seen: str, allowed: str) -> Wrong:
        """Note an error at a key."""
        line = line_of(self.lines, path)
        where = dotted(path) or self.path.name
        self.errors.append((line, f"{self.path}:{line}: {where}: {seen} seen, {allowed} allowed"))
        return WRONG

    def reported(self, path: TomlPath, text: str) -> Wrong:
        """Note what a record says against itself, one error a line."""
        line = line_of(self.lines, path)
        where = dotted(path) or self.path.name
        self.errors += [(line, f"{self.path}:{line}: {where}: {said}") for said in text.splitlines()]
        return WRONG

    def record(self, cls: type, data: object, path: TomlPath, given: dict[str, Any] | None = None) -> object:
        """Return a record, or `WRONG`; ``given`` are fields that do not stand in the file."""
        if not isinstance(data, dict):
            return self.error(path, repr(data), "a table")
        given = dict(given or {})
        hints = get_type_hints(cls)
        known = [f for f in fields(cls) if f.name not in given]
        names = [f.name for f in known]
        before = len(self.errors)
        for key in data:
            if key not in names:
                self.error((*path, key), f"unknown setting {key!r}", nearest(key, names))
        for f in known:
            if f.name in data:
                given[f.name] = self._checked(cls, f.name, hints[f.name], data[f.name], (*path, f.name))
            elif f.default is MISSING and f.default_factory is MISSING:
                self.error((*path, f.name), "nothing", _in_words(hints[f.name]))
        if len(self.errors) > before:
            return WRONG
        try:
            return cls(**given)
        except (ConfigError, ValueError) as error:  # what the record itself knows to be wrong
            return self.reported(path, str(error))

    def mapping(self, args: tuple[Any, Any], raw: object, path: TomlPath) -> object:
        """Return a table whose keys are names, or `WRONG`."""
        if not isinstance(raw, dict):
            return self.error(path, repr(raw), "a table")
        values: dict[str, object] = {}
        for key, item in raw.items():
            names = list(get_args(args[0]))
            if names and key not in names:
                self.error((*path, key), f"unknown name {key!r}", nearest(key, names))
                continue
            values[key] = self.item(key, self._value(args[1], item, (*path, key)), (*path, key))
        wrong = len(values) < len(raw) or any(isinstance(value, Wrong) for value in values.values())
        return WRONG if wrong else values

    def item(self, key: str, value: object, path: TomlPath) -> object:
        """Return the value of a key of a mapping, or `WRONG`."""
        return value

    def _checked(self, cls: type, name: str, hint: Any, raw: object, path: TomlPath) -> object:
        value = self._value(hint, raw, path)
        rule = self.rules.get((cls, name))
        if rule and not isinstance(value, Wrong) and not rule.holds(value):
            return self.error(path, repr(raw), rule.allowed)
        return value

    def _value(self, hint: Any, raw: object, path: TomlPath) -> object:
        origin, args = get_origin(hint), get_args(hint)
        if origin in (Union, types.UnionType):  # only `X | None`: TOML has no None, so that it must be an X
            return self._value(next(part for part in args if part is not type(None)), raw, path)
        if origin is tuple:
            return self._items(args, raw, path)
        if origin in (dict, Mapping):
            return self.mapping(args, raw, path)
        if is_dataclass(hint) and isinstance(hint, type):
            return self.record(hint, raw, path)
        value = _scalar(hint, raw)
        return self.error(path, repr(raw), _in_words(hint)) if isinstance(value, Wrong) else value

    def _items(self, args: tuple[Any, ...], raw: object, path: TomlPath) -> object:
        many = len(args) == 2 and args[1] is Ellipsis
        if not isinstance(raw, list) or not (many or len(raw) == len(args)):
            wanted = "a list" if many else f"a list of {len(args)} numbers"
            return self.error(path, repr(raw), f"{wanted} ([[{path[-1]}]])" if is_dataclass(args[0]) else wanted)
        values = [self._value(args[0], item, (*path, at)) for at, item in enumerate(raw)]
        return WRONG if any(isinstance(value, Wrong) for value in values) else tuple(values)


def nearest(name: str, names: list[str]) -> str:
    """Return what was perhaps meant, or all that can be meant, in words."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"{close[0]!r} (nearest)" if close else "one of " + ", ".join(repr(known) for known in names)


def dotted(path: TomlPath) -> str:
    """Return a path as one writes it; items of a list are numbered from 1.

    Examples
    --------
    >>> dotted(("events", 0, "place", "km"))
    'events[1].place.km'
    """
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _syntax_error(path: Path, text: str, error: tomllib.TOMLDecodeError) -> str:
    place = re.search(r"line (\d+)", str(error))
    number = int(place[1]) if place else max(1, len(text.splitlines()))
    lines = text.splitlines()
    seen = lines[number - 1].strip() if number <= len(lines) else "the end of the file"
    return f"{path}:{number}: {seen!r} seen, TOML allowed ({str(error).split(' (at')[0].lower()})"


def _scalar(hint: Any, raw: object) -> object:
    if get_origin(hint) is Literal:
        return raw if isinstance(raw, str) and raw in get_args(hint) else WRONG
    if hint is timedelta:
        length = parse_duration(raw) if isinstance(raw, str) else None
        return WRONG if length is None else length
    if hint is float and isinstance(raw, int) and not isinstance(raw, bool):
        return float(raw)
    return raw if type(raw) is hint else WRONG


def _in_words(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(repr(name) for name in get_args(hint) if name)
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_in_words(part) for part in get_args(hint) if part is not type(None))
    words = {
        str: "a text",
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        timedelta: _DURATION,
        date: "a date such as 2026-03-10",
    }
    return words.get(hint, "a table" if get_origin(hint) in (dict, Mapping) or is_dataclass(hint) else "a value")
