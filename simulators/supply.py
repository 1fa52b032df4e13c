"""What the roads can carry: matrices of zones and routes in, matrices without hopeless trips out.

A gravity model knows distances, not roads: it sends more people from a suburb than its one street to town can carry,
and that street then is jammed until noon. Here pairs whose way is overloaded at a peak are thinned, and the total is
spread over the others, until the worst link of a way is loaded little above what it discharges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulators.engine import EXIT
from simulators.roads import FloatArray, IntArray, Roads
from simulators.zones import Zones

LongArray = npt.NDArray[np.int64]

ROUNDS = 12
LOAD_LIMIT = 1.4
"""Load over discharge in the peak hour that is let be [tuned, see docs/simulation.md]."""
_DAMPING = 0.6


@dataclass(frozen=True, slots=True)
class Ways:
    """The tree of ways to every zone as one forest: a place is a zone and a node, ``zone * nodes + node``.

    Attributes
    ----------
    after
        Place after each place; a place at a sink, or without a way, stays.
    link
        Link between the two; -1 where there is none.
    levels
        Places by their number of links to the sink, the farthest first.
    """

    after: LongArray
    link: IntArray
    levels: tuple[LongArray, ...]


def ways_of(roads: Roads, next_link: IntArray, reachable: npt.NDArray[np.bool_]) -> Ways:
    """Return the forest of a table of next links, shape (zones, nodes); ``reachable`` has the same shape."""
    zones, nodes = next_link.shape
    link = np.where(reachable, next_link, EXIT).reshape(-1).astype(np.int32)
    place = np.arange(zones * nodes, dtype=np.int64)
    after = np.where(link == EXIT, place, place - place % nodes + roads.to_node[link])
    depth, jump = (link != EXIT).astype(np.int64), after.copy()
    while True:
        further = depth + depth[jump]
        if (further == depth).all():
            break
        depth, jump = further, jump[jump]
    order = np.argsort(-depth, kind="stable")
    order = order[depth[order] > 0]
    cuts = np.flatnonzero(np.diff(depth[order])) + 1
    return Ways(after, link, tuple(np.split(order, cuts)))


def loads(ways: Ways, zones: Zones, matrix: FloatArray, links: int) -> FloatArray:
    """Return the flow on every link when everyone takes the tree, in the unit of the matrix, shape (links,)."""
    flow = (matrix.T[:, zones.of_node] * zones.origin_share[None, :]).reshape(-1)
    for places in ways.levels:
        np.add.at(flow, ways.after[places], flow[places])
    moving = ways.link >= 0
    return np.asarray(np.bincount(ways.link[moving], weights=flow[moving], minlength=links))


def worst(ways: Ways, values: FloatArray) -> FloatArray:
    """Return the highest of the links' values on the way from each place, shape (places,)."""
    found = np.where(ways.link >= 0, values[ways.link], 0.0)
    for places in reversed(ways.levels):
        found[places] = np.maximum(found[places], found[ways.after[places]])
    return np.asarray(found)


def together(rates: list[float], matrices: list[FloatArray]) -> FloatArray:
    """Return the sum of the purposes' matrices, each times its rate."""
    return np.asarray(np.tensordot(np.array(rates), np.stack(matrices), axes=1))


def carried(
    matrices: list[FloatArray], peaks: list[list[float]], roads: Roads, zones: Zones, ways: Ways
) -> list[FloatArray]:
    """Thin the pairs whose way is overloaded at a peak.

    Parameters
    ----------
    matrices
        One a purpose, each summing to 1.
    peaks
        For each peak, the trips per second of each purpose.
    roads, zones, ways
        The city.

    Returns
    -------
    list[FloatArray]
        The matrices, each summing to 1 again.
    """
    count = len(zones)
    kept = [matrix / max(matrix.sum(), 1e-300) for matrix in matrices]
    for _ in range(ROUNDS):
        load = np.zeros(len(roads))
        for rates in peaks:
            flow = loads(ways, zones, together(rates, kept), len(roads))
            load = np.maximum(load, flow / roads.discharge_vps)
        from_node = worst(ways, load).reshape(count, -1) * zones.origin_share[None, :]
        over = np.stack([np.bincount(zones.of_node, weights=row, minlength=count) for row in from_node], axis=1)
        factor = np.minimum(1.0, LOAD_LIMIT / np.maximum(over, 1e-9)) ** _DAMPING
        kept = [matrix * factor for matrix in kept]
        kept = [matrix / max(matrix.sum(), 1e-300) for matrix in kept]
    return kept
