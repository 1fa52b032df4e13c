"""Traffic parameters of a network's segments: a road network in, one row of a fundamental diagram a segment out.

Each segment (a *link* of the model) has a triangular fundamental diagram ``q(k) = min(v k, w (kj - k))`` and, at its
end, a discharge that may be below its capacity where a junction shares time between roads. Signals are averaged into
that share here; nothing in the engine assumes so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from citybrain.network import ROAD_CLASSES, Network, RoadClass
from citybrain.units import M_PER_KM, S_PER_H

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]

STEP_S = 1.0
"""Step of the engine; a link is never shorter in time than a step."""
JAM_VEH_KM_PER_LANE = 143.0
"""Jam density a lane: 7 m a standing vehicle (Treiber and Kesting 2013, Traffic Flow Dynamics, table 11.2 and 12)."""

SATURATION_VPH_PER_LANE: dict[RoadClass, float] = {
    "motorway": 2100.0,
    "trunk": 1950.0,
    "primary": 1800.0,
    "secondary": 1750.0,
    "tertiary": 1650.0,
    "residential": 1500.0,
    "link": 1700.0,
    "other": 1500.0,
}
"""Flow a lane can carry between junctions (HCM 2010: saturation 1,900 pc/h, freeways 2,100 to 2,400)."""

GREEN_SHARE: dict[RoadClass, float] = {
    "motorway": 1.0,
    "trunk": 0.85,
    "primary": 0.56,
    "secondary": 0.48,
    "tertiary": 0.42,
    "residential": 0.36,
    "link": 0.85,
    "other": 0.36,
}
"""Share of the saturation flow that a junction lets through (effective green over cycle); judgement, see the docs."""
_FREE_OF_SIGNALS = 0.8
ROUNDABOUT_PRIORITY = 20.0
"""Claim of those who circle against those who want in: without it full roundabouts lock themselves."""
_RING_LINK_M, _RING_M = 120.0, 450.0
KMH_PER_MS = 3.6


@dataclass(frozen=True, slots=True)
class Signals:
    """Fixed-time plans, one row a link; a link without signals is always green.

    Times are whole seconds, so that a step of the engine is green or red as a whole.

    Attributes
    ----------
    lit
        Whether the link ends at a signal.
    cycle_s, green_s
        Cycle and effective green, s; above any time where there is no signal.
    offset_s
        Begin of a green, s of the engine's time, 0 <= offset < cycle.
    controller
        Number of the junction whose plan it is; -1 where there is none.
    """

    lit: npt.NDArray[np.bool_]
    cycle_s: FloatArray
    green_s: FloatArray
    offset_s: FloatArray
    controller: IntArray

    @property
    def wait_s(self) -> FloatArray:
        """Mean wait of a lone vehicle, s: Webster's uniform delay without traffic; 0 where there is no signal."""
        wait = (self.cycle_s - self.green_s) ** 2 / (2.0 * self.cycle_s)
        return np.where(self.lit, wait, 0.0)


@dataclass(frozen=True, slots=True)
class Roads:
    """Links of the traffic model, one row each, in the order of the network's segments.

    Attributes
    ----------
    from_node, to_node
        Node numbers.
    nodes
        Number of nodes.
    lanes
        Number of lanes.
    length_m, speed_ms
        Length; free-flow speed.
    free_s
        Free-flow travel time, at least one step.
    capacity_vps
        Capacity of the diagram, veh/s.
    discharge_vps
        Highest outflow at the downstream end, veh/s, at most the capacity; at signals its mean over the cycle.
    storage_veh
        Vehicles that fill the link: jam density times length, and enough for the capacity to pass in whole steps.
    weight
        Claim on a next link that others want too, in the unit of the capacity.
    wave_s
        Time a gap needs from the downstream to the upstream end: ``storage / capacity - free_s``, so ``L / w``.
    signals
        Plans of the signals at the links' ends; None where time is not shared in reds and greens, but on average.
    capacity_drop
        Share of the capacity that is lost out of a queue, 0..1, shape (links,); None where it is lost nowhere.
    """

    from_node: IntArray
    to_node: IntArray
    nodes: int
    lanes: IntArray
    length_m: FloatArray
    speed_ms: FloatArray
    free_s: FloatArray
    capacity_vps: FloatArray
    discharge_vps: FloatArray
    storage_veh: IntArray
    weight: FloatArray
    wave_s: FloatArray
    signals: Signals | None = None
    capacity_drop: FloatArray | None = None

    def __len__(self) -> int:
        """Return the number of links."""
        return len(self.from_node)

    @property
    def jam_veh_m(self) -> FloatArray:
        """Jam density of the whole carriageway, veh/m."""
        return self.storage_veh / self.length_m


