"""What is usual: sums of a day by quarter of an hour in, mean and deviation between days by type of day out. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from citybrain.indices import delay_time_proportion, ratio, traffic_performance_index
from citybrain.network import FloatArray
from citybrain.typical import AREA_METRICS, BINS, DAY_TYPES, day_type_and_bin
from citybrain.units import MS_PER_H

QUARTER_MS = 900_000
Cells = npt.NDArray[np.int64]


def quarters(from_ms: int, to_ms: int, timezone: str) -> dict[int, int]:
    """Return for each quarter of an hour (since 1970) in the interval its cell, ``day_type * 96 + bin``, by civil time.

    Examples
    --------
    >>> quarters(0, 1_800_000, "Europe/Lisbon")  # Thursday 01:00 and 01:15
    {0: 4, 1: 5}
    """
    found = {}
    for quarter in range(from_ms // QUARTER_MS, -(-to_ms // QUARTER_MS)):
        day_type, place = day_type_and_bin(quarter * QUARTER_MS, timezone)
        found[quarter] = day_type * BINS + int(place)
    return found


@dataclass(slots=True)
class _Moments:
    """Count, mean and squared deviations of one quantity, day after day (Welford), shape (cells, items)."""

    n: FloatArray
    mean: FloatArray
    squares: FloatArray

    @classmethod
    def empty(cls, items: int) -> _Moments:
        return cls(*(np.zeros((len(DAY_TYPES) * BINS, items)) for _ in range(3)))

    def add(self, cell: Cells, item: Cells, value: FloatArray) -> None:
        """Add values of one day; NaN is no observation. A cell that comes twice (clocks set back) counts twice."""
        order = pd.DataFrame({"cell": cell, "item": item}).groupby(["cell", "item"]).cumcount().to_numpy()
        for turn in range(int(order.max(initial=-1)) + 1):
            at = (order == turn) & ~np.isnan(value)
            place = cell[at], item[at]
            self.n[place] += 1
            step = value[at] - self.mean[place]
            self.mean[place] += step / self.n[place]
            self.squares[place] += step * (value[at] - self.mean[place])

    def means(self) -> FloatArray:
        """Return the means, NaN where nothing was seen."""
        return np.where(self.n > 0, self.mean, np.nan)

    def deviations(self) -> FloatArray:
        """Return the standard deviations between days, NaN where less than two were seen."""
        return cast(FloatArray, np.sqrt(ratio(self.squares, np.maximum(self.n - 1, 0))))


class SegmentWeek:
    """Gathers the usual speed and flow of segments, day after day."""

    def __init__(self, segments: int) -> None:
        self._speed, self._flow = _Moments.empty(segments), _Moments.empty(segments)

    def add(self, sums: pa.Table, cell_of: dict[int, int]) -> None:
        """Add the sums of one day: ``segment``, ``quarter`` and the sums of `infra.stores.sums` by them."""
        of = _floats(sums)
        cell, item = _places(sums, "segment", cell_of)
        timed = ratio(of["vkt_veh_km"], of["vht_veh_h"])
        self._speed.add(cell, item, np.where(np.isnan(timed), ratio(of["speed_panes"], of["pace_h_per_km"]), timed))
        self._flow.add(cell, item, ratio(of["flow_vph"], of["flow_panes"]))

    def frame(self) -> pd.DataFrame:
        """Return segment, day_type, bin, n (days with a speed or a flow), speed_kmh, speed_sd_kmh, flow_vph."""
        columns = {
            "n": np.maximum(self._speed.n, self._flow.n),
            "speed_kmh": self._speed.means(),
            "speed_sd_kmh": self._speed.deviations(),
            "flow_vph": self._flow.means(),
        }
        return _frame("segment", columns)


class AreaWeek:
    """Gathers the usual indices of areas, day after day."""

    def __init__(self, areas: int, pane_ms: int) -> None:
        self._pane_h = pane_ms / MS_PER_H
        self._of = {name: _Moments.empty(areas) for name in AREA_METRICS}

    def add(self, sums: pa.Table, cell_of: dict[int, int]) -> None:
        """Add the sums of one day: ``area``, ``quarter``, ``panes`` and the sums of the indices by them."""
        of = _floats(sums)
        cell, item = _places(sums, "area", cell_of)
        tti = np.maximum(1.0, ratio(of["vht_veh_h"], of["vht_free_flow_veh_h"]))
        values = {
            "tpi": traffic_performance_index(delay_time_proportion(tti)),
            "delay_veh_h_per_h": of["delay_veh_h"] / (of["panes"] * self._pane_h),
            "speed_kmh": ratio(of["vkt_veh_km"], of["vht_veh_h"]),
            "vehicles": of["vehicles"] / of["panes"],
            "congested_km": of["congested_km"] / of["panes"],
        }
        for name in AREA_METRICS:
            self._of[name].add(cell, item, values[name])

    def frame(self) -> pd.DataFrame:
        """Return area, day_type, bin, n and of each metric its mean and ``_sd``."""
        columns = {"n": np.maximum.reduce([moments.n for moments in self._of.values()])}
        for name, moments in self._of.items():
            columns |= {name: moments.means(), f"{name}_sd": moments.deviations()}
        return _frame("area", columns)


def _floats(sums: pa.Table) -> dict[str, FloatArray]:
    return {name: sums.column(name).to_numpy().astype(np.float64) for name in sums.column_names}


def _places(sums: pa.Table, index: str, cell_of: dict[int, int]) -> tuple[Cells, Cells]:
    quarter = sums.column("quarter").to_numpy()
    first = min(cell_of)
    cells = np.array([cell_of[first + at] for at in range(len(cell_of))])
    return cells[quarter - first], sums.column(index).to_numpy()


def _frame(index: str, columns: dict[str, FloatArray]) -> pd.DataFrame:
    cell, item = np.nonzero(columns["n"])
    keys = {index: item.astype(np.int32), "day_type": cell // BINS, "bin": cell % BINS}
    frame = pd.DataFrame(keys | {name: values[cell, item] for name, values in columns.items()})
    return frame.sort_values([index, "day_type", "bin"]).reset_index(drop=True)
