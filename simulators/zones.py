"""Where trips begin and end: a network in, zones with their nodes, weights and sinks out.

Zones are clusters of nodes, plus the gates through which motorways and main roads lead out of the city. Weights come
from the roads: homes where small roads are long, work where the network is dense and its roads are main ones; where the
city has a map of its land use, from that, too (`simulators.landuse`). Each is the geometric mean with what can leave
the zone.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.cluster.vq import kmeans2
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from citybrain.landuse import LandUse
from citybrain.network import ROAD_CLASSES, Network, RoadClass
from simulators.landuse import mixed
from simulators.roads import FloatArray, IntArray, Roads

ZONES = 110
GATES = 12
SINKS = 3
"""Nodes at which a zone's trips end; the nearest is taken."""

HOME_WEIGHT: dict[RoadClass, float] = {"residential": 1.0, "tertiary": 1.0, "secondary": 0.5, "primary": 0.2}
WORK_WEIGHT: dict[RoadClass, float] = {"residential": 0.3, "tertiary": 0.6, "secondary": 1.0, "primary": 1.0}
_GATE_CLASSES: tuple[RoadClass, ...] = ("motorway", "trunk")


@dataclass(frozen=True, slots=True)
class Zones:
    """Zones, the gates last.

    Attributes
    ----------
    of_node
        Zone of each node; a gate's node belongs to its gate.
    origin_share
        Share of its zone's departures that begin at the node, shape (nodes,); sums to 1 over a zone, or to 0 where
        nothing leads away.
    home, work
        Weight of each zone as a home and as a place of work, each summing to 1 over the zones that are no gates.
    gate_vps
        Capacity into the city of each zone, veh/s; 0 for zones that are no gates.
    sinks
        Nodes at which a zone's trips end, shape (zones, `SINKS`).
    """

    of_node: IntArray
    origin_share: FloatArray
    home: FloatArray
    work: FloatArray
    gate_vps: FloatArray
    sinks: IntArray

    def __len__(self) -> int:
        """Return the number of zones."""
        return len(self.home)


def zones_of(network: Network, roads: Roads, rng: np.random.Generator, land: LandUse | None = None) -> Zones:
    """Divide a network into zones.

    Parameters
    ----------
    network, roads
        The city and its links.
    rng
        Draws the first guesses of the clusters.
    land
        Land use of the city; the roads alone tell where people live and work where it is not given.
    """
    place = node_positions_km(network, roads)
    gates = _gate_nodes(network, roads, place)
    used = np.zeros(roads.nodes, bool)
    used[roads.from_node] = used[roads.to_node] = True
    inner = np.setdiff1d(np.flatnonzero(used), gates)
    of_node = np.zeros(roads.nodes, np.int32)
    count = min(ZONES, max(len(inner), 1))
    if len(inner):
        of_node[inner] = _clusters(place[inner], count, rng)
        count = int(of_node[inner].max()) + 1
    of_node[gates] = count + np.arange(len(gates))
    zones = count + len(gates)
    home = _node_weight(network, roads, HOME_WEIGHT)
    work = _node_weight(network, roads, WORK_WEIGHT) * _density(network, roads, place)
    home, work = mixed(network, roads, land, home, work)
    into = _sums(roads.from_node, roads.capacity_vps, roads.nodes)
    start = np.where(into > 0, home + work, 0.0)
    gate_vps = np.zeros(zones)
    gate_vps[count:] = into[gates]
    is_gate = gate_vps > 0
    ways_out = _ways_out(of_node, roads, zones)
    return Zones(
        of_node=of_node,
        origin_share=start / np.maximum(_sums(of_node, start, zones), 1e-300)[of_node],
        home=_shares(_sums(of_node, home, zones) * ways_out, is_gate),
        work=_shares(_sums(of_node, work, zones) * ways_out, is_gate),
        gate_vps=gate_vps,
        sinks=_sinks(of_node, _sums(roads.to_node, roads.discharge_vps, roads.nodes), zones),
    )


def node_positions_km(network: Network, roads: Roads) -> FloatArray:
    """Return positions of the nodes, km, shape (nodes, 2): from the map, or along the road where there is no map."""
    segments = network.segments
    points = network.lon_lat.astype(np.float64)
    first, last = segments.geometry_start[:-1], segments.geometry_start[1:] - 1
    place: FloatArray = np.full((roads.nodes, 2), np.nan)
    if len(points):
        place[segments.to_node] = points[last]
        place[segments.from_node] = points[first]
    if np.isnan(place).any():
        return _positions_along(roads)
    middle = np.deg2rad(place[:, 1].mean())
    return np.asarray((place - place.mean(axis=0)) * [111.32 * np.cos(middle), 110.57])