def roads_of(network: Network) -> Roads:
    """Return the traffic parameters of a network's segments.

    A capacity that the network states is what its junctions let through; the road between them carries the class's
    saturation flow, if that is more. Where the network states none, junctions let through `GREEN_SHARE` of saturation.
    """
    segments = network.segments
    saturation = np.array([SATURATION_VPH_PER_LANE[name] for name in ROAD_CLASSES])[segments.road_class]
    green = np.array([GREEN_SHARE[name] for name in ROAD_CLASSES])[segments.road_class]
    between = saturation * segments.lanes
    through = np.where(np.isnan(segments.capacity_vph), between * green, segments.capacity_vph)
    signalled = green < _FREE_OF_SIGNALS
    capacity = np.where(signalled | np.isnan(segments.capacity_vph), np.maximum(between, through), through)
    circling = in_roundabout(segments.from_node, segments.to_node, segments.length_km * M_PER_KM)
    shared = at_junction(segments.from_node, segments.to_node) & ~circling
    return roads_from(
        segments.from_node,
        segments.to_node,
        length_m=segments.length_km * M_PER_KM,
        speed_ms=segments.free_flow_kmh / KMH_PER_MS,
        lanes=segments.lanes,
        capacity_vps=capacity / S_PER_H,
        discharge_vps=np.where(shared, through, capacity) / S_PER_H,
        weight=capacity / S_PER_H * np.where(circling, ROUNDABOUT_PRIORITY, 1.0),
    )


def roads_from(
    from_node: IntArray,
    to_node: IntArray,
    *,
    length_m: FloatArray,
    speed_ms: FloatArray,
    lanes: IntArray,
    capacity_vps: FloatArray,
    discharge_vps: FloatArray | None = None,
    weight: FloatArray | None = None,
) -> Roads:
    """Return links with the given diagram; the wave speed follows from capacity, speed and jam density.

    Raises
    ------
    ValueError
        If a length, a speed or a capacity is not above 0.
    """
    for name, values in (("length_m", length_m), ("speed_ms", speed_ms), ("capacity_vps", capacity_vps)):
        if len(values) and not np.min(values) > 0:
            raise ValueError(f"{name}: {np.min(values)} seen, above 0 allowed")
    free_s = np.maximum(length_m / speed_ms, STEP_S)
    jam = np.round(length_m * lanes * (JAM_VEH_KM_PER_LANE / M_PER_KM))
    storage = np.maximum(np.maximum(jam, np.ceil(capacity_vps * (free_s + STEP_S))), 1.0)
    return Roads(
        from_node=np.asarray(from_node, dtype=np.int32),
        to_node=np.asarray(to_node, dtype=np.int32),
        nodes=int(max(np.max(from_node, initial=-1), np.max(to_node, initial=-1))) + 1,
        lanes=np.asarray(lanes, dtype=np.int32),
        length_m=np.asarray(length_m, dtype=np.float64),
        speed_ms=np.asarray(speed_ms, dtype=np.float64),
        free_s=free_s,
        capacity_vps=np.asarray(capacity_vps, dtype=np.float64),
        discharge_vps=np.minimum(capacity_vps, capacity_vps if discharge_vps is None else discharge_vps),
        storage_veh=storage.astype(np.int32),
        weight=np.asarray(capacity_vps if weight is None else weight, dtype=np.float64),
        wave_s=np.maximum(storage / capacity_vps - free_s, STEP_S),
    )


def in_roundabout(from_node: IntArray, to_node: IntArray, length_m: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which links circle: short one-way links that lead in a small ring back to their start."""
    nodes = int(max(np.max(from_node, initial=-1), np.max(to_node, initial=-1))) + 1
    there, back = from_node.astype(np.int64) * nodes + to_node, to_node.astype(np.int64) * nodes + from_node
    short = ~np.isin(there, back) & (length_m <= _RING_LINK_M)
    graph = coo_matrix((np.ones(short.sum()), (from_node[short], to_node[short])), shape=(nodes, nodes))
    _, ring = connected_components(graph, connection="strong")
    inside = short & (ring[from_node] == ring[to_node])
    around = np.bincount(ring[from_node[inside]], weights=length_m[inside], minlength=nodes)
    found: npt.NDArray[np.bool_] = inside & (around[ring[from_node]] <= _RING_M)
    return found


def at_junction(from_node: IntArray, to_node: IntArray) -> npt.NDArray[np.bool_]:
    """Return whether each link ends where streams cross: a node with two or more other ways in or out on each side.

    A node on a plain road (one neighbour before, one after, in one or two directions) is none.
    """
    nodes = int(max(np.max(from_node, initial=-1), np.max(to_node, initial=-1))) + 1
    ends = np.concatenate([np.stack([from_node, to_node], 1), np.stack([to_node, from_node], 1)])
    neighbours = np.bincount(np.unique(ends, axis=0)[:, 0], minlength=nodes)
    ways_in = np.bincount(to_node, minlength=nodes)
    shared: npt.NDArray[np.bool_] = ((neighbours >= 3) & (ways_in >= 2))[to_node]
    return shared
