"""The traffic itself: links and a day's trips in, single vehicles moved second by second, cumulative counts out.

A link transmission model that keeps vehicles apart. It is Newell's theory in the vehicles' own numbers: with ``N``
the number of a vehicle on a link, storage ``S`` and wave time ``W``,

- sending: vehicle N is ready ``L / v`` after it entered, and leaves in order, at most the discharge per second;
- receiving: vehicle N may enter once vehicle ``N - S`` has left ``W`` ago, at most the capacity per second;
- node: heads that want the same link share it by the weights (capacities) of the links they come from (start-time
  fair queueing, so exactly); a head that cannot go blocks those behind it, so queues spill back;
- signals: a head leaves in its green only, at saturation; what is left of a headway when the green ends is waited for
  in the next one, so a queue passes exactly green times saturation;
- capacity drop: behind a head that stood in a queue the next one follows later, where the roads say so;
- vehicle classes: a truck takes the time and the room of several cars (`simulators.vehicles`).

Instants inside a step are kept as fractions, so that headways and travel times are not rounded to steps. A head moves
at most one link a step. A head that cannot go is looked at again no sooner than it could at the earliest, so the work
grows with the moves, not with the links or with those who stand. Nothing is ever removed: a city that locks up stays
locked up, and `Engine.stalled` says where.

References
----------
Newell (1993), Transportation Research B 27(4) (three parts). Yperman (2007), The link transmission model, KU Leuven.
Tampere et al. (2011), Transportation Research B 45(1) (node model: shares by capacity). Goyal, Vin and Cheng (1997),
IEEE/ACM Transactions on Networking 5(5) (start-time fair queueing).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from simulators.greens import Greens
from simulators.linkstate import NEVER, LinkState, LongArray, Trips, offsets
from simulators.roads import STEP_S, FloatArray, IntArray, Roads

__all__ = ["EXIT", "Engine", "Trips"]

Flags = npt.NDArray[np.bool_]

EXIT = -1
"""Next link of a vehicle that has arrived."""
QUEUED_S = 10.0
"""A head that has waited longer stood in a queue, which loses the capacity drop [judgement]."""
_INSTANT = 1e-6
_ORIGIN_SHARE = 0.25
"""Weight of those who start at a node against the links that lead there, as a share of what leads away [judgement]."""


class Engine(LinkState):
    """Moves the vehicles of `LinkState`.

    Attributes
    ----------
    air
        Shares of the capacity and of the free-flow speed that the weather leaves, shape (2,).
    watched, seen
        Links of which it is noted who leaves them, and what was noted (`simulators.cameras.taken`).
    """

    def __init__(self, roads: Roads, trips: Trips, *, start_s: float = 0.0) -> None:
        super().__init__(roads, trips, start_s=start_s)
        links, nodes = len(roads), roads.nodes
        away = np.maximum(np.bincount(roads.from_node, weights=roads.capacity_vps, minlength=nodes), 0.01)
        self._to_node = np.concatenate([roads.to_node, np.arange(nodes)]).astype(np.int64)
        self._place = trips.zone.astype(np.int32) * np.int32(nodes)
        self.air = np.ones(2)
        self._wave_s = np.concatenate([roads.wave_s, np.zeros(nodes)])
        self._weight = np.concatenate([roads.weight, away * _ORIGIN_SHARE])
        self._ahead = np.zeros(links, np.int64)
        self._restricted = False
        lit = np.zeros(links, bool) if roads.signals is None else roads.signals.lit
        self._discharge_vps = np.where(lit, roads.capacity_vps, roads.discharge_vps)
        self._gap_out = 1.0 / np.concatenate([self._discharge_vps, away])
        self._gap_in = 1.0 / roads.capacity_vps
        self._greens = Greens(roads)
        drop = roads.capacity_drop
        self._stretch = None if drop is None else 1.0 / (1.0 - np.concatenate([drop, np.zeros(nodes)]))
        # The earliest instants at which the next vehicle may leave and enter by capacity, and the last entry.
        self._out_from = np.full(links + nodes, -NEVER)
        self._in_from = np.full(links, -NEVER)
        self._last_in = np.full(links, -NEVER)
        # Fair queueing: each turn (row and next link) has a tag, each link a clock that follows the tags it lets in.
        ways = np.bincount(roads.from_node, minlength=nodes)
        self._way = _number_among_equals(roads.from_node)
        self._first_turn = offsets(ways[self._to_node])
        self._tag = np.zeros(int(ways[self._to_node].sum()))
        self._clock = np.zeros(links)
        self.watched: Flags | None = None
        self.seen: list[tuple[IntArray, IntArray, FloatArray]] = []
        self._routes: IntArray | None = None
        self._due = np.empty(links + nodes)
        self._renew(np.arange(links + nodes))
        self._rounds = int(np.ceil(max(roads.capacity_vps.max(initial=0.0), away.max(initial=0.0)) + 1))
        self._held, self._holding = np.zeros(links, bool), False
        self._mark, self._numbers = np.zeros(links, np.int64), np.arange(links + nodes)
        self._lowest = np.full(links, -NEVER)

    def step(self, next_link: IntArray) -> None:
        """Move every vehicle that can move in the next second.

        Parameters
        ----------
        next_link
            Link to take, by zone and node, shape (zones, nodes); `EXIT` where the zone is reached. Whoever changes
            values of the same array calls `rerouted`.
        """
        if next_link is not self._routes:
            first, self._routes = self._routes is None, next_link
            self._next_link = np.ascontiguousarray(next_link).reshape(-1)
            if not first:
                self.rerouted()
        self.now_s += STEP_S
        if self._holding:
            self._held[:], self._holding = False, False
        rows = (self._due <= self.now_s).nonzero()[0]
        for _ in range(self._rounds):
            if not len(rows):
                return
            rows = self._round(rows)
        self._due[rows] = self._greens.within(np.full(len(rows), self.now_s), rows)

    def rerouted(self) -> None:
        """Look at every head anew: its way may lead elsewhere."""
        if self._routes is not None:
            self._next_link = np.ascontiguousarray(self._routes).reshape(-1)
        self._renew(np.arange(len(self._due)))
        late = (self._due < self.now_s).nonzero()[0]
        self._due[late] = self._greens.within(np.full(len(late), self.now_s), late)

    def _round(self, rows: LongArray) -> LongArray:
        """Let at most one vehicle out of each row and into each link; returns the rows to try once more."""
        now = self.now_s
        slot = self._head[rows]
        # Indices of 64 bits: numpy converts others anew each time.
        vehicle = self._queue[slot].astype(np.int64)
        target = self._next_link[self._place[vehicle] + self._to_node[rows]].astype(np.int64)
        ends = target < 0
        if np.count_nonzero(ends):
            arrived = ends.nonzero()[0]
            self._arrive(rows[arrived], slot[arrived], vehicle[arrived])
            going = (~ends).nonzero()[0]
            moved, rows, slot, vehicle, target = rows[arrived], rows[going], slot[going], vehicle[going], target[going]
        else:
            moved = rows[:0]
        if self._holding and (barred := self._held[target]).any():
            self._wait(rows[barred])
            kept = (~barred).nonzero()[0]
            rows, slot, vehicle, target = rows[kept], slot[kept], vehicle[kept], target[kept]
        since = np.maximum(self._in_from[target], self._room_from(target, vehicle))
        able = since <= now
        if np.count_nonzero(able) < len(able):
            # A long vehicle takes its turn once there is a part of its room: those who need one place only would take
            # each that comes free, and it would wait, with all behind it, until they are gone.
            first = self._first_place_from(target) if self._mixed else since
            claims = first <= now
            self._put_off(rows, target, first, (~claims).nonzero()[0])
            kept = claims.nonzero()[0]
            rows, slot, vehicle, target, since = rows[kept], slot[kept], vehicle[kept], target[kept], since[kept]
            able = able[kept]
        turn = self._first_turn[rows] + self._way[target]
        rank = np.maximum(self._clock[target], self._tag[turn])
        won = self._share(target, rank)
        lost = rows[:0]
        if won is not None:
            lost = rows[~won]
            kept = won.nonzero()[0]
            rows, slot, vehicle, target, since = rows[kept], slot[kept], vehicle[kept], target[kept], since[kept]
            turn, rank, able = turn[kept], rank[kept], able[kept]
        if np.count_nonzero(able) < len(able):
            self._hold(rows[~able], target[~able])
            kept = able.nonzero()[0]
            rows, slot, vehicle, target, since = rows[kept], slot[kept], vehicle[kept], target[kept], since[kept]
            turn, rank = turn[kept], rank[kept]
        self._clock[target] = rank
        self._tag[turn] = rank + 1.0 / self._weight[rows]
        instant = np.maximum(np.maximum(self._due[rows], since), self._last_in[target])
        np.maximum(instant, now - STEP_S + _INSTANT, out=instant)
        queued = self._leave(rows, slot, vehicle, instant)
        fresh = self._enter(target, vehicle, instant, queued)
        moved = np.concatenate([moved, rows])
        self._renew(np.concatenate([moved, fresh]))
        again = moved[self._due[moved] <= now]
        return np.concatenate([again, lost]) if len(lost) else again

    def _put_off(self, rows: LongArray, target: LongArray, since: FloatArray, blocked: LongArray) -> None:
        """Look at blocked heads when there may be room: known, or a wave after the next that can leave their link."""
        since, rows = since[blocked], rows[blocked]
        earliest = np.where(
            since < NEVER, since, self.now_s - STEP_S + np.maximum(self._wave_s[target[blocked]], STEP_S)
        )
        self._due[rows] = self._greens.within(earliest, rows)

    def _first_place_from(self, target: LongArray) -> FloatArray:
        """Return since when each link has had room for a car, and time for one more vehicle."""
        return np.asarray(np.maximum(self._in_from[target], self._gap_s[self._ahead_of(target, 0)]))

    def _hold(self, rows: LongArray, target: LongArray) -> None:
        """Let nobody into the links in this step: it is the turn of a long vehicle that has not all of its room yet."""
        self._held[target], self._holding = True, True
        self._wait(rows)

    def _wait(self, rows: LongArray) -> None:
        self._due[rows] = self._greens.within(np.full(len(rows), self.now_s + _INSTANT), rows)

    def _arrive(self, rows: LongArray, slot: LongArray, vehicle: LongArray) -> None:
        instant = np.maximum(self._due[rows], self.now_s - STEP_S + _INSTANT)
        self.arrival_s[vehicle] = instant
        self.arrived += len(rows)
        self._leave(rows, slot, vehicle, instant)

    def _room_from(self, target: LongArray, vehicle: LongArray) -> FloatArray:
        """Return since when each link has had room for one more: Newell's receiving condition."""
        place = self._next_place[target]
        if self._mixed or self._restricted:
            place = self._ahead_of(target, self._more_places[vehicle] if self._mixed else 0)
        since: FloatArray = self._gap_s[place]
        return since

    def _ahead_of(self, target: LongArray, more: LongArray | int) -> LongArray:
        """Return the place of each link, so many after its next, that has to be free."""
        place: LongArray = np.add(self._next_place[target], more)
        if self._restricted:
            place += self._ahead[target]
        over = (place >= self._end[target]).nonzero()[0]
        if len(over):
            place[over] -= self._size[target[over]]
        return place

    def _share(self, target: LongArray, rank: FloatArray) -> Flags | None:
        """Return who enters: one a link, where several want it the one of lowest rank; None where all do."""
        order = self._numbers[: len(target)]
        self._mark[target] = order
        won: Flags = self._mark[target] == order
        if np.count_nonzero(won) == len(won):
            return None
        contested = target[~won]
        self._lowest[contested] = NEVER
        np.minimum.at(self._lowest, target, rank)
        first = (rank == self._lowest[target]).nonzero()[0]
        self._mark[target[first]] = first
        self._lowest[contested] = -NEVER
        return np.asarray(self._mark[target] == order)

    def _leave(self, rows: LongArray, slot: LongArray, vehicle: LongArray, instant: FloatArray) -> Flags | None:
        """Let a vehicle out of each row; returns which stood in a queue, None where it does not matter."""
        self.exit_s[slot] = instant
        waited = instant - self.entry_s[slot] - self._free_s[rows]
        self.delay_s[rows] += waited
        self.left[rows] += 1
        self._head[rows] = self._after[slot]
        self._free_places(rows, slot, vehicle, instant + self._wave_s[rows])
        gap = self._gap_out[rows]
        if self._mixed:
            gap = gap * self._cars[vehicle]
        queued = None
        if self._stretch is not None:
            queued = (waited > QUEUED_S) & (rows < self.links)
            slow = queued.nonzero()[0]
            gap[slow] *= self._stretch[rows[slow]]
        base = np.maximum(self._out_from[rows], self.now_s - STEP_S)
        self._out_from[rows] = self._greens.after_headway(rows, instant, base, gap) if self._greens.lit else base + gap
        self._moment[rows] -= instant
        if self.watched is not None:
            road = (rows < self.links).nonzero()[0]
            hit = road[self.watched[rows[road]]]
            if len(hit):
                self.seen.append((rows[hit].astype(np.int32), vehicle[hit].astype(np.int32), instant[hit]))
        return queued

    def _enter(self, target: LongArray, vehicle: LongArray, instant: FloatArray, queued: Flags | None) -> LongArray:
        """Let a vehicle into each link; returns the links that were empty."""
        slot = self._tail[target]
        self._queue[slot] = vehicle
        self.entry_s[slot] = instant
        self._take_places(target, slot, vehicle)
        self._tail[target] = self._after[slot]
        number = self.entered[target]
        fresh: LongArray = target[number == self.left[target]]
        self.entered[target] = number + 1
        gap = self._gap_in[target]
        if self._mixed:
            gap = gap * self._cars[vehicle]
        if self._stretch is not None and queued is not None:
            slow = queued.nonzero()[0]
            gap[slow] *= self._stretch[target[slow]]
        self._in_from[target] = np.maximum(self._in_from[target], self.now_s - STEP_S) + gap
        self._last_in[target] = instant
        self._moment[target] += instant
        return fresh

    def _renew(self, rows: LongArray) -> None:
        """Set when the head of each row may leave as far as its own row is concerned."""
        due = np.maximum(self.entry_s[self._head[rows]] + self._free_s[rows], self._out_from[rows])
        due = self._greens.within(due, rows)
        due[self.left[rows] >= self.entered[rows]] = NEVER
        self._due[rows] = due

    def restrict(self, link: int, capacity_share: float, lanes_share: float | None = None) -> None:
        """Lower capacity and storage of a link to shares of what it has; 1 restores it, 0 closes it.

        With lanes closed less than their share of the capacity is left: `simulators.incidents.remaining_capacity`
        has the shares of HCM 2010, exhibit 10-17.

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
        closed = self.capacity_share[link] == 0.0
        self.capacity_share[link] = capacity_share
        lanes = capacity_share if lanes_share is None else lanes_share
        whole = int(self._size[link])
        self.storage[link] = max(round(float(self.roads.storage_veh[link]) * lanes), 1) + self._most_places - 1
        self._ahead[link] = whole - self.storage[link]
        self._restricted = bool(self._ahead.any())
        if capacity_share == 0.0:
            self._out_from[link] = self._in_from[link] = NEVER
        else:
            capacity = self.roads.capacity_vps[link] * capacity_share
            self._gap_in[link] = 1.0 / (capacity * self.air[0])
            self._gap_out[link] = 1.0 / (min(self._discharge_vps[link], capacity) * self.air[0])
            if closed:
                self._out_from[link] = self._in_from[link] = self.now_s
        self.rerouted()

    def weather(self, capacity_share: float, speed_share: float) -> None:
        """Lower capacity and free-flow speed of all links to shares of what they have; 1 restores them.

        Parameters
        ----------
        capacity_share, speed_share
            Shares that are left, above 0 to 1; closed lanes and closed links stay so.
        """
        for name, share in (("capacity", capacity_share), ("speed", speed_share)):
            if not 0.0 < share <= 1.0:
                raise ValueError(f"weather, {name} share: {share} seen, above 0 to 1 allowed")
        self.air[:] = capacity_share, speed_share
        self.free_s[:] = self.roads.free_s / speed_share
        open_ = self.capacity_share > 0.0
        capacity = self.roads.capacity_vps[open_] * self.capacity_share[open_]
        self._gap_in[open_] = 1.0 / (capacity * capacity_share)
        out = np.minimum(self._discharge_vps[open_], capacity)
        self._gap_out[: self.links][open_] = 1.0 / (out * capacity_share)
        self.rerouted()

    def dump(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything that changes, as arrays by name."""
        state = {name: getattr(self, name) for name in _STATE}
        state |= {name: getattr(self, name)[: self._room] for name in _RINGS}
        return {**state, "now_s": np.array(self.now_s), "arrived": np.array(self.arrived)}

    def load(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take up what `dump` returned for the same roads and trips."""
        for name in (*_STATE, *_RINGS):
            getattr(self, name)[: len(state[name])] = state[name]
        self.now_s = float(state["now_s"])
        self.arrived = int(state["arrived"])
        self._restricted = bool(self._ahead.any())
        self._routes = None


_RINGS = ("_queue", "entry_s", "_gap_s")
"""Arrays whose tail is the trips themselves, which do not change."""
_STATE = (
    "entered",
    "left",
    "exit_s",
    "_head",
    "_tail",
    "_first_place",
    "_next_place",
    "_free_s",
    "air",
    "_gap_out",
    "_gap_in",
    "capacity_share",
    "storage",
    "_ahead",
    "_out_from",
    "_in_from",
    "_last_in",
    "_tag",
    "_clock",
    "delay_s",
    "_moment",
    "_metres_in",
    "_metres_out",
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
