"""Where segments lie to one another: a network in; directions, distances and the other side of a road out."""

from __future__ import annotations

import numpy as np

from citybrain.network import Network
from citybrain.units import M_PER_KM
from simulators.roads import FloatArray

_BESIDE_M = 60.0
"""How far apart the two carriageways of a road may be."""
_OPPOSITE = -0.7
"""Cosine of the angle beyond which a segment leads the other way."""
_M_PER_DEGREE = 111_320.0


def opposite_of(network: Network, row: int) -> list[int]:
    """Return the segments beside one that lead the other way: its own opposite, or the other carriageway."""
    segments = network.segments
    swapped = (segments.from_node == segments.to_node[row]) & (segments.to_node == segments.from_node[row])
    if swapped.any():
        return np.flatnonzero(swapped).tolist()
    alike = np.flatnonzero(segments.road_class == segments.road_class[row])
    if not np.isfinite(network.lon_lat[segments.geometry_start[row] : segments.geometry_start[row + 1]]).all():
        return []
    own = vector(network, row, row)
    middle = points_m(network, row, row)
    around = (middle[:-1] + middle[1:]).mean(axis=0) / 2
    beside = [
        (_distance_m(network, int(other), row, around), int(other))
        for other in alike
        if float(vector(network, int(other), int(other)) @ own) < _OPPOSITE
    ]
    near = [(far, other) for far, other in beside if far <= _BESIDE_M]
    return [min(near)[1]] if near else []


def points_m(network: Network, row: int, about: int) -> FloatArray:
    """Return the points of a segment, m east and north of the first point of another."""
    first, last = network.segments.geometry_start[row], network.segments.geometry_start[row + 1]
    origin = network.lon_lat[network.segments.geometry_start[about]].astype(np.float64)
    scale = np.array([np.cos(np.deg2rad(origin[1])), 1.0]) * _M_PER_DEGREE
    return np.asarray((network.lon_lat[first:last].astype(np.float64) - origin) * scale)


def vector(network: Network, first: int, last: int) -> FloatArray:
    """Return the direction from the start of a segment to the end of another, of length 1."""
    if not len(network.lon_lat):
        return np.zeros(2)
    way = points_m(network, last, first)[-1] - points_m(network, first, first)[0]
    return np.asarray(way / max(float(np.hypot(*way)), 1.0 / M_PER_KM))


def _distance_m(network: Network, row: int, about: int, point: FloatArray) -> float:
    """Return how far a point is from a segment."""
    points = points_m(network, row, about)
    start, way = points[:-1], np.diff(points, axis=0)
    along = ((point - start) * way).sum(axis=1) / np.maximum((way**2).sum(axis=1), 1e-9)
    nearest = start + np.clip(along, 0.0, 1.0)[:, None] * way
    return float(np.hypot(*(nearest - point).T).min())
