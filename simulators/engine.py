"""The traffic itself: links and a day's trips in, single vehicles moved second by second, cumulative counts out.

A link transmission model that keeps vehicles apart. It is Newell's theory in the vehicles' own numbers: with ``N``
the number of a vehicle on a link, storage ``S`` and wave time ``W``,

- sending: vehicle N is ready ``L / v`` after it entered, and leaves in order, at most the discharge per second;
- receiving: vehicle N may enter once vehicle ``N - S`` has left ``W`` ago, at most the capacity per second;
- node: heads that want the same link share it by the weights (capacities) of the links they come from (start-time
  fair queueing, so exactly); a head that cannot go blocks those behind it, so queues spill back.

Instants inside a step are kept as fractions, so that headways and travel times are not rounded to steps. A head moves
at most one link a step. Nothing is ever removed: a city that locks up stays locked up, and `Engine.stalled` says where.

References
----------
Newell (1993), Transportation Research B 27(4) (three parts). Yperman (2007), The link transmission model, KU Leuven.
Tampere et al. (2011), Transportation Research B 45(1) (node model: shares by capacity). Goyal, Vin and Cheng (1997),
IEEE/ACM Transactions on Networking 5(5) (start-time fair queueing).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simulators.roads import STEP_S, FloatArray, IntArray, Roads

LongArray = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

EXIT = -1
"""Next link of a vehicle that has arrived."""
_NEVER = np.inf
_INSTANT = 1e-6
_ORIGIN_SHARE = 0.25
"""Weight of those who start at a node against the links that lead there, as a share of what leads away [judgement]."""


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
    """

    depart_s: FloatArray
    origin: IntArray
    zone: npt.NDArray[np.int16]

    def __len__(self) -> int:
        """Return the number of trips."""
        return len(self.depart_s)

    def since(self, second: float) -> Trips:
        """Return those that depart at or after a second."""
        later = self.depart_s >= second
        return Trips(self.depart_s[later], self.origin[later], self.zone[later])


