"""Fixed-time signals: a road network in, a plausible plan for every junction of main roads out.

Nobody knows a city's plans from its map, so they are derived, and the same map always gives the same: junctions are
nodes with others a few metres away taken together; approaches along the strongest road get one stage, those across it
the other; cycle and greens follow Webster from what the map says the junction lets through; offsets make green waves
along the strongest roads. What is not derived: turning lanes and stages for turns, actuation, plans that change with
the hour, signals for pedestrians alone. Elsewhere the higher road has priority and only the others wait.

References
----------
Webster (1958), Traffic signal settings, Road Research Technical Paper 39. Koonce et al. (2008), Traffic signal timing
manual, FHWA-HOP-08-024 (lost time, shortest greens, common cycles of coordinated junctions).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from citybrain.network import ROAD_CLASSES, Network, RoadClass
from simulators.roads import GREEN_SHARE, FloatArray, IntArray, Roads, Signals, at_junction, in_roundabout

Flags = npt.NDArray[np.bool_]

ONE_JUNCTION_M = 35.0
"""Nodes so near are one junction, with one plan: the four corners where two dual carriageways cross [judgement]."""
LOAD = 0.75
"""Critical flow against what the map lets through, for Webster's formula [judgement: a peak that still flows]."""
MOST_THROUGH = max(GREEN_SHARE[name] for name in ("primary", "secondary", "tertiary"))
"""No approach asks for more of the cycle than a main road's: ramps have no junction in the map's capacity."""
LOST_S = 4
"""Lost time a stage, s: 2 s of start and 2 s of clearance (HCM 2010, exhibit 18-6)."""
SHORTEST_GREEN_S = 10
CYCLES_S = (60, 90, 120)
COORDINATED_S = 45.0
"""Junctions nearer than this in free-flow time share a cycle, and the next has a green wave from the last
[FHWA-HOP-08-024, 6.2: within half a mile]."""
_FREE = 1e12
_RANK: dict[RoadClass, int] = {"trunk": 4, "primary": 4, "secondary": 3, "tertiary": 2, "link": 2}
_FAST_MS = 18.0
"""Where a road is quicker (65 km/h), or a motorway, there are no signals: its junctions have two levels."""
_TRACED = 12


@dataclass(frozen=True, slots=True)
class SignalRules:
    """Whether there are signals, and with which cycle.

    Attributes
    ----------
    enabled
        Whether junctions of main roads have fixed-time signals; otherwise time is shared there on average.
    cycle_s
        Cycle of them all, s, 30 to 180; 0 lets each group of neighbours have its own by Webster.
    waves
        Whether offsets make green waves; without them all greens begin together.
    """

    enabled: bool = False
    cycle_s: int = 0
    waves: bool = True

    def __post_init__(self) -> None:
        """Refuse a cycle that no junction has."""
        if self.cycle_s and not 30 <= self.cycle_s <= 180:
            raise ValueError(f"cycle_s: {self.cycle_s} s seen, 30 to 180, or 0, allowed")


def with_signals(roads: Roads, network: Network, rules: SignalRules) -> Roads:
    """Return the roads with plans at their junctions, and priority to the higher road at those without.

    The mean discharge of a link with signals becomes saturation times green over cycle.
    """
    if not rules.enabled:
        return roads
    shared = at_junction(roads.from_node, roads.to_node)
    circling = in_roundabout(roads.from_node, roads.to_node, roads.length_m)
    rank = np.array([_RANK.get(name, 1) for name in ROAD_CLASSES])[network.segments.road_class]
    junctions = _Junctions(roads, network, rank, shared & ~circling)
    signals = _plans(junctions, rules)
    discharge = np.where(shared & ~circling & junctions.first(), roads.capacity_vps, roads.discharge_vps)
    discharge = np.where(junctions.inside, roads.capacity_vps, discharge)
    share = signals.green_s / signals.cycle_s
    discharge = np.where(signals.lit, roads.capacity_vps * np.minimum(share, 1.0), discharge)
    return replace(roads, discharge_vps=discharge, signals=signals)


