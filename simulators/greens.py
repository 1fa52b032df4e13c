"""When there is green: plans of signals in, the next instant at which a row may let a vehicle go, out."""

from __future__ import annotations

import numpy as np

from simulators.linkstate import NEVER, LongArray
from simulators.roads import FloatArray, Roads


class Greens:
    """The plans by row of the engine: links, and after them the origins, which have none.

    Attributes
    ----------
    lit
        Whether there are signals at all.
    """

    def __init__(self, roads: Roads) -> None:
        signals, nodes = roads.signals, roads.nodes
        self.lit = signals is not None
        if signals is not None:
            # A row without signals has a green longer than any day.
            always = np.full(nodes, NEVER)
            self._cycle_s = np.concatenate([signals.cycle_s, always])
            self._green_s = np.concatenate([signals.green_s, always])
            self._offset_s = np.concatenate([signals.offset_s, np.zeros(nodes)])

    def within(self, instant: FloatArray, rows: LongArray) -> FloatArray:
        """Return each instant, or the begin of the row's next green where it falls in red."""
        if not self.lit:
            return instant
        cycle = self._cycle_s[rows]
        phase = (instant - self._offset_s[rows]) % cycle
        return np.asarray(np.where(phase < self._green_s[rows], instant, instant + (cycle - phase)))

    def after_headway(self, rows: LongArray, instant: FloatArray, base: FloatArray, gap: FloatArray) -> FloatArray:
        """Return when a headway from ``base`` is over, which runs in green only; a vehicle left at ``instant``."""
        cycle, green = self._cycle_s[rows], self._green_s[rows]
        phase = (instant - self._offset_s[rows]) % cycle
        phase = np.where(phase < green, phase, 0.0)
        then = np.maximum(phase - (instant - base), 0.0) + gap
        return np.asarray(instant - phase + np.where(then < green, then, then + (cycle - green)))
