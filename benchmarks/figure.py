"""One measured figure, and how a benchmark module offers its figures.

A module of this folder has ``run() -> list[Figure]``, ``run_long() -> list[Figure]`` (many minutes: only asked for by
``--long``), or both. Each runs in a process of its own. `Skipped` says why a figure cannot be had on this machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from statistics import median
from typing import Any


class Skipped(Exception):
    """What is needed is not on this machine; the text says what, and how to get it."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its unit.

    Attributes
    ----------
    name, value, unit
        What was measured; a median where it was measured several times, NaN where it could not be.
    reach
        The goal in words; where ``at_most`` or ``at_least`` says it, it may be left empty.
    peer, peer_value
        What it was measured beside in the same run, and its value in the same unit.
    low, high
        Least and largest of the repetitions.
    cpu_s, wall_s
        Processor and wall time of the measured work in one repetition.
    note
        What one must know to read it.
    at_most, at_least
        The goal.
    """

    name: str
    value: float
    unit: str
    reach: str = ""
    peer: str = ""
    _: KW_ONLY
    peer_value: float | None = None
    low: float | None = None
    high: float | None = None
    cpu_s: float | None = None
    wall_s: float | None = None
    note: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def goal(self) -> str:
        """The goal in words, empty without one."""
        if self.reach or (self.at_most is None and self.at_least is None):
            return self.reach
        return f"at most {self.at_most:g}" if self.at_most is not None else f"at least {self.at_least:g}"

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without a goal in numbers, or without a value."""
        if math.isnan(self.value) or (self.at_most is None and self.at_least is None):
            return None
        return bool(
            (self.at_most is None or self.value <= self.at_most)
            and (self.at_least is None or self.value >= self.at_least)
        )

    def row(self) -> dict[str, Any]:
        """Return it for JSON: name, value, unit and peer always, the rest where it says something.

        Examples
        --------
        >>> Figure("tick", 3.0, "ms", at_most=5).row()
        {'name': 'tick', 'value': 3.0, 'unit': 'ms', 'peer': '', 'reach': 'at most 5', 'met': True}
        """
        value = None if math.isnan(self.value) else float(self.value)
        row: dict[str, Any] = {"name": self.name, "value": value, "unit": self.unit, "peer": self.peer}
        more = {
            "peer_value": self.peer_value, "reach": self.goal or None, "met": self.met, "low": self.low,
            "high": self.high, "cpu_s": self.cpu_s, "wall_s": self.wall_s, "note": self.note or None,
        }  # fmt: skip
        said = {name: value for name, value in more.items() if value is not None}
        return row | {name: float(value) if isinstance(value, float) else value for name, value in said.items()}


def absent(name: str, unit: str, why: str) -> Figure:
    """Return a figure that could not be had, and why."""
    return Figure(name, math.nan, unit, note=why)


def repeated(name: str, values: Iterable[float], unit: str, **more: Any) -> Figure:
    """Return the median of the repetitions, with their span.

    Examples
    --------
    >>> repeated("tick", [3.0, 9.0, 4.0], "ms").value
    4.0
    """
    all_of_them = [float(value) for value in values]
    return Figure(name, median(all_of_them), unit, low=min(all_of_them), high=max(all_of_them), **more)