class _Junctions:
    """Nodes taken together as junctions, and the approaches of each with their stage.

    Attributes
    ----------
    of_node
        Junction of each node.
    inside
        Links within a junction.
    stage
        0 or 1 for approaches with signals, -1 elsewhere, shape (links,).
    """

    def __init__(self, roads: Roads, network: Network, rank: npt.NDArray[np.int64], shared: Flags) -> None:
        self.roads = roads
        self.rank = rank
        knot = np.zeros(roads.nodes, bool)
        knot[roads.to_node[shared]] = True
        near = (roads.length_m <= ONE_JUNCTION_M) & knot[roads.from_node] & knot[roads.to_node]
        shape = (roads.nodes, roads.nodes)
        graph = coo_matrix((np.ones(near.sum()), (roads.from_node[near], roads.to_node[near])), shape=shape)
        _, self.of_node = connected_components(graph, directed=False)
        end = self.of_node[roads.to_node]
        self.inside = (self.of_node[roads.from_node] == end) & knot[roads.to_node]
        self.approach = shared & ~self.inside
        self.arrives, self.departs = bearings(network)
        fast = (network.segments.road_class == ROAD_CLASSES.index("motorway")) | (roads.speed_ms > _FAST_MS)
        barred = np.zeros(roads.nodes, bool)
        barred[end[fast]] = barred[self.of_node[roads.from_node[fast]]] = True
        self.stage = self._stages(end, np.flatnonzero(self.approach & ~barred[end] & ~np.isnan(self.arrives)))

    def _stages(self, end: IntArray, links: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return stages: along the strongest approach of a junction, or across; -1 where there are no signals."""
        stage = np.full(len(self.roads), -1)
        order = links[np.lexsort((links, -self.roads.capacity_vps[links], -self.rank[links], end[links]))]
        _, first, count = np.unique(end[order], return_index=True, return_counts=True)
        self.axis = np.full(self.roads.nodes, np.nan)
        self.axis[end[order[first]]] = self.arrives[order[first]]
        across = (np.cos(2.0 * (self.arrives[order] - np.repeat(self.arrives[order[first]], count))) < 0.0).astype(int)
        group = np.repeat(np.arange(len(first)), count)
        best = np.zeros((2, len(first)), np.int64)
        for side in (0, 1):
            np.maximum.at(best[side], group[across == side], self.rank[order[across == side]])
        lit = (best.min(axis=0) >= 3) | ((best.max(axis=0) >= 4) & (best.min(axis=0) >= 2))
        kept = lit[group]
        stage[order[kept]] = across[kept]
        return stage

    def first(self) -> Flags:
        """Return which approaches without signals have priority: the higher road's, where a lower one joins it."""
        node = self.of_node[self.roads.to_node]
        highest, lowest = np.zeros(self.roads.nodes, np.int64), np.full(self.roads.nodes, 99)
        np.maximum.at(highest, node[self.approach], self.rank[self.approach])
        np.minimum.at(lowest, node[self.approach], self.rank[self.approach])
        return np.asarray((self.rank == highest[node]) & (highest > lowest)[node])


def bearings(network: Network) -> tuple[FloatArray, FloatArray]:
    """Return the direction, rad, in which each segment ends and in which it starts; NaN where there is no map."""
    segments, points = network.segments, network.lon_lat.astype(np.float64)
    if not len(points):
        unknown = np.full(len(segments), np.nan)
        return unknown, unknown
    first, last = segments.geometry_start[:-1], segments.geometry_start[1:] - 1
    scale = np.array([np.cos(np.deg2rad(np.nanmean(points[:, 1]))), 1.0])
    ends, starts = ((points[b] - points[a]) * scale for a, b in ((last - 1, last), (first, first + 1)))
    return np.arctan2(ends[:, 1], ends[:, 0]), np.arctan2(starts[:, 1], starts[:, 0])


def webster(ratios: FloatArray, lost_s: float) -> FloatArray:
    """Return Webster's best cycle, s, for the sums of the critical flow ratios; sums over 0.9 count as 0.9.

    Examples
    --------
    >>> webster(np.array([0.5, 0.75]), 10.0)
    array([40., 80.])
    """
    return (1.5 * lost_s + 5.0) / (1.0 - np.minimum(ratios, 0.9))


def _plans(junctions: _Junctions, rules: SignalRules) -> Signals:
    roads, stage = junctions.roads, junctions.stage
    lit = stage >= 0
    end = junctions.of_node[roads.to_node]
    places, controller = np.unique(end[lit], return_inverse=True)
    ratio = np.zeros((len(places), 2))
    through = np.minimum(roads.discharge_vps / roads.capacity_vps, MOST_THROUGH)
    np.maximum.at(ratio, (controller, stage[lit]), through[lit])
    ways = _neighbours(junctions, places)
    cycle = _cycles(ratio, ways, rules)
    green = _greens(ratio, cycle)
    offset = _offsets(ways, green, cycle) if rules.waves else np.zeros(len(places))
    starts = np.stack([offset, offset + green[:, 0] + LOST_S], axis=1) % cycle[:, None]
    number = np.full(len(roads), -1, np.int32)
    number[lit] = controller
    every, its_green, its_start = (np.full(len(roads), value) for value in (_FREE, _FREE, 0.0))
    every[lit] = cycle[controller]
    its_green[lit] = green[controller, stage[lit]]
    its_start[lit] = starts[controller, stage[lit]]
    return Signals(lit, every, its_green, its_start, number)


def _cycles(ratio: FloatArray, ways: list[_Way], rules: SignalRules) -> FloatArray:
    """Return the cycles of the junctions: neighbours share the longest that one of them needs."""
    count = len(ratio)
    if rules.cycle_s:
        return np.full(count, float(rules.cycle_s))
    own = webster(LOAD * ratio.sum(axis=1), 2 * LOST_S)
    cycle = np.array(CYCLES_S, float)[np.minimum(np.searchsorted(CYCLES_S, own), len(CYCLES_S) - 1)]
    near = [(way.start, way.end) for way in ways if way.seconds <= COORDINATED_S]
    start, end = np.array(near, dtype=np.int64).reshape(-1, 2).T
    _, group = connected_components(coo_matrix((np.ones(len(start)), (start, end)), shape=(count, count)), False)
    longest = np.zeros(count)
    np.maximum.at(longest, group, cycle)
    return np.asarray(longest[group])


def _greens(ratio: FloatArray, cycle: FloatArray) -> FloatArray:
    """Return the greens of both stages, whole seconds: what is not lost, shared as the critical flow ratios."""
    usable = cycle - 2 * LOST_S
    along = np.round(usable * ratio[:, 0] / np.maximum(ratio.sum(axis=1), 1e-9))
    along = np.clip(along, SHORTEST_GREEN_S, usable - SHORTEST_GREEN_S)
    return np.stack([along, usable - along], axis=1)


@dataclass(frozen=True, slots=True)
class _Way:
    """From one junction to the next: how long a platoon takes that starts with a stage there and meets one here."""

    start: int
    start_stage: int
    end: int
    end_stage: int
    seconds: float
    capacity_vps: float


def _neighbours(junctions: _Junctions, places: IntArray) -> list[_Way]:
    """Follow each approach upstream to the junction with signals that it comes from, if that is near."""
    roads, end = junctions.roads, junctions.of_node
    number = np.full(roads.nodes, -1)
    number[places] = np.arange(len(places))
    into = np.argsort(roads.to_node, kind="stable")
    first = np.searchsorted(roads.to_node[into], np.arange(roads.nodes + 1))
    found = []
    for link in np.flatnonzero(junctions.stage >= 0).tolist():
        at, seconds = link, float(roads.free_s[link])
        for _ in range(_TRACED):
            node = int(roads.from_node[at])
            place = int(end[node])
            if number[place] >= 0:
                turned = np.cos(2.0 * (junctions.departs[at] - junctions.axis[place])) < 0.0
                here = int(end[roads.to_node[link]])
                if place != here:
                    capacity = float(roads.capacity_vps[link])
                    leg = (int(number[here]), int(junctions.stage[link]), seconds, capacity)
                    found.append(_Way(int(number[place]), int(turned), *leg))
                break
            before = [
                b for b in into[first[node] : first[node + 1]].tolist() if roads.from_node[b] != roads.to_node[at]
            ]
            if not before or seconds > 2 * COORDINATED_S:
                break
            at = max(before, key=lambda b: (junctions.rank[b], roads.capacity_vps[b], -b))
            seconds += float(roads.free_s[at])
    return found


def _offsets(ways: list[_Way], green: FloatArray, cycle: FloatArray) -> FloatArray:
    """Return when the first stage of each junction begins: waves along the strongest ways, the largest first."""
    legs: list[list[tuple[float, int, int, float]]] = [[] for _ in range(len(cycle))]
    late = np.stack([np.zeros(len(green)), green[:, 0] + LOST_S], axis=1)
    for way in ways:
        if way.seconds > COORDINATED_S or cycle[way.start] != cycle[way.end]:
            continue
        shift = late[way.start, way.start_stage] + way.seconds - late[way.end, way.end_stage]
        for here, there, by in ((way.start, way.end, shift), (way.end, way.start, -shift)):
            legs[here].append((-way.capacity_vps, here, there, by))
    offset = np.full(len(cycle), np.nan)
    for root in range(len(cycle)):
        if not np.isnan(offset[root]):
            continue
        offset[root] = 0.0
        open_ = list(legs[root])
        heapq.heapify(open_)
        while open_:
            _, here, there, by = heapq.heappop(open_)
            if np.isnan(offset[there]):
                offset[there] = np.round(offset[here] + by) % cycle[there]
                for leg in legs[there]:
                    heapq.heappush(open_, leg)
    return offset
