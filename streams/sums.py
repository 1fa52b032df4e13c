"""Sums: clean readings in, integers per pane and segment out.

Everything is fixed point (`citybrain.units`): a reading's share of a pane is rounded once, so that sums depend neither
on the order nor on the cut of batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from citybrain.network import IntArray, Network
from citybrain.records import ByteArray, FloatArray, LongArray
from citybrain.units import MS_PER_S, OCCUPANCY_S_SCALE, PACE_S_SCALE, VEH_H_PER_KM_SCALE, VEH_SCALE
from streams.clean import Clean

IndexArray = npt.NDArray[np.intp]


class Field(IntEnum):
    """What is summed for each pane and segment; "lane ms" is lanes of the detector times observed ms.

    Weighting by lanes makes a lane's detector count as one lane of many, and a whole-carriageway station as all.
    """

    OBSERVED_LANE_MS = 0
    """Where anything was observed."""
    FLOW_LANE_MS = 1
    """Where vehicles were counted."""
    VEHICLES = 2
    """`VEH_SCALE`."""
    VEHICLES_WITH_SPEED = 3
    """`VEH_SCALE`."""
    PACE_OF_VEHICLES = 4
    """Sum of vehicles / speed, `VEH_H_PER_KM_SCALE`: the space-mean speed is the quotient with the field before."""
    SPEED_LANE_MS = 5
    """Where a speed was measured."""
    PACE_OF_TIME = 6
    """Sum of lane seconds / speed, `PACE_S_SCALE`: for segments whose vehicles are not counted."""
    OCCUPANCY_LANE_MS = 7
    """Where an occupancy was measured."""
    OCCUPANCY = 8
    """Sum of occupancy times lane seconds, `OCCUPANCY_S_SCALE`."""


FIELDS = len(Field)


@dataclass(frozen=True, slots=True)
class Places:
    """Where detectors of one partition count; arrays have shape (detectors of the network,).

    ``column`` is the segment's position among the partition's segments; ``lanes`` the lanes that the detector covers.
    """

    column: IntArray
    lanes: LongArray

    @classmethod
    def of(cls, network: Network, partition: int) -> Places:
        """Return the places of one partition; detectors of others are not asked for."""
        position = np.zeros(len(network.segments), dtype=np.int32)
        segments = network.segments_of(partition)
        position[segments] = np.arange(len(segments), dtype=np.int32)
        return cls(position[network.detectors.segment], network.detectors.lanes.astype(np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Additions:
    """What a batch adds to one pane.

    ``columns`` are distinct positions of segments, shape (m,); ``sums`` has shape (`FIELDS`, m); ``quality`` is the
    worst `citybrain.records.Quality` told by the sources, or None where all is well.
    """

    pane: int
    columns: IntArray
    sums: LongArray
    quality: ByteArray | None


def additions(rows: Clean, places: Places, pane_ms: int) -> Iterator[Additions]:
    """Return what the rows add to each pane they overlap, panes ascending."""
    if not len(rows.row):
        return
    first, last = int(rows.from_ms.min()) // pane_ms, (int(rows.to_ms.max()) - 1) // pane_ms
    if first == last:
        yield _add(first, rows, rows.to_ms - rows.from_ms, None, places)
        return
    begins, ends = rows.from_ms // pane_ms, (rows.to_ms - 1) // pane_ms
    for pane in range(first, last + 1):
        inside = (begins <= pane) & (ends >= pane)
        if inside.any():
            part = rows.where(inside)
            overlap = np.minimum(part.to_ms, (pane + 1) * pane_ms) - np.maximum(part.from_ms, pane * pane_ms)
            yield _add(int(pane), part, overlap, overlap / (part.to_ms - part.from_ms), places)


def _add(pane: int, rows: Clean, observed_ms: LongArray, share: FloatArray | None, places: Places) -> Additions:
    column = places.column[rows.detector]
    lane_ms = places.lanes[rows.detector] * observed_ms
    vehicles = rows.count_veh if share is None else rows.count_veh * share
    lane_s = lane_ms / MS_PER_S
    scaled = np.empty((4, len(column)))
    with_speed = ~np.isnan(rows.speed_kmh)
    scaled[0] = vehicles * VEH_SCALE
    np.divide(vehicles * VEH_H_PER_KM_SCALE, rows.speed_kmh, out=scaled[1])
    np.divide(lane_s * PACE_S_SCALE, rows.speed_kmh, out=scaled[2])
    scaled[3] = lane_s * rows.occupancy * OCCUPANCY_S_SCALE
    known = ~np.isnan(scaled)
    np.copyto(scaled, 0.0, where=~known)
    whole = np.rint(scaled).astype(np.int64)
    sums = np.empty((FIELDS, len(column)), dtype=np.int64)
    sums[Field.OBSERVED_LANE_MS] = lane_ms * (known[0] | with_speed | known[3])
    sums[Field.FLOW_LANE_MS] = lane_ms * known[0]
    sums[Field.VEHICLES] = whole[0]
    sums[Field.VEHICLES_WITH_SPEED] = whole[0] * with_speed
    sums[Field.PACE_OF_VEHICLES] = whole[1]
    sums[Field.SPEED_LANE_MS] = lane_ms * with_speed
    sums[Field.PACE_OF_TIME] = whole[2]
    sums[Field.OCCUPANCY_LANE_MS] = lane_ms * known[3]
    sums[Field.OCCUPANCY] = whole[3]
    quality = rows.quality if rows.quality.any() else None
    return _by_segment(pane, column, sums, quality)


def _by_segment(pane: int, column: IntArray, sums: LongArray, quality: ByteArray | None) -> Additions:
    """Add up rows of the same segment: sorted and reduced, so that the cost does not grow with the network."""
    steps = np.diff(column)
    if (steps > 0).all():
        return Additions(pane, column, sums, quality)
    if (steps < 0).any():
        order = np.argsort(column, kind="stable")
        column, sums = column[order], sums[:, order]
        quality = None if quality is None else quality[order]
    starts = np.concatenate([[0], np.flatnonzero(np.diff(column)) + 1])
    worst = None if quality is None else np.maximum.reduceat(quality, starts)
    return Additions(pane, column[starts], np.add.reduceat(sums, starts, axis=1), worst)
