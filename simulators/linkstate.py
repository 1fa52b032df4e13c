"""What stands where: roads and a day's trips in, rings of vehicles and places, and what can be asked of them, out.

`simulators.engine` moves the vehicles; nothing here does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simulators.roads import FloatArray, IntArray, Roads
from simulators.vehicles import KINDS

LongArray = npt.NDArray[np.int64]

NEVER = 1e12
"""Later than any day; finite, so that the signals' arithmetic needs no exception."""


@dataclass(frozen=True, slots=True)
class Trips:
    """A day's trips, sorted by origin, then departure; the row is the vehicle's number.

    Attributes
    ----------
    depart_s
        Departure, seconds after the engine's start.
    origin
        Node.
    zone
        Destination zone.
    kind
        Row of `simulators.vehicles.KINDS`; None where all are cars.
    """

    depart_s: FloatArray
    origin: IntArray
    zone: npt.NDArray[np.int16]
    kind: npt.NDArray[np.int8] | None = None

    def __len__(self) -> int:
        """Return the number of trips."""
        return len(self.depart_s)

    def since(self, second: float) -> Trips:
        """Return those that depart at or after a second."""
        later = self.depart_s >= second
        kind = None if self.kind is None else self.kind[later]
        return Trips(self.depart_s[later], self.origin[later], self.zone[later], kind)


