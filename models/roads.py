"""Who lies downstream of whom, as far as anybody measures: a network in, neighbour lists of one partition out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from citybrain.network import Network

Values = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]

REACH_KM = 1.0
"""How far past segments without a detector the next observed one is looked for."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Compressed rows over the m segments of a partition: row i has ``index[start[i]:start[i + 1]]``, local numbers."""

    start: IntArray
    index: IntArray

    def least(self, values: Values) -> Values:
        """Return the least known value among each row's neighbours, shape (m,); NaN where none is known."""
        count = np.diff(self.start)
        found = np.full(len(count), np.nan, dtype=np.float32)
        if len(self.index):
            rows = np.flatnonzero(count)
            # fmin ignores NaN unless all are.
            found[rows] = np.fmin.reduceat(values[self.index], self.start[rows])
        return found

    def total(self, values: Values) -> Values:
        """Return the sum of what is known among each row's neighbours, shape (m,); NaN where none is known."""
        known = ~np.isnan(values)
        row = np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))
        m = len(self.start) - 1
        sums = np.bincount(row, np.where(known, values, 0)[self.index], minlength=m)
        seen = np.bincount(row, known[self.index], minlength=m)
        return np.where(seen > 0, sums, np.nan).astype(np.float32)


def observed_downstream(network: Network) -> list[list[int]]:
    """Return for each segment the nearest observed segments that it leads into, ascending.

    Unobserved segments are passed through, up to `REACH_KM`; U-turns are left out.
    """
    observed = np.zeros(len(network.segments), dtype=bool)
    observed[network.detectors.segment] = True
    return [_next_observed(network, segment, observed) for segment in range(len(network.segments))]


def neighbours_within(leads_into: list[list[int]], network: Network, partition: int) -> Neighbours:
    """Return the part of `observed_downstream` that lies in one partition; what lies in others is not known there."""
    mine = network.segments_of(partition)
    local = np.full(len(network.segments), -1, dtype=np.int32)
    local[mine] = np.arange(len(mine))
    rows = [[int(local[j]) for j in leads_into[i] if local[j] >= 0] for i in mine]
    start = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int32)
    return Neighbours(start, np.array([j for row in rows for j in row], dtype=np.int32))


def downstream(network: Network, segment: int) -> list[int]:
    """Return the segments that ``segment`` leads into, without the one straight back."""
    start, index = network.downstream
    origin = network.segments.from_node[segment]
    return [int(j) for j in index[start[segment] : start[segment + 1]] if network.segments.to_node[j] != origin]


def _next_observed(network: Network, segment: int, observed: npt.NDArray[np.bool_]) -> list[int]:
    found, seen, front = [], {segment}, [(segment, 0.0)]
    while front:
        at, passed_km = front.pop()
        for j in downstream(network, at):
            if j in seen:
                continue
            seen.add(j)
            if observed[j]:
                found.append(j)
            elif passed_km + network.segments.length_km[j] < REACH_KM:
                front.append((j, passed_km + float(network.segments.length_km[j])))
    return sorted(found)
