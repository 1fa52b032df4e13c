"""Roster: the detectors of a batch in, what is known of each of them out.

A feed names the same detectors again and again, so that what one list says is looked up once and remembered. Nothing
here depends on what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from citybrain.network import Network
from citybrain.records import FloatArray, IntArray, LongArray
from citybrain.settings import Limits
from citybrain.units import M_PER_KM

BoolArray = npt.NDArray[np.bool_]
IndexArray = npt.NDArray[np.intp]

LEAST_ROWS = 10_000
DEVICES = "loop", "single", "radar"
"""Kinds of detectors that are one device each."""
STOP_LINE_M = 30.0
"""A loop nearer to the end of its segment is held to be at the stop line, where every red light covers it [judgement:
four cars]."""
MOST_EACH = 8
"""Up to so many rows of each segment are added up one beside the other."""
REMEMBERED = 4
"""Rows remembered: so many times the detectors of a partition, or `LEAST_ROWS`; beyond, it begins anew."""


@dataclass(frozen=True, slots=True)
class Posts:
    """What is known of detectors, shared by all partitions; arrays have shape (detectors of the network,).

    Attributes
    ----------
    ids
        The operator's names, for dead letters.
    partition, position
        The partition that owns the detector, and its place among the detectors of that.
    column
        Place of its segment among the segments of the partition.
    lanes
        Lanes that the detector covers.
    length_km
        Length of its segment.
    flow_vph
        Highest flow over its lanes.
    advance
        True where it lies before the stop line, so that who stands on it stands in a queue.
    free_kmh
        Free-flow speed of its segment.
    lane_m
        Metres of lane in a kilometre of road, over the lanes it covers; NaN where counts and occupancies are not one
        device's (stations put several together, cameras and vehicles have no occupancy).
    """

    ids: npt.NDArray[np.str_]
    partition: IntArray
    position: IndexArray
    column: IndexArray
    lanes: LongArray
    length_km: FloatArray
    flow_vph: FloatArray
    advance: BoolArray
    free_kmh: FloatArray
    lane_m: FloatArray

    @classmethod
    def of(cls, network: Network, limits: Limits) -> Posts:
        """Return the posts of a network."""
        detectors, segments = network.detectors, network.segments
        position = np.zeros(len(detectors), dtype=np.intp)
        column = np.zeros(len(segments), dtype=np.intp)
        for part in range(network.partitions):
            mine, owned = np.flatnonzero(network.detector_partition == part), network.segments_of(part)
            position[mine], column[owned] = np.arange(len(mine)), np.arange(len(owned))
        return cls(
            detectors.id,
            network.detector_partition,
            position,
            column[detectors.segment],
            detectors.lanes.astype(np.int64),
            segments.length_km[detectors.segment],
            (limits.flow_vph_per_lane * detectors.lanes).astype(np.float64),
            segments.length_km[detectors.segment] * M_PER_KM - detectors.position_m > STOP_LINE_M,
            segments.free_flow_kmh[detectors.segment],
            np.where(np.isin(detectors.kind, DEVICES), detectors.lanes * M_PER_KM, np.nan),
        )

    def count(self, partition: int) -> int:
        """Return how many detectors a partition has."""
        return int(np.count_nonzero(self.partition == partition))

    def detectors(self, partition: int) -> IndexArray:
        """Return the detectors of a partition, ascending."""
        return np.flatnonzero(self.partition == partition)


@dataclass(frozen=True, slots=True, eq=False)
class Roster:
    """What is known of the detectors of a batch; arrays have shape (n,).

    Attributes
    ----------
    detector
        Detector index.
    outside
        Those that the network does not have, None where it has all; below they pass for the first detector.
    foreign
        Those of other partitions, None where there is none.
    position, lanes, length_km, flow_vph, advance, free_kmh, lane_m
        As in `Posts`.
    least_lanes, least_vph
        The least of both.
    once
        True where detectors ascend and none comes twice.
    order
        Rows by segment, None where they come so.
    ends
        Place after ``order`` of the last row of each segment, None where each segment has one row.
    each
        How many rows every segment has where all have as many, and no more than `MOST_EACH`; else 0.
    columns
        Segments, ascending, shape (m,).
    """

    detector: IntArray
    outside: BoolArray | None
    foreign: BoolArray | None
    position: IndexArray
    lanes: LongArray
    length_km: FloatArray
    flow_vph: FloatArray
    advance: BoolArray
    free_kmh: FloatArray
    lane_m: FloatArray
    least_lanes: int
    least_vph: float
    once: bool
    order: IndexArray | None
    ends: IndexArray | None
    each: int
    columns: IndexArray

    @classmethod
    def of(cls, detector: IntArray, posts: Posts, partition: int) -> Roster:
        """Look up detectors."""
        outside = (detector < 0) | (detector >= len(posts.ids))
        strange = bool(outside.any())
        known = (np.where(outside, 0, detector) if strange else detector).astype(np.intp)
        foreign = posts.partition.take(known) != partition
        lanes, flow_vph, column = posts.lanes.take(known), posts.flow_vph.take(known), posts.column.take(known)
        order, ends = _groups(column)
        column = column if order is None else column[order]
        return cls(
            detector,
            outside if strange else None,
            foreign if foreign.any() else None,
            posts.position.take(known),
            lanes,
            posts.length_km.take(known),
            flow_vph,
            posts.advance.take(known),
            posts.free_kmh.take(known),
            posts.lane_m.take(known),
            int(lanes.min(initial=1)),
            float(flow_vph.min(initial=np.inf)),
            bool((detector[1:] > detector[:-1]).all()),
            order,
            ends,
            _each(ends),
            column if ends is None else column[ends],
        )


def _groups(column: IndexArray) -> tuple[IndexArray | None, IndexArray | None]:
    """Return the order of rows by segment, and where each segment's rows end."""
    steps = np.diff(column)
    if (steps > 0).all():
        return None, None
    order = None
    if (steps < 0).any():
        order = np.argsort(column, kind="stable")
        steps = np.diff(column[order])
    ends = np.append(np.flatnonzero(steps), len(column) - 1)
    return order, None if len(ends) == len(column) else ends


def _each(ends: IndexArray | None) -> int:
    """Return how many rows every segment has; 0 where they differ, or are too many."""
    if ends is None:
        return 1
    first = int(ends[0]) + 1
    return first if first <= MOST_EACH and (np.diff(ends) == first).all() else 0


class Rosters:
    """Looks up detectors of one partition, and remembers the lists that it saw."""

    def __init__(self, posts: Posts, partition: int) -> None:
        self.posts, self.partition = posts, partition
        self.detectors = posts.count(partition)
        self._known: dict[bytes, Roster] = {}
        self._rows = 0

    def of(self, detector: IntArray) -> Roster:
        """Return the roster of a list of detectors."""
        key = detector.tobytes()
        known = self._known.get(key)
        if known is None:
            self._rows += len(detector)
            if self._rows > max(LEAST_ROWS, REMEMBERED * self.detectors):
                self._known.clear()
                self._rows = len(detector)
            # A copy: the column is part of a message, which shall not be kept.
            known = self._known[key] = Roster.of(detector.copy(), self.posts, self.partition)
        return known

    def part(self, roster: Roster, kept: BoolArray) -> Roster:
        """Return the roster of some rows."""
        return Roster.of(roster.detector[kept], self.posts, self.partition)
