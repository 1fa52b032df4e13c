"""Segments in, detectors out, for a map that has none: loops by class of road, cameras along a corridor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from citybrain.network import Detectors
from ingest.maps.links import Link

LOOP_SHARE = {"motorway": 1.0, "trunk": 1.0, "primary": 0.98, "secondary": 0.95, "tertiary": 0.75, "link": 0.75}
"""Share of the segments of a class that get a loop; half of any other class do."""
CAMERA_GAP_KM = 0.35
"""Cameras along a corridor are at least so far apart."""

_Row = tuple[str, int, float, int, str]


def no_detectors() -> Detectors:
    """Return an empty table."""
    return _table([])


def placed(links: Sequence[Link], rng: np.random.Generator, *, cameras: int = 24) -> Detectors:
    """Put one whole-carriageway loop into the middle third of most segments, and cameras along the longest motorways.

    Parameters
    ----------
    links
        Segments in the network's order.
    rng
        Draws which segments go without, and where a loop lies.
    cameras
        Number of cameras, at the ends of consecutive segments of two corridors, for travel times between them.
    """
    rows: list[_Row] = []
    for at, link in enumerate(links):
        place = rng.uniform(1 / 3, 2 / 3) * link.length_km * 1000
        if rng.random() < LOOP_SHARE.get(link.road_class, 0.5):
            rows.append((f"L{at + 1:04d}", at, round(place, 1), link.lanes, "loop"))
    for number, at in enumerate(_camera_segments(links, cameras), start=1):
        rows.append((f"C{number:03d}", at, round(links[at].length_km * 1000, 1), links[at].lanes, "camera"))
    return _table(rows)


def _table(rows: Sequence[_Row]) -> Detectors:
    ids, segment, position, lanes, kind = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    return Detectors(
        np.array(ids, dtype=np.str_),
        np.array(segment, dtype=np.int32),
        np.array(position, dtype=np.float64),
        np.array(lanes, dtype=np.int32),
        np.array(kind, dtype=np.str_),
    )


def _camera_segments(links: Sequence[Link], cameras: int) -> list[int]:
    """Return the segments that get a camera: from the two longest chains of one motorway, evenly, in driving order."""
    chains = sorted(_chains(links), key=lambda chain: -sum(links[at].length_km for at in chain))[:2]
    chosen: list[int] = []
    for chain in chains if cameras else []:
        spread = _spread(links, chain)
        wanted = min(cameras // len(chains), len(spread))
        chosen += [spread[k] for k in np.linspace(0, len(spread) - 1, wanted).round().astype(int).tolist()]
    return chosen


def _spread(links: Sequence[Link], chain: list[int]) -> list[int]:
    kept, since = [], CAMERA_GAP_KM
    for at in chain:
        since += links[at].length_km
        if since >= CAMERA_GAP_KM:
            kept.append(at)
            since = 0.0
    return kept


def _chains(links: Sequence[Link]) -> list[list[int]]:
    """Return the chains of segments that follow one another on one named motorway."""
    starts: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    ends: set[tuple[str, int]] = set()
    for at, link in enumerate(links):
        if link.road_class == "motorway" and link.road:
            starts[link.road, link.from_node].append(at)
            ends.add((link.road, link.to_node))
    chains, used = [], set[int]()
    heads = [at for key, members in starts.items() if key not in ends for at in members]
    for head in [*heads, *(at for members in starts.values() for at in members)]:
        chain: list[int] = []
        following: int | None = head
        while following is not None and following not in used:
            used.add(following)
            chain.append(following)
            onward = starts.get((links[following].road, links[following].to_node), [])
            following = next((at for at in onward if at not in used), None)
        chains.append(chain)
    return [chain for chain in chains if chain]
