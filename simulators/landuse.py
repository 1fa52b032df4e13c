"""Where people live and work as the map tells: land use in, the weight of every node out.

Each cell's ground goes to the nearest node from which one can start. The map's share is mixed with what the roads let
one guess, for maps are patchy: a suburb that nobody has drawn is no desert.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from citybrain.landuse import LandUse
from citybrain.network import Network
from simulators.roads import FloatArray, Roads

MAP_SHARE = 0.7
"""Share of the homes and of the work that is spread as the map tells [judgement]."""
REACH_KM = 1.5
"""Ground farther from any node of the network belongs to no one here."""
ENOUGH_CELLS = 20
"""Fewer cells than this say nothing of a city."""
_KM_PER_DEGREE = 110.57


def mixed(
    network: Network, roads: Roads, land: LandUse | None, home: FloatArray, work: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the nodes' weights as homes and as work, with the map's share where there is a map.

    Parameters
    ----------
    network, roads
        The city.
    land
        Its land use; None, or too little of it, changes nothing.
    home, work
        The nodes' weights as the roads let one guess, shape (nodes,).
    """
    near = None if land is None else _nearest(network, roads, land)
    if land is None or near is None or len(near[0]) < ENOUGH_CELLS:
        return home, work
    cell, node = near
    found = []
    for guessed, ground in ((home, land.homes_m2), (work, land.work_m2)):
        told = np.bincount(node, weights=ground[cell], minlength=roads.nodes)
        scale = guessed.sum() / told.sum() if told.sum() > 0 else 0.0
        found.append(guessed if not scale else (1 - MAP_SHARE) * guessed + MAP_SHARE * scale * told)
    return found[0], found[1]


def _nearest(
    network: Network, roads: Roads, land: LandUse
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None:
    """Return the cells that a node is near to, and that node; None where the network has no map."""
    segments = network.segments
    points = network.lon_lat.astype(np.float64)
    if not len(points) or np.isnan(points).any():
        return None
    place = np.full((roads.nodes, 2), np.nan)
    place[segments.to_node] = points[segments.geometry_start[1:] - 1]
    place[segments.from_node] = points[segments.geometry_start[:-1]]
    starts = np.flatnonzero(np.bincount(segments.from_node, minlength=roads.nodes) > 0)
    squeeze = np.array([np.cos(np.deg2rad(place[starts, 1].mean())), 1.0]) * _KM_PER_DEGREE
    far, at = cKDTree(place[starts] * squeeze).query(np.stack([land.lon, land.lat], axis=1) * squeeze)
    kept = np.flatnonzero(far <= REACH_KM)
    return kept, starts[at[kept]]
