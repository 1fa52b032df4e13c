"""How far back the queue of an incident reaches: the queues of all segments in a minute in, metres up the road out.

What hangs together with the incident is its queue, though some of it might have stood there without it.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from simulators.edie import Minute
from simulators.roads import FloatArray, Roads

JAMMED = 0.5
"""At and below this share of free-flow speed a segment belongs to a queue (GB/T 33171-2016: level 3 and worse)."""
FULL = 0.8
"""A queue over this share of a segment reaches into the ones that lead there."""


@dataclass(frozen=True, slots=True)
class Reach:
    """One incident's queue at the end of a minute.

    Attributes
    ----------
    metres
        Longest way from its end at the incident back to its tail.
    vehicles
        Vehicles in it.
    segments
        Segments it stands on, nearest first.
    """

    metres: float
    vehicles: int
    segments: tuple[int, ...]


class Upstream:
    """The segments that lead into each segment of a network."""

    def __init__(self, roads: Roads) -> None:
        self._length = roads.length_m
        self._speed = roads.speed_ms
        order = np.argsort(roads.to_node, kind="stable")
        first = np.searchsorted(roads.to_node[order], roads.from_node, side="left")
        last = np.searchsorted(roads.to_node[order], roads.from_node, side="right")
        self._order, self._first, self._last = order, first, last

    def jammed(self, minute: Minute) -> FloatArray:
        """Return the length of the queue on each segment that is slow, 0 on the others, m."""
        with np.errstate(invalid="ignore", divide="ignore"):
            slow = minute.distance_m / minute.time_s <= JAMMED * self._speed
        return np.where(slow, minute.queue_m, 0.0)

    def reach(self, segment: int, queue_m: FloatArray, minute: Minute) -> Reach:
        """Return the queue that begins at a segment; ``queue_m`` is what `jammed` returned."""
        begins = [(0.0, segment)] if queue_m[segment] > 0 else [(0.0, int(s)) for s in self._into(segment)]
        waiting = [(behind, s) for behind, s in begins if queue_m[s] > 0]
        heapq.heapify(waiting)
        found: dict[int, float] = {}
        while waiting:
            behind, at = heapq.heappop(waiting)
            if at in found:
                continue
            found[at] = behind + float(queue_m[at])
            if queue_m[at] >= FULL * self._length[at]:
                beyond = behind + float(self._length[at])
                for before in self._into(at).tolist():
                    if queue_m[before] > 0 and before not in found:
                        heapq.heappush(waiting, (beyond, before))
        vehicles = int(minute.queue_veh[list(found)].sum()) if found else 0
        return Reach(max(found.values(), default=0.0), vehicles, tuple(found))

    def _into(self, segment: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return self._order[self._first[segment] : self._last[segment]]
