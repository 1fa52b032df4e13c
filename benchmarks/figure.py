"""One measured figure, and how a benchmark module offers its figures: a function ``run() -> list[Figure]``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its unit; ``reach`` is the goal as text, ``peer`` what it was measured beside in the same run."""

    name: str
    value: float
    unit: str
    reach: str = ""
    peer: str = ""
