"""A typical week from a stream of results: records of a run in, `Typical` out, in memory that does not grow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from citybrain.network import Network
from citybrain.records import AreaIndices, SegmentStates
from citybrain.typical import AREA_METRICS, BINS, DAY_TYPES, Typical, day_type_and_bin
from citybrain.units import MS_PER_H
from models.typical import assembled

Small = npt.NDArray[np.float32]
_BIN_MS = 900_000


class WeekOfStates:
    """Eats `SegmentStates` and `AreaIndices` of a run (offline, or a replay) and gives the typical week.

    Each day's quarter of an hour is averaged first; mean and standard deviation are those between days. Only first
    closes count. Days may come partition by partition, but in order of time within one.
    """

    def __init__(self, network: Network, timezone: str, made_of: str) -> None:
        self._network, self._timezone, self._made_of = network, timezone, made_of
        self._speed = _Moments.of(1, len(network.segments))
        self._flow = _Moments.of(1, len(network.segments))
        self._areas = _Moments.of(len(AREA_METRICS), len(network.areas))
        self._panes = np.zeros((len(DAY_TYPES), BINS, len(network.segments)), dtype=np.float32)
        self._open: dict[int, _Quarter] = {}

    def add_states(self, states: SegmentStates) -> None:
        """Take one pane of one partition; anything but its first close is ignored."""
        if states.revision != 0:
            return
        quarter = self._quarter(states.partition, states.pane_start_ms, states.segment, 2)
        quarter.add(np.stack([states.speed_kmh, states.flow_vph]))

    def add_areas(self, areas: AreaIndices) -> None:
        """Take one pane of area indices; anything but its first close is ignored."""
        if areas.revision != 0:
            return
        quarter = self._quarter(-1, areas.pane_start_ms, areas.area, len(AREA_METRICS))
        quarter.add(np.stack([_area_metric(areas, name) for name in AREA_METRICS]))

    def typical(self) -> Typical:
        """Return the week so far; more may be added afterwards."""
        for key in list(self._open):
            self._close(key)
        speed, flow, areas = self._speed, self._flow, self._areas
        return assembled(
            self._network.version,
            self._made_of,
            self._panes.astype(np.float64),
            [speed.mean_or_nan()[0], speed.sd()[0], flow.mean_or_nan()[0]],
            areas.mean_or_nan(),
            areas.sd(),
        )

    def _quarter(self, key: int, pane_start_ms: int, row: npt.NDArray[np.int32], metrics: int) -> _Quarter:
        number = pane_start_ms // _BIN_MS
        quarter = self._open.get(key)
        if quarter is None or quarter.number != number:
            if quarter is not None:
                self._close(key)
            quarter = self._open[key] = _Quarter.of(number, row, metrics)
        return quarter

    def _close(self, key: int) -> None:
        quarter = self._open.pop(key)
        day_type, place = day_type_and_bin(quarter.number * _BIN_MS, self._timezone)
        at = (day_type, int(place))
        means = quarter.means()
        if key < 0:
            self._areas.add(at, quarter.row, means)
            return
        self._speed.add(at, quarter.row, means[:1])
        self._flow.add(at, quarter.row, means[1:])
        self._panes[at][quarter.row] += quarter.n[0]


def _area_metric(areas: AreaIndices, name: str) -> npt.NDArray[np.float64]:
    if name == "delay_veh_h_per_h":
        return areas.delay_veh_h * (MS_PER_H / areas.pane_ms)
    return cast("npt.NDArray[np.float64]", getattr(areas, name))


@dataclass(slots=True)
class _Quarter:
    """Sums of one day's quarter of an hour, shape (metrics, rows)."""

    number: int
    row: npt.NDArray[np.int32]
    n: npt.NDArray[np.float64]
    total: npt.NDArray[np.float64]

    @classmethod
    def of(cls, number: int, row: npt.NDArray[np.int32], metrics: int) -> _Quarter:
        return cls(number, row, np.zeros((metrics, len(row))), np.zeros((metrics, len(row))))

    def add(self, values: npt.NDArray[np.float64]) -> None:
        known = ~np.isnan(values)
        self.n += known
        self.total += np.where(known, values, 0.0)

    def means(self) -> npt.NDArray[np.float64]:
        unknown = np.full(self.n.shape, np.nan)
        return cast("npt.NDArray[np.float64]", np.divide(self.total, self.n, out=unknown, where=self.n > 0))


@dataclass(slots=True)
class _Moments:
    """Welford's running mean and squared deviations between days, shape (metrics, 3, 96, rows)."""

    days: Small
    mean: Small
    squares: Small

    @classmethod
    def of(cls, metrics: int, rows: int) -> _Moments:
        shape = (metrics, len(DAY_TYPES), BINS, rows)
        return cls(*(np.zeros(shape, dtype=np.float32) for _ in range(3)))

    def add(self, at: tuple[int, int], row: npt.NDArray[np.int32], values: npt.NDArray[np.float64]) -> None:
        known = ~np.isnan(values)
        for metric, is_known in enumerate(known):
            cell = (metric, *at)
            rows, value = row[is_known], values[metric][is_known].astype(np.float32)
            self.days[cell][rows] += 1
            step = value - self.mean[cell][rows]
            self.mean[cell][rows] += step / self.days[cell][rows]
            self.squares[cell][rows] += step * (value - self.mean[cell][rows])

    def mean_or_nan(self) -> npt.NDArray[np.float64]:
        return np.where(self.days > 0, self.mean, np.nan).astype(np.float64)

    def sd(self) -> npt.NDArray[np.float64]:
        """Between days; NaN with one day only, so that another type of day stands in."""
        spread = np.full(self.days.shape, np.nan)
        np.divide(self.squares, self.days - 1, out=spread, where=self.days > 1)
        return cast("npt.NDArray[np.float64]", np.sqrt(spread))
