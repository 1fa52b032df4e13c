"""Segments in, places that a person can read out: road, district, direction, and where a stretch begins and ends.

Nothing here is translated: directions are the codes N, E, S, W, and names are those of the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from citybrain.network import Network
from dashboard.live.geometry import Plane

HOPS = 6
"""How many segments a name is looked for: of the road that a ramp leads to, of one that crosses."""

BoolArray = npt.NDArray[np.bool_]
LongArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is.

    Attributes
    ----------
    road
        Name of the road; of an unnamed one, an arrow and the road that it leads to; empty where neither has a name.
    direction
        ``N``, ``E``, ``S`` or ``W``; empty where the stretch has no direction (a loop, a schematic network).
    place
        Crossing roads before and after the stretch, such as ``Rua A → Rua B``, ``→ Rua B`` or ``Rua A →``; of an
        unnamed one only where it comes from; empty where there are none.
    district
        Name of the district.
    x, y
        Middle of the first segment, metres (`Plane`).
    """

    road: str
    direction: str
    place: str
    district: str
    x: float
    y: float


class _ByNode:
    """Segments in the order of a node column, so that those of one node are found at once."""

    def __init__(self, nodes: npt.NDArray[np.int32]) -> None:
        self._order = np.argsort(nodes, kind="stable")
        self._nodes = nodes[self._order]

    def at(self, node: int) -> LongArray:
        """Return the segments of ``node``."""
        first, last = np.searchsorted(self._nodes, [node, node + 1])
        return self._order[first:last]


class Places:
    """Names of places in one network."""

    def __init__(self, network: Network, laid: Plane) -> None:
        self.network = network
        self.laid = laid
        self._start, self._next = network.downstream
        self._into, self._out = _ByNode(network.segments.to_node), _ByNode(network.segments.from_node)
        self._pairs = self._same_road()
        a, b = (side.tolist() for side in self._pairs)
        self._after, self._before = dict(zip(a, b, strict=True)), dict(zip(b, a, strict=True))

    def of(self, segments: Sequence[int]) -> Place:
        """Return the place of a stretch; its first segment is the head, where traffic leaves it or the cause is."""
        head, tail = segments[0], self._tail(segments)
        table, areas = self.network.segments, self.network.areas
        x, y = self.laid.middle[head]
        district = str(areas.name[table.district[head]])
        place = self._between(tail, head)
        return Place(self.road(head), self._direction(segments), place, district, float(x), float(y))

    def road(self, segment: int) -> str:
        """Return the road's name, or an arrow and the named road that an unnamed one leads to."""
        roads = self.network.segments.road
        if roads[segment]:
            return str(roads[segment])
        at = segment
        for _ in range(HOPS):
            ahead = self._next[self._start[at] : self._start[at + 1]]
            if not len(ahead):
                break
            named = [str(roads[i]) for i in ahead if roads[i]]
            if named:
                return f"→ {named[0]}"
            at = int(ahead[0])
        return ""

    def stretches(self, chosen: BoolArray) -> list[LongArray]:
        """Return the chosen segments merged with chosen neighbours of the same road and direction, each ascending."""
        parent = np.arange(len(chosen))
        a, b = self._pairs
        both = chosen[a] & chosen[b]
        for first, second in zip(a[both], b[both], strict=True):
            low, high = sorted((_root(parent, int(first)), _root(parent, int(second))))
            parent[high] = low
        index = np.flatnonzero(chosen)
        roots = np.array([_root(parent, int(i)) for i in index], dtype=np.int64)
        order = np.argsort(roots, kind="stable")
        cuts = np.flatnonzero(np.diff(roots[order])) + 1
        return [part for part in np.split(index[order], cuts) if len(part)]

    def _same_road(self) -> tuple[LongArray, LongArray]:
        """Return pairs (a, b) where b continues a on the same named road, not back where a came from."""
        table = self.network.segments
        a = np.repeat(np.arange(len(table)), np.diff(self._start))
        b = self._next.astype(np.int64)
        onward = table.to_node[b] != table.from_node[a]
        same = (table.road[a] == table.road[b]) & (table.road[a] != "")
        return a[onward & same], b[onward & same]

    def _tail(self, segments: Sequence[int]) -> int:
        """Return the segment that no other of the stretch leads into, or the last one of a loop."""
        table = self.network.segments
        ends = {int(table.to_node[i]) for i in segments}
        first = [i for i in segments if int(table.from_node[i]) not in ends]
        return first[-1] if first else segments[-1]

    def _between(self, tail: int, head: int) -> str:
        """Return the crossing roads before and after a stretch; of an unnamed one only where it comes from."""
        table = self.network.segments
        start = self._crossing(tail, table.from_node, self._before)
        end = self._crossing(head, table.to_node, self._after) if table.road[head] else ""
        if start and end and start != end:
            return f"{start} → {end}"
        return f"→ {end}" if end else f"{start} →" if start else ""

    def _crossing(self, segment: int, nodes: npt.NDArray[np.int32], onward: dict[int, int]) -> str:
        """Return the name of the nearest road that crosses, from an end of a segment along its own road."""
        roads = self.network.segments.road
        for _ in range(HOPS):
            node = int(nodes[segment])
            touching = np.concatenate([self._into.at(node), self._out.at(node)])
            names = sorted({str(roads[i]) for i in touching} - {str(roads[segment]), ""})
            if names:
                return names[0]
            if segment not in onward:
                break
            segment = onward[segment]
        return ""

    def _direction(self, segments: Sequence[int]) -> str:
        if self.laid.schematic:
            return ""
        east, north = self.laid.heading[list(segments)].sum(axis=0)
        if east == north == 0:
            return ""
        if abs(east) >= abs(north):
            return "E" if east > 0 else "W"
        return "N" if north > 0 else "S"


def _root(parent: LongArray, at: int) -> int:
    while parent[at] != at:
        parent[at] = parent[parent[at]]
        at = int(parent[at])
    return at