class LinkState:
    """Links, and after them one origin queue a node, as rows of the same arrays.

    Vehicles of a row stand in a ring of slots; vehicle number N of a link is in slot ``N % size`` of its ring. The
    origin queues are the sorted trips themselves. A second ring of a link has its places, each a car's length: when
    the gap that a place left behind arrives at the link's start. While all are cars the two run in step.

    Attributes
    ----------
    now_s
        Seconds of the day; it begins with empty roads at ``start_s``.
    entered, left
        Cumulative counts at both ends, shape (links + nodes,); an origin queue has all its trips as entered.
    entry_s, exit_s
        Instants by slot (`slots`); behind the links' slots come the trips': departure, and entry to the road.
    delay_s
        Sum over the vehicles that left of the time they waited at the end of the row, shape (links + nodes,).
    storage, capacity_share
        Cars that fill each link now, and the share of its capacity that is left, shape (links,).
    free_s
        Free-flow travel time of each link in this weather, s, shape (links,).
    arrived
        Number of trips that ended.
    arrival_s
        Instant at which each trip ended, NaN before.
    """

    def __init__(self, roads: Roads, trips: Trips, *, start_s: float = 0.0) -> None:
        links, nodes = len(roads), roads.nodes
        self.roads = roads
        self.trips = trips
        self.links = links
        self.now_s = start_s
        self.arrived = 0
        self._kinds_of(trips)
        # A place more for long vehicles, or what does not fit their length would be lost to the flow.
        places = roads.storage_veh.astype(np.int64) + self._most_places - 1
        counts = np.bincount(trips.origin, minlength=nodes)
        self._lay_out(places, counts)
        self.entered = np.concatenate([np.zeros(links, np.int64), counts])
        self.left = np.zeros(links + nodes, np.int64)
        self._free_s = np.concatenate([roads.free_s, np.zeros(nodes)])
        self.free_s = self._free_s[:links]
        self.capacity_share = np.ones(links)
        self.storage = places.copy()
        self.delay_s = np.zeros(links + nodes)
        self._moment = np.zeros(links + nodes)
        self.arrival_s = np.full(len(trips), np.nan, np.float32)

    def _lay_out(self, places: LongArray, counts: LongArray) -> None:
        """Lay the rings of the links one after the other, and the trips behind them."""
        room, trips = int(places.sum()), len(self.trips)
        self._room = room
        self._size = np.concatenate([places, counts + 1])
        self._start = np.concatenate([offsets(places), room + offsets(counts)])
        self._end = self._start + self._size
        self._after = np.arange(1, room + trips + 2)
        self._after[self._start[: self.links] + places - 1] = self._start[: self.links]
        self._queue = np.concatenate([np.full(room, -1), np.arange(trips), [-1]]).astype(np.int32)
        self.entry_s = np.concatenate([np.full(room, -NEVER), self.trips.depart_s, [NEVER]])
        self.exit_s = np.full(room + trips + 1, -NEVER)
        self._head = self._start.copy()
        self._tail = self._start[: self.links].copy()
        self._gap_s = np.full(room + trips + 1, -NEVER)
        # Where all are cars, places and vehicles go round together, and these are the same arrays.
        self._first_place = self._head.copy() if self._mixed else self._head
        self._next_place = self._tail.copy() if self._mixed else self._tail

    def _kinds_of(self, trips: Trips) -> None:
        """Take up what the vehicles' classes ask for."""
        kind = np.zeros(0, np.int8) if trips.kind is None else trips.kind
        self._mixed = bool(kind.any())
        most = int(kind.max(initial=0)) if self._mixed else 0
        self._most_places = max(each.places for each in KINDS[: most + 1])
        if self._mixed:
            self._more_places = np.array([each.places - 1 for each in KINDS])[kind]
            self._cars = np.array([each.cars for each in KINDS])[kind]
            self._length_m = np.array([each.length_m for each in KINDS])[kind]
        rows = len(self.roads) + self.roads.nodes
        self._metres_in, self._metres_out = np.zeros(rows), np.zeros(rows)

    def _free_places(self, rows: LongArray, slot: LongArray, vehicle: LongArray, gap_s: FloatArray) -> None:
        if not self._mixed:
            self._gap_s[slot] = gap_s
            return
        self._metres_out[rows] += self._length_m[vehicle]
        longer = self._more_places[vehicle].nonzero()[0]
        longer = longer[rows[longer] < self.links]  # trips that have not begun stand in no place
        self._first_place[rows] = self._mark_places(self._first_place[rows], vehicle, longer, gap_s)

    def _take_places(self, target: LongArray, slot: LongArray, vehicle: LongArray) -> None:
        if not self._mixed:
            self._gap_s[slot] = NEVER
            return
        self._metres_in[target] += self._length_m[vehicle]
        longer = self._more_places[vehicle].nonzero()[0]
        self._next_place[target] = self._mark_places(self._next_place[target], vehicle, longer, NEVER)

    def _mark_places(
        self, place: LongArray, vehicle: LongArray, longer: LongArray, gap_s: FloatArray | float
    ) -> LongArray:
        """Say of the places of vehicles when the gap behind them arrives; return the place after each vehicle's last.

        ``longer`` are those that take more than one.
        """
        self._gap_s[place] = gap_s
        place = self._after[place]
        for number in range(1, self._most_places):
            if number > 1:
                longer = longer[self._more_places[vehicle[longer]] >= number]
            self._gap_s[place[longer]] = gap_s if isinstance(gap_s, float) else gap_s[longer]
            place[longer] = self._after[place[longer]]
        return place

    def slots(self, rows: IntArray | LongArray) -> tuple[LongArray, LongArray]:
        """Return where the rings of some rows start in `entry_s` and `exit_s`, and their sizes."""
        return self._start[rows], self._size[rows]

    @property
    def on_link(self) -> LongArray:
        """Vehicles on each link, shape (links,)."""
        return self.entered[: self.links] - self.left[: self.links]

    @property
    def on_road(self) -> int:
        """Vehicles on all links."""
        return int(self.on_link.sum())

    @property
    def departed(self) -> int:
        """Trips that have left their origin queue."""
        return int(self.left[self.links :].sum())

    @property
    def road_entry_s(self) -> FloatArray:
        """Instant at which each trip entered the road, before -1e12 where it has not, shape (trips,)."""
        return np.asarray(self.exit_s[self._room : self._room + len(self.trips)])

    def room_veh(self, link: IntArray | LongArray) -> FloatArray:
        """Return how many vehicles like those on each link would fill it: its storage where all are cars."""
        storage = self.storage[link].astype(np.float64)
        if not self._mixed:
            return storage
        inside = self.entered[link] - self.left[link]
        places = (self._next_place[link] - self._first_place[link]) % self._size[link]
        places = np.where((places == 0) & (inside > 0), self._size[link], places)
        return storage * np.where(inside > 0, inside / np.maximum(places, 1), 1.0)

    def metres(self) -> tuple[FloatArray, FloatArray]:
        """Return the summed lengths of the vehicles that entered and that left each link so far, m.

        The quotient of the differences of these and of the counts is the mean length of a vehicle: with it the
        occupancy of a detector follows from the density.
        """
        if self._mixed:
            return self._metres_in[: self.links].copy(), self._metres_out[: self.links].copy()
        car = KINDS[0].length_m
        entered, left = (count[: self.links].astype(np.float64) for count in (self.entered, self.left))
        return entered * car, left * car

    def waiting_at_origin(self) -> LongArray:
        """Return how many trips wait to enter the road at each node, shape (nodes,)."""
        due = np.bincount(self.trips.origin[self.trips.depart_s <= self.now_s], minlength=self.roads.nodes)
        return due - self.left[self.links :]

    def time_spent_s(self) -> FloatArray:
        """Return the vehicle-seconds spent on each link so far: the area between the two counts, shape (links,)."""
        return self.on_link * self.now_s - self._moment[: self.links]

    def head_delay_s(self) -> FloatArray:
        """Return by how much the head of each link is late at its end, 0 on an empty link, shape (links,)."""
        ready = self.entry_s[self._head[: self.links]] + self.free_s
        return np.where(self.on_link > 0, np.maximum(self.now_s - ready, 0.0), 0.0)

    def stalled(self, longer_than_s: float) -> IntArray:
        """Return the links, not closed, that nothing has left for so long though a vehicle is due: the locked ones."""
        start, left, size = (a[: self.links] for a in (self._start, self.left, self._size))
        silent = self.now_s - self.exit_s[start + (left - 1) % size] > longer_than_s
        locked = silent & (self.head_delay_s() > longer_than_s) & (self.capacity_share > 0)
        return np.flatnonzero(locked).astype(np.int32)


def offsets(sizes: npt.NDArray[Any]) -> LongArray:
    """Return where each of some parts begins when they are laid one after the other."""
    return np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64) if len(sizes) else np.zeros(0, np.int64)
