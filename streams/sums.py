"""Sums: clean readings in, integers per pane and segment out.

Everything is fixed point (`citybrain.units`): a reading's share of a pane is rounded once, so that sums depend neither
on the order nor on the cut of batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import reduce

import numpy as np

from citybrain.arrow import is_absent
from citybrain.records import ByteArray, FloatArray, LongArray
from citybrain.units import MS_PER_H, MS_PER_S, OCCUPANCY_S_SCALE, PACE_S_SCALE, VEH_H_PER_KM_SCALE, VEH_SCALE
from streams.clean import Clean
from streams.roster import BoolArray, IndexArray, Roster, Rosters

There = BoolArray | bool
"""Which values are there: all (True), none (False), or some."""


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
    """Density times time, `VEH_H_PER_KM_SCALE`: the sum of vehicles / speed, and of the density of vehicles that stood
    while nobody passed. The space-mean speed is the quotient with the field before (Edie 1963)."""
    SPEED_LANE_MS = 5
    """Where a speed was measured."""
    PACE_OF_TIME = 6
    """Sum of lane seconds / speed, `PACE_S_SCALE`: for segments whose vehicles are not counted."""
    OCCUPANCY_LANE_MS = 7
    """Where an occupancy was measured."""
    OCCUPANCY = 8
    """Sum of occupancy times lane seconds, `OCCUPANCY_S_SCALE`."""


FIELDS = len(Field)


@dataclass(frozen=True, slots=True, eq=False)
class Additions:
    """What a batch adds to one pane.

    ``columns`` are distinct positions of segments, shape (m,); ``sums`` has shape (`FIELDS`, m); ``quality`` is the
    worst `citybrain.records.Quality` told by the sources, or None where all is well.
    """

    pane: int
    columns: IndexArray
    sums: LongArray
    quality: ByteArray | None


def additions(rows: Clean, rosters: Rosters, pane_ms: int) -> Iterator[Additions]:
    """Return what the rows add to each pane they overlap, panes ascending."""
    if not len(rows.row):
        return
    first, last = rows.begin_ms // pane_ms, (rows.end_ms - 1) // pane_ms
    if first == last:
        length_ms = rows.span_ms[1] - rows.span_ms[0] if rows.span_ms else rows.to_ms - rows.from_ms
        yield _add(first, rows, length_ms, None)
        return
    begins, ends = rows.from_ms // pane_ms, (rows.to_ms - 1) // pane_ms
    for pane in range(first, last + 1):
        inside = (begins <= pane) & (ends >= pane)
        if inside.any():
            part = rows.where(inside, rosters)
            overlap = np.minimum(part.to_ms, (pane + 1) * pane_ms) - np.maximum(part.from_ms, pane * pane_ms)
            yield _add(int(pane), part, overlap, overlap / (part.to_ms - part.from_ms))


def _add(pane: int, rows: Clean, observed_ms: LongArray | int, share: FloatArray | None) -> Additions:
    lane_ms = rows.roster.lanes * observed_ms
    if rows.believed is not None:
        lane_ms = lane_ms * rows.believed
    vehicles = rows.count_veh if share is None else rows.count_veh * share
    counted, timed, covered = _there(vehicles), _there(rows.speed_kmh), _there(rows.occupancy)
    measured = _measured(vehicles, rows, lane_ms / MS_PER_S)
    _blank(measured, (counted, _both(counted, timed), timed, covered))
    if rows.standing_veh_km is not None:
        measured[_MEASURED[Field.PACE_OF_VEHICLES]] += np.rint(
            lane_ms / MS_PER_H * rows.standing_veh_km * VEH_H_PER_KM_SCALE
        )
    lanes, which = _laid_out(counted, timed, covered)
    apart = 0 if timed is True else 1
    sums = np.empty((len(measured) + len(lanes) + apart, len(vehicles)), dtype=np.int64)
    sums[: len(measured)] = measured
    for row, there in zip(sums[len(measured) :], lanes, strict=False):
        _put(row, lane_ms, there)
    if apart:
        _put(sums[-1], sums[0], timed)
    quality = rows.quality if np.count_nonzero(rows.quality) else None
    return _by_segment(pane, rows.roster, sums, which, quality)


_MEASURED = {Field.VEHICLES: 0, Field.PACE_OF_VEHICLES: 1, Field.PACE_OF_TIME: 2, Field.OCCUPANCY: 3}
_LANE_MS = Field.OBSERVED_LANE_MS, Field.FLOW_LANE_MS, Field.SPEED_LANE_MS, Field.OCCUPANCY_LANE_MS


def _laid_out(counted: There, timed: There, covered: There) -> tuple[list[There], list[int]]:
    """Return where lanes are observed, each such row once, and the row of each field.

    Rows are those measured, then lanes, then the vehicles with speed where these are not all vehicles. Most often all
    metrics are there, and lanes are observed alike by all of them.
    """
    if counted is True and timed is True and covered is True:
        return [True], _ALL_THERE
    observed = _either(counted, _either(timed, covered))
    lanes: list[There] = []
    place = dict(_MEASURED)
    for field, there in zip(_LANE_MS, (observed, counted, timed, covered), strict=True):
        at = next((at for at, known in enumerate(lanes) if known is there), len(lanes))
        lanes += [there] if at == len(lanes) else []
        place[field] = len(_MEASURED) + at
    place[Field.VEHICLES_WITH_SPEED] = place[Field.VEHICLES] if timed is True else len(_MEASURED) + len(lanes)
    return lanes, [place[field] for field in Field]


_ALL_THERE = [_MEASURED.get(field, len(_MEASURED)) for field in Field]
_ALL_THERE[Field.VEHICLES_WITH_SPEED] = _MEASURED[Field.VEHICLES]


def _measured(vehicles: FloatArray, rows: Clean, lane_s: FloatArray) -> FloatArray:
    """Return what each row adds, rounded: in the order of `_MEASURED`."""
    measured = np.empty((len(_MEASURED), len(vehicles)))
    np.multiply(vehicles, VEH_SCALE, out=measured[0])
    np.multiply(vehicles, VEH_H_PER_KM_SCALE, out=measured[1])
    np.multiply(lane_s, PACE_S_SCALE, out=measured[2])
    measured[1:3] /= rows.speed_kmh
    np.multiply(lane_s, rows.occupancy, out=measured[3])
    measured[3] *= OCCUPANCY_S_SCALE
    return np.rint(measured, out=measured)


def _blank(rows: FloatArray, there: Sequence[There]) -> None:
    """Put 0 where nothing is there."""
    for row, known in zip(rows, there, strict=True):
        if known is not True:
            row[... if known is False else ~known] = 0.0


def _put(row: LongArray, values: LongArray, there: There) -> None:
    """Fill a row with the values, 0 where nothing is there."""
    if there is True:
        row[:] = values
    else:
        np.multiply(values, there, out=row)


def _there(values: FloatArray) -> There:
    if is_absent(values):
        return False
    missing = np.isnan(values)
    count = int(np.count_nonzero(missing))
    if count in (0, len(values)):
        return count == 0
    return ~missing


def _either(a: There, b: There) -> There:
    if a is True or b is True:
        return True
    return b if a is False else a if b is False else a | b


def _both(a: There, b: There) -> There:
    if a is False or b is False:
        return False
    return b if a is True else a if b is True else a & b


def _by_segment(pane: int, roster: Roster, sums: LongArray, which: list[int], quality: ByteArray | None) -> Additions:
    """Add up rows of the same segment; ``which`` is the place of each field among the sums.

    Cumulated and cut, so that the cost grows neither with the network nor with the number of segments of the batch.
    """
    if roster.order is not None:
        sums = sums.take(roster.order, axis=1)
        quality = None if quality is None else quality[roster.order]
    if roster.ends is not None:
        if roster.each:
            sums = reduce(np.add, [sums[:, at :: roster.each] for at in range(roster.each)])
        else:
            sums = sums.cumsum(axis=1).take(roster.ends, axis=1)
            sums[:, 1:] -= sums[:, :-1]
        if quality is not None:
            quality = np.maximum.reduceat(quality, np.concatenate([[0], roster.ends[:-1] + 1]))
    return Additions(pane, roster.columns, sums.take(which, axis=0), quality)
