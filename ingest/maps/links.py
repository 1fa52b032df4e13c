"""Directed links, the raw material of a network: cut, contracted, reduced to the connected part.

Links in, links out. What a link becomes (areas, partitions, detectors) is `ingest.maps.build`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from citybrain.network import RoadClass

Points = npt.NDArray[np.float64]
Progress = Callable[[str, int, int], None]
"""Hears of long work: what is done, how many of how many."""

M_PER_DEGREE = 111_195.0
"""Metres of a degree of latitude on a sphere of 6,371 km."""


def silent(step: str, done: int, total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """One direction of a road between two nodes.

    Attributes
    ----------
    id
        Name that outlives an import.
    road
        Road name; empty where it has none.
    road_class
        Class of the road.
    from_node, to_node
        Any integers that tell nodes apart.
    points
        Longitude and latitude in driving direction, degrees, shape (k, 2), k at least 2.
    length_km
        Length along the road, before any simplification.
    lanes
        Lanes in this direction.
    limit_kmh
        Speed limit; NaN where not known.
    free_flow_kmh
        Speed without other traffic.
    capacity_vph
        Capacity of all lanes; NaN where not known.
    """

    id: str
    road: str
    road_class: RoadClass
    from_node: int
    to_node: int
    points: Points
    length_km: float
    lanes: int
    limit_kmh: float
    free_flow_kmh: float
    capacity_vph: float


def length_km(points: Points) -> float:
    """Return the length of a line on the sphere, km; good to 0.1 % at the length of a road.

    Examples
    --------
    >>> round(length_km(np.array([[-8.6, 41.0], [-8.6, 41.01]])), 4)
    1.1119
    """
    step = np.diff(points, axis=0)
    east = step[:, 0] * np.cos(np.radians((points[1:, 1] + points[:-1, 1]) / 2))
    return float(np.hypot(east, step[:, 1]).sum() * M_PER_DEGREE / 1000)


def contracted(
    links: Sequence[Link], *, junctions: frozenset[int] = frozenset(), short_km: float = 0.06, longest_km: float = 1.5
) -> list[Link]:
    """Join links at nodes where a driver has no choice.

    Two links become one where the node between them joins nothing else and they are the same road (name, class, lanes,
    limit), or where one of them is shorter than ``short_km``: then the longer one says what road it is. At
    ``junctions``, where a road that is not in the network joins, only the short ones do. Nothing grows beyond
    ``longest_km``, and no link comes to end where it began.
    """
    alive: dict[int, Link] = dict(enumerate(links))
    into: defaultdict[int, set[int]] = defaultdict(set)
    out: defaultdict[int, set[int]] = defaultdict(set)
    for key, link in alive.items():
        out[link.from_node].add(key)
        into[link.to_node].add(key)
    for node in list(into):
        pairs = _through(node, alive, into, out)
        allowed = [
            min(alive[a].length_km, alive[b].length_km) < short_km
            or (node not in junctions and _same_road(alive[a], alive[b]))
            for a, b in pairs
        ]
        joins = [pair for pair, ok in zip(pairs, allowed, strict=True) if ok and _fits(pair, alive, longest_km)]
        if not pairs or len(joins) < len(pairs):
            continue
        for a, b in joins:
            first, second = alive[a], alive.pop(b)
            alive[a] = _joined(first, second)
            into[second.to_node].remove(b)
            into[second.to_node].add(a)
        into.pop(node)
        out.pop(node)
    return list(alive.values())


def largest_part(links: Sequence[Link]) -> list[Link]:
    """Return the links of the largest part in which every place can be reached from every other."""
    nodes, ends = np.unique([(link.from_node, link.to_node) for link in links], return_inverse=True)
    start, end = ends.reshape(-1, 2).T
    graph = coo_array((np.ones(len(links)), (start, end)), shape=(len(nodes), len(nodes)))
    _, part = connected_components(graph, directed=True, connection="strong")
    inside = part[start] == part[end]
    biggest = Counter(part[start][inside].tolist()).most_common(1)[0][0] if inside.any() else -1
    return [link for link, keep in zip(links, inside & (part[start] == biggest), strict=True) if keep]


def without_stubs(links: Sequence[Link], *, shorter_than_km: float = 0.015) -> list[Link]:
    """Make one node of the two ends of a very short link, such as the few metres between two carriageways.

    Motorways and trunks keep theirs, since there a merged node would open a way that does not exist; ramps lose those
    of half that length.
    """
    parent: dict[int, int] = {}

    def root(node: int) -> int:
        while (up := parent.get(node, node)) != node:
            node = up
        return node

    def is_stub(link: Link) -> bool:
        return link.length_km < shorter_than_km * (0.5 if link.road_class == "link" else 1.0)

    fast = {n for link in links if link.road_class in ("motorway", "trunk") for n in (link.from_node, link.to_node)}
    place: dict[int, Points] = {}
    for link in links:
        place.setdefault(link.from_node, link.points[0])
        place.setdefault(link.to_node, link.points[-1])
        a, b = root(link.from_node), root(link.to_node)
        if is_stub(link) and a != b and not {link.from_node, link.to_node} & fast:
            parent[max(a, b)] = min(a, b)
    kept = []
    for link in links:
        ends = root(link.from_node), root(link.to_node)
        if ends[0] != ends[1]:
            kept.append(link if ends == (link.from_node, link.to_node) else _moored(link, ends, place))
    return kept


def cut_long(links: Sequence[Link], *, longest_km: float) -> list[Link]:
    """Cut links longer than ``longest_km`` into equal pieces; both directions share the new nodes."""
    pieces: list[Link] = []
    between: dict[tuple[int, int, int, float], list[int]] = {}
    free = max((max(link.from_node, link.to_node) for link in links), default=0) + 1
    for link in links:
        count = int(np.ceil(link.length_km / longest_km))
        if count < 2:
            pieces.append(link)
            continue
        low, high = sorted((link.from_node, link.to_node))
        key = (low, high, count, round(link.length_km, 4))
        if key not in between:
            between[key] = list(range(free, free + count - 1))
            free += count - 1
        inner = between[key] if link.from_node == low else between[key][::-1]
        nodes = [link.from_node, *inner, link.to_node]
        for at, points in enumerate(_equal_parts(link.points, count)):
            pieces.append(
                replace(
                    link,
                    id=f"{link.id}.{at + 1}",
                    from_node=nodes[at],
                    to_node=nodes[at + 1],
                    points=points,
                    length_km=link.length_km / count,
                )
            )
    return pieces


def _through(
    node: int, alive: dict[int, Link], into: dict[int, set[int]], out: dict[int, set[int]]
) -> list[tuple[int, int]]:
    """Return the pairs (in, out) that pass a node without a choice: one of a one-way road, two of a two-way road."""
    ins, outs = into.get(node, set()), out.get(node, set())
    if len(ins) == len(outs) == 1:
        (a,), (b,) = ins, outs
        return [(a, b)] if a != b and alive[a].from_node != alive[b].to_node else []
    if len(ins) == len(outs) == 2:
        pairs = [(a, b) for a in sorted(ins) for b in sorted(outs) if alive[a].from_node != alive[b].to_node]
        ends = {alive[a].from_node for a in ins}
        if len(pairs) == 2 and len(ends) == 2 and ends == {alive[b].to_node for b in outs}:
            return pairs
    return []


def _same_road(a: Link, b: Link) -> bool:
    return (a.road, a.road_class, a.lanes, a.free_flow_kmh) == (b.road, b.road_class, b.lanes, b.free_flow_kmh)


def _fits(pair: tuple[int, int], alive: dict[int, Link], longest_km: float) -> bool:
    return alive[pair[0]].length_km + alive[pair[1]].length_km <= longest_km


def _joined(a: Link, b: Link) -> Link:
    longer = a if a.length_km >= b.length_km else b
    return replace(
        longer,
        id=a.id,
        from_node=a.from_node,
        to_node=b.to_node,
        points=np.concatenate([a.points, b.points[1:]]),
        length_km=a.length_km + b.length_km,
    )


def _moored(link: Link, ends: tuple[int, int], place: dict[int, Points]) -> Link:
    points = link.points.copy()
    points[0], points[-1] = place[ends[0]], place[ends[1]]
    return replace(link, from_node=ends[0], to_node=ends[1], points=points)


def _equal_parts(points: Points, count: int) -> list[Points]:
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    cuts = np.linspace(0, along[-1], count + 1)
    at = np.stack([np.interp(cuts, along, points[:, axis]) for axis in (0, 1)], axis=1)
    parts = []
    for k in range(count):
        inside = points[(along > cuts[k]) & (along < cuts[k + 1])]
        parts.append(np.concatenate([at[k : k + 1], inside, at[k + 1 : k + 2]]))
    return parts