class Engine:
    """Links, and after them one origin queue a node, as rows of the same arrays.

    Vehicles of a row stand in a ring of ``size`` slots from ``start``; vehicle number N is in slot ``N % size``. The
    origin queues are the sorted trips themselves.

    Attributes
    ----------
    now_s
        Seconds of the day; it begins with empty roads at ``start_s``.
    entered, left
        Cumulative counts at both ends, shape (links + nodes,); an origin queue has all its trips as entered.
    delay_s
        Sum over the vehicles that left of the time they waited at the end of the row, shape (links + nodes,).
    arrived
        Number of trips that ended.
    """

    def __init__(self, roads: Roads, trips: Trips, *, start_s: float = 0.0) -> None:
        links, nodes = len(roads), roads.nodes
        self.roads = roads
        self.trips = trips
        self.links = links
        self.now_s = start_s
        self.arrived = 0
        counts = np.bincount(trips.origin, minlength=nodes)
        away = np.bincount(roads.from_node, weights=roads.capacity_vps, minlength=nodes)
        self._to_node = np.concatenate([roads.to_node, np.arange(nodes, dtype=np.int32)])
        self._size = np.concatenate([roads.storage_veh, counts + 1]).astype(np.int64)
        room = int(roads.storage_veh.sum())
        self._start = np.concatenate([_offsets(roads.storage_veh), room + _offsets(counts)]).astype(np.int64)
        self.entered = np.concatenate([np.zeros(links, np.int64), counts])
        self.left = np.zeros(links + nodes, np.int64)
        self._queue = np.concatenate([np.full(room, -1), np.arange(len(trips))]).astype(np.int32)
        self._ready = np.concatenate([np.full(room, _NEVER), trips.depart_s])
        self.entry_s = np.full(room, -_NEVER)
        self.exit_s = np.full(room + len(trips), -_NEVER)
        self._free_s = np.concatenate([roads.free_s, np.zeros(nodes)])
        self._weight = np.concatenate([roads.weight, np.maximum(away, 0.01) * _ORIGIN_SHARE])
        self._gap_out = 1.0 / np.concatenate([roads.discharge_vps, np.maximum(away, 0.01)])
        self._gap_in = 1.0 / roads.capacity_vps
        self.capacity_share = np.ones(links)
        self.storage = roads.storage_veh.astype(np.int64)
        # The earliest instants at which the next vehicle may leave and enter by capacity, and the last entry.
        self._out_from = np.full(links + nodes, -_NEVER)
        self._in_from = np.full(links, -_NEVER)
        self._last_in = np.full(links, -_NEVER)
        # Fair queueing: each turn (row and next link) has a tag, each link a clock that follows the tags it lets in.
        ways = np.bincount(roads.from_node, minlength=nodes)
        self._way = _number_among_equals(roads.from_node)
        self._first_turn = _offsets(ways[self._to_node])
        self._tag = np.zeros(int(ways[self._to_node].sum()))
        self._clock = np.zeros(links)
        self.delay_s = np.zeros(links + nodes)
        self._moment = np.zeros(links)
        self.arrival_s = np.full(len(trips), np.nan, np.float32)
        self.watched: Flags | None = None
        self.seen: list[tuple[IntArray, IntArray, FloatArray]] = []
        self._due = np.empty(links + nodes)
        self._renew(np.arange(links + nodes))
        self._rounds = int(np.ceil(max(roads.capacity_vps.max(initial=0.0), away.max(initial=0.0)) + 1))
        self._mark = np.zeros(links, np.int64)
        self._lowest = np.full(links, -_NEVER)

    def step(self, next_link: IntArray) -> None:
        """Move every vehicle that can move in the next second.

        Parameters
        ----------
        next_link
            Link to take, by zone and node, shape (zones, nodes); `EXIT` where the zone is reached.
        """
        self.now_s += STEP_S
        rows = np.flatnonzero(self._due <= self.now_s)
        for _ in range(self._rounds):
            if not len(rows):
                return
            rows = self._round(rows, next_link)

    def _round(self, rows: LongArray, next_link: IntArray) -> LongArray:
        """Let at most one vehicle out of each row and into each link; returns the rows to try once more."""
        slot = self._start[rows] + self.left[rows] % self._size[rows]
        vehicle = self._queue[slot]
        target = next_link[self.trips.zone[vehicle], self._to_node[rows]]
        arrived = np.flatnonzero(target == EXIT)
        self._arrive(rows[arrived], slot[arrived], vehicle[arrived])
        moving = np.flatnonzero(target != EXIT)
        since = np.maximum(self._in_from[target[moving]], self._room_from(target[moving]))
        able = np.flatnonzero(since <= self.now_s)
        moving, since = moving[able], since[able]
        turn = self._first_turn[rows[moving]] + self._way[target[moving]]
        rank = np.maximum(self._clock[target[moving]], self._tag[turn])
        won = self._share(target[moving], rank)
        lost = rows[moving[~won]]
        moving, since, turn, rank = moving[won], since[won], turn[won], rank[won]
        rows_moved, into = rows[moving], target[moving]
        self._clock[into] = rank
        self._tag[turn] = rank + 1.0 / self._weight[rows_moved]
        instant = np.maximum(np.maximum(self._due[rows_moved], since), self._last_in[into])
        np.maximum(instant, self.now_s - STEP_S + _INSTANT, out=instant)
        self._leave(rows_moved, slot[moving], vehicle[moving], instant)
        self._enter(into, vehicle[moving], instant)
        again = np.concatenate([rows[arrived], rows_moved, lost])
        self._renew(again)
        once_more: LongArray = again[self._due[again] <= self.now_s]
        return once_more

    def _arrive(self, rows: LongArray, slot: LongArray, vehicle: IntArray) -> None:
        if len(rows):
            instant = np.maximum(self._due[rows], self.now_s - STEP_S + _INSTANT)
            self.arrival_s[vehicle] = instant
            self.arrived += len(rows)
            self._leave(rows, slot, vehicle, instant)

    def _room_from(self, target: IntArray) -> FloatArray:
        """Return since when each link has had room for one more: Newell's receiving condition."""
        needed = self.entered[target] - self.storage[target]
        size = self._size[target]
        since = self.exit_s[self._start[target] + needed % size] + self.roads.wave_s[target]
        since[needed < 0] = -_NEVER
        since[needed >= self.left[target]] = _NEVER
        return since

    def _share(self, target: IntArray, rank: FloatArray) -> Flags:
        """Return who enters: one a link, where several want it the one of lowest rank."""
        order = np.arange(len(target))
        self._mark[target] = order
        won: Flags = self._mark[target] == order
        if won.all():
            return won
        contested = target[~won]
        self._lowest[contested] = _NEVER
        np.minimum.at(self._lowest, target, rank)
        first = np.flatnonzero(rank == self._lowest[target])
        self._mark[target[first]] = first
        self._lowest[contested] = -_NEVER
        return np.asarray(self._mark[target] == order)

    def _leave(self, rows: LongArray, slot: LongArray, vehicle: IntArray, instant: FloatArray) -> None:
        self.exit_s[slot] = instant
        self.delay_s[rows] += instant - self._ready[slot]
        self.left[rows] += 1
        self._out_from[rows] = np.maximum(self._out_from[rows], self.now_s - STEP_S) + self._gap_out[rows]
        road = rows < self.links
        self._moment[rows[road]] -= instant[road]
        if self.watched is not None:
            hit = np.flatnonzero(road)[self.watched[rows[road]]]
            if len(hit):
                self.seen.append((rows[hit].astype(np.int32), vehicle[hit], instant[hit]))

    def _enter(self, target: IntArray, vehicle: IntArray, instant: FloatArray) -> None:
        slot = self._start[target] + self.entered[target] % self._size[target]
        self._queue[slot] = vehicle
        self.entry_s[slot] = instant
        self._ready[slot] = instant + self._free_s[target]
        self.entered[target] += 1
        self._in_from[target] = np.maximum(self._in_from[target], self.now_s - STEP_S) + self._gap_in[target]
        self._last_in[target] = instant
        self._moment[target] += instant
        self._renew(target)

    def _renew(self, rows: IntArray | LongArray) -> None:
        """Set when the head of each row may leave as far as its own row is concerned."""
        slot = self._start[rows] + self.left[rows] % self._size[rows]
        # A node without trips at the very end of the array has no slot of its own.
        ready = self._ready[np.minimum(slot, max(len(self._ready) - 1, 0))]
        due = np.maximum(ready, self._out_from[rows])
        due[self.left[rows] >= self.entered[rows]] = _NEVER
        self._due[rows] = due

    def restrict(self, link: int, capacity_share: float, lanes_share: float | None = None) -> None:
        """Lower capacity and storage of a link to shares of what it has; 1 restores it, 0 closes it.

        Parameters
        ----------
        link
            Index of the link.
        capacity_share
            Remaining share of the capacity, 0..1.
        lanes_share
            Remaining share of the lanes, hence of the jam density, 0..1; the capacity's share where not given.
        """
        if not 0.0 <= capacity_share <= 1.0:
            raise ValueError(f"capacity share of link {link}: {capacity_share} seen, 0 to 1 allowed")
        roads, closed = self.roads, self.capacity_share[link] == 0.0
        self.capacity_share[link] = capacity_share
        lanes = capacity_share if lanes_share is None else lanes_share
        self.storage[link] = max(round(float(roads.storage_veh[link]) * lanes), 1)
        if capacity_share == 0.0:
            self._out_from[link] = self._in_from[link] = _NEVER
        else:
            capacity = roads.capacity_vps[link] * capacity_share
            self._gap_in[link] = 1.0 / capacity
            self._gap_out[link] = 1.0 / min(roads.discharge_vps[link], capacity)
            if closed:
                self._out_from[link] = self._in_from[link] = self.now_s
        self._renew(np.array([link]))

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

    def waiting_at_origin(self) -> LongArray:
        """Return how many trips wait to enter the road at each node, shape (nodes,)."""
        due = np.bincount(self.trips.origin[self.trips.depart_s <= self.now_s], minlength=self.roads.nodes)
        return due - self.left[self.links :]

    def time_spent_s(self) -> FloatArray:
        """Return the vehicle-seconds spent on each link so far: the area between the two counts, shape (links,)."""
        return self.on_link * self.now_s - self._moment

    def head_delay_s(self) -> FloatArray:
        """Return by how much the head of each link is late at its end, 0 on an empty link, shape (links,)."""
        start, left, size = (a[: self.links] for a in (self._start, self.left, self._size))
        late = np.maximum(self.now_s - self._ready[start + left % size], 0.0)
        late[self.on_link == 0] = 0.0
        return late

    def stalled(self, longer_than_s: float) -> IntArray:
        """Return the links, not closed, that nothing has left for so long though a vehicle is due: the locked ones."""
        start, left, size = (a[: self.links] for a in (self._start, self.left, self._size))
        silent = self.now_s - self.exit_s[start + (left - 1) % size] > longer_than_s
        locked = silent & (self.head_delay_s() > longer_than_s) & (self.capacity_share > 0)
        return np.flatnonzero(locked).astype(np.int32)

    def dump(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything that changes, as arrays by name."""
        room = len(self.entry_s)
        state = {name: getattr(self, name)[:room] if name in _RINGS else getattr(self, name) for name in _STATE}
        return {**state, "now_s": np.array(self.now_s), "arrived": np.array(self.arrived)}

    def load(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take up what `dump` returned for the same links and trips."""
        for name in _STATE:
            getattr(self, name)[: len(state[name])] = state[name]
        self.now_s = float(state["now_s"])
        self.arrived = int(state["arrived"])


_RINGS = ("_queue", "_ready", "exit_s")
"""Arrays whose tail is the trips themselves, which do not change."""
_STATE = (
    "entered",
    "left",
    "_queue",
    "_ready",
    "entry_s",
    "exit_s",
    "_gap_out",
    "_gap_in",
    "capacity_share",
    "storage",
    "_out_from",
    "_in_from",
    "_last_in",
    "_tag",
    "_clock",
    "delay_s",
    "_moment",
    "arrival_s",
    "_due",
)


def _number_among_equals(values: IntArray) -> LongArray:
    """Return how many equal values stand before each."""
    order = np.argsort(values, kind="stable")
    _, first, count = np.unique(values[order], return_index=True, return_counts=True)
    number = np.empty(len(values), np.int64)
    number[order] = np.arange(len(values)) - np.repeat(first, count)
    return number


def _offsets(sizes: npt.NDArray[Any]) -> LongArray:
    return np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64) if len(sizes) else np.zeros(0, np.int64)
