"""Places of a scenario on a network: a `Place` and a city in, its segments out, or what is wrong with it in words."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from citybrain.network import ROAD_CLASSES, Network
from simulators.beside import opposite_of, points_m, vector
from simulators.roads import FloatArray, IntArray

BusiestOf = Literal["", "any", "motorway", "trunk", "primary", "secondary", "tertiary", "residential", "link", "other"]
Compass = Literal["", "north", "east", "south", "west"]

LOWER_CLASSES = ("motorway", "trunk", "primary", "secondary", "tertiary", "residential", "other")
"""Where a city has no road of a class, the next one that it has is taken."""
_TURN = -0.3
"""Cosine of the angle beyond which a road has turned back and is its other direction."""
_GAP_M = 200.0
"""A road may be interrupted so far, by a roundabout say."""
_LONG_KM = 0.1
_COMPASS = {"north": (0.0, 1.0), "east": (1.0, 0.0), "south": (0.0, -1.0), "west": (-1.0, 0.0)}


@dataclass(frozen=True, slots=True)
class Place:
    """Where something happens: one of ``segment``, ``road`` and ``busiest`` is given.

    Attributes
    ----------
    segment
        Id of a segment.
    road
        Name of a road; ``km`` from its start or ``fraction`` of its length says where on it.
    km, fraction
        Place on the road; ``fraction`` is 0..1 and counts where ``km`` is not given.
    towards
        Direction of the road, where it has two.
    busiest
        The segment of this class with most traffic in the morning; where a city has no such road, of the next lower
        class that it has. ``any``: of all.
    rank
        1 is the busiest, 2 the next that does not touch it, and so on.
    length_km
        The segments from there on downstream on the same road, so far; 0 is the one segment.
    both_ways
        With the segments of the opposite direction beside them.
    """

    segment: str = ""
    road: str = ""
    km: float | None = None
    fraction: float = 0.5
    towards: Compass = ""
    busiest: BusiestOf = ""
    rank: int = 1
    length_km: float = 0.0
    both_ways: bool = False


class PlaceUnknown(Exception):
    """A place that the network does not have: the key that says it, the value seen, what is allowed."""

    def __init__(self, key: str, seen: str, allowed: str) -> None:
        super().__init__(f"{key}: {seen} seen, {allowed} allowed")
        self.key, self.seen, self.allowed = key, seen, allowed


def segments_at(place: Place, network: Network, busy: Callable[[], FloatArray]) -> IntArray:
    """Return the segments of a place, the first one being the place itself, shape (n,).

    Parameters
    ----------
    place
        What the scenario says.
    network
        The city.
    busy
        Returns the flow of each segment in the morning, shape (segments,); called only where a place asks for it.

    Raises
    ------
    PlaceUnknown
        If the network has no such place.
    """
    if place.segment:
        first = _by_id(place.segment, network)
    elif place.road:
        first = _on_road(place, network)
    else:
        first = _busiest(place, network, busy())
    found = _downstream(network, first, place.length_km)
    if place.both_ways:
        found += [other for segment in list(found) for other in opposite_of(network, segment) if other not in found]
    return np.array(list(dict.fromkeys(found)), dtype=np.int32)


def _by_id(name: str, network: Network) -> int:
    at = np.flatnonzero(network.segments.id == name)
    if not len(at):
        close = difflib.get_close_matches(name, network.segments.id.tolist(), n=1)
        raise PlaceUnknown("segment", repr(name), f"{close[0]!r} (nearest)" if close else "an id of the network")
    return int(at[0])


def _on_road(place: Place, network: Network) -> int:
    segments = network.segments
    on_it = np.flatnonzero(segments.road == place.road).astype(np.int32)
    if not len(on_it):
        names = np.unique(segments.road[segments.road != ""]).tolist()
        close = difflib.get_close_matches(place.road, names, n=1, cutoff=0.5)
        raise PlaceUnknown("road", repr(place.road), f"{close[0]!r} (nearest)" if close else "a road of the network")
    chains = _joined(network, _chains(network, on_it))
    if place.towards:
        towards = np.array(_COMPASS[place.towards])
        chains = [chain for chain in chains if float(vector(network, chain[0], chain[-1]) @ towards) > 0]
        if not chains:
            raise PlaceUnknown("towards", repr(place.towards), f"a direction in which {place.road!r} leads")
    chain = max(chains, key=lambda parts: float(segments.length_km[parts].sum()))
    ends = np.cumsum(segments.length_km[chain])
    at = place.fraction * ends[-1] if place.km is None else place.km
    if at > ends[-1]:
        raise PlaceUnknown("km", f"{at:g}", f"0 to {ends[-1]:.2f} km of {place.road!r}")
    return int(chain[min(int(np.searchsorted(ends, at)), len(chain) - 1)])


def _chains(network: Network, on_it: IntArray) -> list[list[int]]:
    """Return the segments of a road as they follow one another, one list a direction and part."""
    segments = network.segments
    by_start: dict[int, list[int]] = {}
    for row in on_it.tolist():
        by_start.setdefault(int(segments.from_node[row]), []).append(row)
    entered = {int(node) for node in segments.to_node[on_it]}
    heads = [row for row in on_it.tolist() if int(segments.from_node[row]) not in entered]
    left, chains, to_node = set(on_it.tolist()), [], segments.to_node.tolist()
    for head in [*heads, *_turning(network, on_it), *on_it.tolist()]:
        if head not in left:
            continue
        chain = [head]
        left.discard(head)
        while (row := _onward(network, chain[-1], [o for o in by_start.get(to_node[chain[-1]], []) if o in left])) >= 0:
            left.discard(row)
            chain.append(row)
        chains.append(chain)
    return chains


def _onward(network: Network, row: int, others: list[int]) -> int:
    """Return the one of the segments that leads straightest on, -1 where all lead back."""
    segments = network.segments
    ahead = [other for other in others if segments.to_node[other] != segments.from_node[row]]
    if not len(network.lon_lat) or not ahead:
        return ahead[0] if ahead else -1
    way = vector(network, row, row)
    straight, other = max((float(vector(network, other, other) @ way), other) for other in ahead)
    return other if straight > _TURN else -1


def _turning(network: Network, on_it: IntArray) -> list[int]:
    """Return the segments at which a two-way road begins: nothing but their own opposite leads to them."""
    segments = network.segments
    into: dict[int, list[int]] = {}
    for row in on_it.tolist():
        into.setdefault(int(segments.to_node[row]), []).append(row)
    return [row for row in on_it.tolist() if _only_back(network, row, into.get(int(segments.from_node[row]), []))]


def _only_back(network: Network, row: int, before: list[int]) -> bool:
    return all(network.segments.from_node[other] == network.segments.to_node[row] for other in before)


def _joined(network: Network, chains: list[list[int]]) -> list[list[int]]:
    """Return chains with those that go on beyond a roundabout or a short piece of another name put together."""
    if not len(network.lon_lat):
        return chains
    length = network.segments.length_km
    left = sorted(chains, key=lambda chain: -float(length[chain].sum()))
    joined = []
    while left:
        chain = left.pop(0)
        while (after := _nearest_chain(network, chain, left)) is not None:
            left.remove(after)
            chain = [*chain, *after]
        while (before := _nearest_chain(network, chain, left, before=True)) is not None:
            left.remove(before)
            chain = [*before, *chain]
        joined.append(chain)
    return joined


def _nearest_chain(
    network: Network, chain: list[int], others: list[list[int]], *, before: bool = False
) -> list[int] | None:
    """Return the chain that begins where one ends (or ends where it begins) and leads on the same way, or None."""
    found: list[tuple[float, list[int]]] = []
    for other in others:
        first, then = (other, chain) if before else (chain, other)
        gap = points_m(network, then[0], first[-1])[0] - points_m(network, first[-1], first[-1])[-1]
        way, on = vector(network, first[-1], first[-1]), vector(network, then[0], then[0])
        if float(np.hypot(*gap)) <= _GAP_M and float(way @ on) > 0:
            found.append((float(np.hypot(*gap)), other))
    return min(found)[1] if found else None


def _busiest(place: Place, network: Network, flow: FloatArray) -> int:
    segments = network.segments
    fit = np.ones(len(segments), bool)
    if place.busiest != "any":
        at = LOWER_CLASSES.index(place.busiest) if place.busiest in LOWER_CLASSES else 0
        wanted = ("link",) if place.busiest == "link" else (*LOWER_CLASSES[at:], *LOWER_CLASSES[:at][::-1], "link")
        for name in wanted:
            fit = segments.road_class == ROAD_CLASSES.index(name)
            if fit.any():
                break
        if not fit.any():
            raise PlaceUnknown("busiest", repr(place.busiest), "a class of road that the network has")
    # Pieces of junctions and roundabouts are no place to speak of, unless there is nothing else.
    fit = fit & (segments.length_km >= _LONG_KM) if (fit & (segments.length_km >= _LONG_KM)).any() else fit
    order = np.flatnonzero(fit)[np.argsort(-flow[fit], kind="stable")]
    taken: set[int] = set()
    rank = 0
    for row in order.tolist():
        ends = {int(segments.from_node[row]), int(segments.to_node[row])}
        if ends & taken:
            continue
        rank += 1
        if rank == place.rank:
            return int(row)
        taken |= ends
    raise PlaceUnknown("rank", str(place.rank), f"1 to {rank}")


def _downstream(network: Network, first: int, length_km: float) -> list[int]:
    """Return the segments from the first on, as long as they are the same road and until the length is reached."""
    segments = network.segments
    start, follower = network.downstream
    found, reached = [first], float(segments.length_km[first])
    while reached < length_km:
        row = found[-1]
        after = [
            int(other)
            for other in follower[start[row] : start[row + 1]]
            if segments.road[other] == segments.road[row]
            and segments.road_class[other] == segments.road_class[row]
            and segments.to_node[other] != segments.from_node[row]
            and int(other) not in found
        ]
        if not after:
            break
        found.append(after[0])
        reached += float(segments.length_km[after[0]])
    return found
