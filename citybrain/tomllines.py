"""Where a key stands in a TOML file: text in, line numbers by path out, for errors that name the line.

It does not parse values (``tomllib`` does) and looks into inline tables only for the keys of their first line.
"""

from __future__ import annotations

import re

TomlPath = tuple[str | int, ...]

_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"^\s*(\[\[?)\s*({_DOTTED})\s*\]\]?\s*(?:#.*)?$")
_ENTRY = re.compile(rf"^\s*({_DOTTED})\s*=(.*)$")
_INNER = re.compile(rf"[{{,]\s*({_DOTTED})\s*=")


def key_lines(text: str) -> dict[TomlPath, int]:
    r"""Return the line (from 1) on which each key and table stands; items of an array of tables are numbered from 0.

    Examples
    --------
    >>> key_lines('name = "A"\n[[tables]]\nfiles = "*.csv"\n')
    {('name',): 1, ('tables', 0): 2, ('tables', 0, 'files'): 3}
    """
    lines: dict[TomlPath, int] = {}
    arrays: dict[TomlPath, int] = {}
    table: TomlPath = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _table(_parts(header[2]), arrays, repeats=header[1] == "[[")
            lines.setdefault(table, number)
        elif entry := _ENTRY.match(line):
            key = (*table, *_parts(entry[1]))
            lines.setdefault(key, number)
            for inner in _INNER.findall(entry[2]):
                lines.setdefault((*key, *_parts(inner)), number)
    return lines


def line_of(lines: dict[TomlPath, int], path: TomlPath) -> int:
    """Return the line of ``path``, or that of the nearest table around it, or 1."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _parts(dotted: str) -> TomlPath:
    return tuple(part.strip("\"'") for part in re.findall(_KEY, dotted))


def _table(names: TomlPath, arrays: dict[TomlPath, int], *, repeats: bool) -> TomlPath:
    path: TomlPath = ()
    for at, name in enumerate(names):
        path = (*path, name)
        if repeats and at == len(names) - 1:
            arrays[path] = arrays.get(path, -1) + 1
        if path in arrays:
            path = (*path, arrays[path])
    return path
