"""Indices of areas: sums over true segments in, TTI and TPI over time beside the published ones out.

Indices are derived from summed vehicle-hours, as the platform does: TTI = max(1, VHT / VHT at free flow), DTP =
1 - 1 / TTI, TPI by GB/T 33171-2016 appendix C. Longer intervals sum first, then divide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from citybrain.indices import delay_time_proportion, ratio, traffic_performance_index
from citybrain.network import Network
from citybrain.units import MS_PER_H
from simulators.judgement.errors import Score
from simulators.judgement.panes import LongArray, Panes

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AreaSeries:
    """Sums of some areas over time; arrays have shape (panes, areas).

    Attributes
    ----------
    start_ms
        Start of each pane, ms UTC, shape (panes,).
    vkt, vht, vht_free
        Vehicle-kilometres, vehicle-hours, and those at free flow; NaN where not known.
    """

    start_ms: LongArray
    vkt: FloatArray
    vht: FloatArray
    vht_free: FloatArray

    @property
    def tti(self) -> FloatArray:
        """Travel time index, at least 1."""
        return np.maximum(1.0, ratio(self.vht, self.vht_free))

    @property
    def tpi(self) -> FloatArray:
        """Traffic performance index, 0 to 10."""
        return traffic_performance_index(delay_time_proportion(self.tti))

    def over(self, panes_ms: int) -> AreaSeries:
        """Return the series over intervals of ``panes_ms`` that begin at multiples of it."""
        start, of = np.unique(self.start_ms // panes_ms, return_inverse=True)

        def summed(values: FloatArray) -> FloatArray:
            total = np.zeros((len(start), values.shape[1]))
            np.add.at(total, of, values)
            return total

        return AreaSeries(start * panes_ms, summed(self.vkt), summed(self.vht), summed(self.vht_free))


def joined(parts: list[AreaSeries]) -> AreaSeries:
    """Return series that follow one another as one."""
    return AreaSeries(
        np.concatenate([p.start_ms for p in parts]),
        np.concatenate([p.vkt for p in parts]),
        np.concatenate([p.vht for p in parts]),
        np.concatenate([p.vht_free for p in parts]),
    )


class Members:
    """Which segments lie in which areas.

    Parameters
    ----------
    network
        The city.
    areas
        Rows of the areas that are wanted, shape (areas,).
    """

    def __init__(self, network: Network, areas: npt.NDArray[np.int64]) -> None:
        table, n = network.segments, len(network.segments)
        self.areas = areas
        inside = np.stack([np.zeros(n, np.int64), table.district, table.street])
        rows, columns = [], []
        for row, area in enumerate(areas.tolist()):
            members = np.flatnonzero((inside == area).any(axis=0))
            rows.append(np.full(len(members), row))
            columns.append(members)
        at = (np.concatenate(columns), np.concatenate(rows))
        self._member = csr_matrix((np.ones(len(at[0])), at), shape=(n, len(areas)))
        self._length_km, self._free_kmh = table.length_km, table.free_flow_kmh

    def series(self, panes: Panes, only: npt.NDArray[np.bool_] | None = None) -> AreaSeries:
        """Return the sums over the segments of each area, of those where ``only`` (panes, segments) is true."""
        hours = panes.pane_ms / MS_PER_H
        known = ~np.isnan(panes.flow_vph) & ~np.isnan(panes.vehicles)
        known = known if only is None else known & only
        vkt = np.where(known, panes.flow_vph, 0.0) * self._length_km * hours
        vht = np.where(known, panes.vehicles, 0.0).astype(np.float64) * hours
        starts = panes.start_ms + panes.pane_ms * np.arange(len(panes))
        return AreaSeries(starts, vkt @ self._member, vht @ self._member, (vkt / self._free_kmh) @ self._member)


def index_error(truth: FloatArray, published: FloatArray, bound: float) -> Score:
    """Return the error of an index over time; ``within`` is the share not off by more than ``bound``."""
    known = ~np.isnan(truth) & ~np.isnan(published)
    n = int(known.sum())
    if not n:
        return Score(0, *[float("nan")] * 6)
    error = published[known] - truth[known]
    return Score(
        n,
        float(truth[known].mean()),
        float(error.mean()),
        float(np.abs(error).mean()),
        float(np.sqrt((error**2).mean())),
        float((np.abs(error) / np.where(truth[known] == 0, np.nan, truth[known])).mean()),
        float((np.abs(error) <= bound).mean()),
    )