def _positions_along(roads: Roads) -> FloatArray:
    shape = (roads.nodes, roads.nodes)
    graph = csr_matrix((roads.length_m / 1000, (roads.from_node, roads.to_node)), shape=shape)
    distance = dijkstra(graph, directed=False, indices=[int(roads.from_node[0])])[0]
    distance[~np.isfinite(distance)] = 0.0
    return np.stack([distance, np.zeros_like(distance)], axis=1)


def _sums(group: IntArray, values: FloatArray, groups: int) -> FloatArray:
    return np.asarray(np.bincount(group, weights=values, minlength=groups), dtype=np.float64)


def _clusters(place: FloatArray, count: int, rng: np.random.Generator) -> IntArray:
    """Return a cluster number from 0 without gaps for each place."""
    if count >= len(place):
        return np.arange(len(place), dtype=np.int32)
    first = place[rng.choice(len(place), count, replace=False)]
    with warnings.catch_warnings():
        # A cluster that loses all its nodes is left out below.
        warnings.simplefilter("ignore", UserWarning)
        _, label = kmeans2(place, first, minit="matrix", iter=20)
    return np.unique(label, return_inverse=True)[1].astype(np.int32)


def _node_weight(network: Network, roads: Roads, by_class: dict[RoadClass, float]) -> FloatArray:
    weight = np.array([by_class.get(name, 0.0) for name in ROAD_CLASSES])[network.segments.road_class]
    length = network.segments.length_km * weight
    return _sums(roads.from_node, length, roads.nodes) + 1e-9


def _density(network: Network, roads: Roads, place: FloatArray) -> FloatArray:
    """Return kilometres of road within about 700 m of each node, relative to the mean."""
    cell = np.floor(place / 0.7).astype(np.int64)
    _, cell_of = np.unique(cell, axis=0, return_inverse=True)
    length = np.bincount(roads.from_node, weights=network.segments.length_km, minlength=roads.nodes)
    dense = np.bincount(cell_of.reshape(-1), weights=length)[cell_of.reshape(-1)]
    return np.asarray(dense / dense.mean(), dtype=np.float64)


def _gate_nodes(network: Network, roads: Roads, place: FloatArray) -> IntArray:
    """Return the outermost nodes of motorways and trunks, one a direction, that can be left and reached."""
    main = np.isin(network.segments.road_class, [ROAD_CLASSES.index(name) for name in _GATE_CLASSES])
    nodes = np.intersect1d(roads.from_node[main], roads.to_node[main])
    if len(nodes) < 2 or not np.ptp(place[:, 1]):
        return np.zeros(0, np.int32)
    centre = place - np.median(place, axis=0)
    sector = ((np.arctan2(centre[nodes, 1], centre[nodes, 0]) / (2 * np.pi) % 1.0) * GATES).astype(np.int64)
    far = np.hypot(centre[nodes, 0], centre[nodes, 1])
    order = np.lexsort((-far, sector))
    _, first = np.unique(sector[order], return_index=True)
    outermost = order[first]
    return np.sort(nodes[outermost[far[outermost] > np.median(far)]]).astype(np.int32)


def _ways_out(of_node: IntArray, roads: Roads, zones: int) -> FloatArray:
    """Return what can leave each zone, veh/s: nowhere do more people live than can get away."""
    start, end = of_node[roads.from_node], of_node[roads.to_node]
    leads = np.where(start == end, 0.0, roads.discharge_vps)
    return _sums(start, leads, zones) + 1e-6


def _shares(weight: FloatArray, is_gate: npt.NDArray[np.bool_]) -> FloatArray:
    kept = np.where(is_gate, 0.0, np.sqrt(weight))
    return np.asarray(kept / max(kept.sum(), 1e-12))


def _sinks(of_node: IntArray, inflow: FloatArray, zones: int) -> IntArray:
    """Return, for each zone, its nodes that most can flow into; repeated where it has fewer than `SINKS`."""
    order = np.lexsort((-inflow, of_node))
    first = np.searchsorted(of_node[order], np.arange(zones), side="left")
    size = np.searchsorted(of_node[order], np.arange(zones), side="right") - first
    rank = np.minimum(np.arange(SINKS)[None, :], size[:, None] - 1)
    return np.asarray(order[first[:, None] + rank], dtype=np.int32)
