"""The page: rows of ``results/latest.json`` in, the tables of ``docs/performance.md`` out, between its two markers.

What stands outside of the markers is written by hand; what is between them is what was measured, nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "performance.md"
LATEST = ROOT / "benchmarks" / "results" / "latest.json"
BEGIN, END = "<!-- measured: python -m benchmarks --page -->", "<!-- end of what was measured -->"
HEAD = "| what | measured | span | to reach | beside |\n|---|---|---|---|---|"

Row = dict[str, Any]


def number(value: float) -> str:
    """Return a figure with three digits that count, thousands set apart.

    Examples
    --------
    >>> number(0.41234), number(43.25), number(930920.48)
    ('0.412', '43.2', '930,920')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def measured(row: Row) -> str:
    """Return the value with its unit, or why there is none."""
    if row["value"] is None:
        return "not measured"
    return f"{number(row['value'])} {row['unit']}".strip()


def beside(row: Row) -> str:
    """Return what it was measured beside, and that one's value."""
    value = row.get("peer_value")
    said = row["peer"] if value is None else f"{row['peer']}: {number(value)} {row['unit']}".strip()
    return "; ".join(part for part in (said, row.get("note", "")) if part)


def goal(row: Row) -> str:
    """Return the goal, and whether it was missed."""
    said = str(row.get("reach", ""))
    return f"{said}, **missed**" if row.get("met") is False else said


def span(row: Row) -> str:
    """Return least and largest of the repetitions."""
    return f"{number(row['low'])} - {number(row['high'])}" if "low" in row else ""


def line(row: Row) -> str:
    """Return one row of a table."""
    cells = (row["name"], measured(row), span(row), goal(row), beside(row))
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def tables(rows: Sequence[Row]) -> str:
    """Return the tables: figures with a goal first, then the others, and where and when they were measured."""
    goals = [row for row in rows if row.get("reach")]
    others = [row for row in rows if not row.get("reach")]
    parts = [f"Measured {place}." for place in _places(rows)]
    for title, some in (("To reach", goals), ("Beside them", others)):
        if some:
            parts += [f"### {title}", "\n".join([HEAD, *map(line, some)])]
    return "\n\n".join(parts)


def _places(rows: Iterable[Row]) -> list[str]:
    """Return machine and day of each group of rows, how busy it was, and the benchmarks that belong to it."""
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in rows:
        key = row["machine"], row["when"][:10], row["commit"]
        found.setdefault(key, {})[row["benchmark"]] = row["load"]
    return [
        f"on {when} at {commit or 'an unknown commit'}, {machine}, load before each {min(of.values())} to "
        f"{max(of.values())} ({', '.join(f'`{name}`' for name in of)})"
        for (machine, when, commit), of in found.items()
    ]


def with_tables(text: str, rows: Sequence[Row]) -> str:
    """Return the page's text with the tables renewed.

    Raises
    ------
    ValueError
        If a marker is not there.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name}: a marker is not there, {BEGIN} and {END} needed")
    return f"{head}{BEGIN}\n\n{tables(rows)}\n\n{END}{tail}"


def latest(path: Path = LATEST) -> list[Row]:
    """Return the newest rows; none where nothing was measured yet."""
    rows: list[Row] = json.loads(path.read_text("utf-8")) if path.exists() else []
    return rows if isinstance(rows, list) else []


def keep(rows: Sequence[Row], path: Path = LATEST) -> None:
    """Write the rows."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n", "utf-8")


def renew(path: Path = PAGE) -> None:
    """Write the page anew from the newest rows."""
    path.write_text(with_tables(path.read_text("utf-8"), latest()), "utf-8")
