"""The store protocol: result records in, frames and arrays out. One contract suite (tests/contract) for every store.

Times are ms UTC; intervals are half-open. ``run`` is empty for the live city and the run's name for a replay.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import pandas as pd

from citybrain.records import AreaIndices, Forecasts, SegmentStates


@dataclass(slots=True)
class Batch:
    """Records to write in one transaction, each list in log order: of one pane the newest version wins."""

    states: list[SegmentStates] = field(default_factory=list)
    areas: list[AreaIndices] = field(default_factory=list)
    forecasts: list[Forecasts] = field(default_factory=list)


class Store(Protocol):
    """Time series of one city. Thread-safe; a write is durable when it returns.

    Frames have the wire names as columns, ``time_start_ms`` for the pane's start, missing as NaN, rows by time.
    """

    def write(self, batch: Batch, *, run: str = "") -> None:
        """Upsert by (run, partition, pane), newest version wins. Raises `StoreError`, or `StoreRefused` for good."""
        ...

    def latest_states(self, *, run: str = "") -> list[SegmentStates]:
        """Return the newest closed pane of each partition."""
        ...

    def latest_areas(self, *, run: str = "") -> AreaIndices | None:
        """Return the newest pane of area indices."""
        ...

    def latest_forecasts(self, *, run: str = "") -> list[Forecasts]:
        """Return the newest forecasts of each partition."""
        ...

    def changes_since(self, write_id: int, *, run: str = "") -> tuple[int, list[SegmentStates]]:
        """Return states written after ``write_id`` and the id to ask with next; (0 asks for what is newest)."""
        ...

    def states(self, from_ms: int, to_ms: int, *, run: str = "") -> pd.DataFrame:
        """Return all segments' states by pane, segment."""
        ...

    def areas(self, from_ms: int, to_ms: int, *, area: int | None = None, run: str = "") -> pd.DataFrame:
        """Return area indices by pane, area."""
        ...

    def series(
        self, segment: int, from_ms: int, to_ms: int, *, step_ms: int | None = None, run: str = ""
    ) -> pd.DataFrame:
        """Return one segment's panes, or means over ``step_ms`` recomputed from sums."""
        ...

    def heatmap(self, segments: list[int], from_ms: int, to_ms: int, *, step_ms: int, run: str = "") -> pd.DataFrame:
        """Return speed_kmh by time_start_ms (index) and segment (columns, in the given order)."""
        ...

    def ranking(self, from_ms: int, to_ms: int, *, limit: int = 20, run: str = "") -> pd.DataFrame:
        """Return the segments with most delay: segment, delay_veh_h, speed_kmh, tti, level."""
        ...

    def typical(self, *, timezone: str, before_ms: int, days: int = 28) -> pd.DataFrame:
        """Return by segment, day_type (`citybrain.typical`) and 15-min bin: n, speed_kmh, speed_sd_kmh, flow_vph."""
        ...

    def typical_areas(self, *, timezone: str, before_ms: int, days: int = 28) -> pd.DataFrame:
        """Return per area, day_type and 15-min bin: n, mean and ``_sd`` of each of `citybrain.typical.AREA_METRICS`."""
        ...

    def forecast_of(self, segment: int, *, run: str = "") -> pd.DataFrame:
        """Return the newest forecast: time_ms, horizon_min, mean_kmh, q10_kmh, q50_kmh, q90_kmh, p_congested."""
        ...

    def records(self, from_ms: int, to_ms: int, *, run: str = "") -> Batch:
        """Return the panes that begin in [from, to) as the records they were written as, by time.

        Of forecasts a store has the newest only: they are there if made for a pane of the interval.
        """
        ...

    def bins(self, from_ms: int, to_ms: int, *, run: str = "") -> pd.DataFrame:
        """Return the rolled-up sums (`infra.stores.sums.SUMS`, quality) by time_start_ms, segment."""
        ...

    def write_bins(self, sums: pd.DataFrame, *, run: str = "") -> None:
        """Put sums in the place of bins, all segments of a partition in a bin at once: their panes may be gone."""
        ...

    def runs(self) -> list[str]:
        """Return the replay runs it holds."""
        ...

    def delete_run(self, run: str) -> None:
        """Forget a replay run."""
        ...

    def retain(self, days: int, *, rollup_days: int = 400) -> None:
        """Let go of live states older than ``days`` before the newest pane; of bins and areas after ``rollup_days``."""
        ...

    def close(self) -> None:
        """Flush and let go of files and connections."""
        ...
