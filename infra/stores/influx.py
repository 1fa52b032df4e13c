"""The store on InfluxDB 2.7: result records in, frames and arrays out (`infra.stores.protocol.Store`).

It opens without the server: the first question or write meets it. Measurements are in `infra.stores.influxschema`,
what makes a pane whole is in `infra.stores.influxread`, the order of a write in `infra.stores.influxwriter`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from citybrain.errors import ConfigError
from citybrain.indices import GBT_33171_LEVEL_BREAKS
from citybrain.network import Network
from citybrain.records import AreaIndices, Forecasts, SegmentStates
from citybrain.topics import DAY_MS
from infra.stores.answers import forecast_fan, most_delayed, require_step, speeds_wide, whole_bins
from infra.stores.influxforecasts import ForecastShelf
from infra.stores.influxread import Buckets, Reader, Whole
from infra.stores.influxschema import ABOUT, BINS, CITY_AREAS, RUNS, STATES, Mark, Measure, Schema, quoted
from infra.stores.influxserver import InfluxServer
from infra.stores.influxwriter import InfluxWriter
from infra.stores.newest import refuse_deleted, refuse_foreign
from infra.stores.packing import Columns, state_packing
from infra.stores.protocol import Batch
from infra.stores.sums import SUMS, added, means, sums_of_states
from infra.stores.typicals import QUARTER_MS, AreaWeek, SegmentWeek, quarters

MOST_ALTERNATIVES = 1000
"""More segments than this are asked for by asking for all."""


class InfluxStore:
    """Time series of one city in three buckets of an InfluxDB server. Thread-safe; a write is durable when it returns.

    Parameters
    ----------
    server
        Where the buckets are.
    bucket
        Name of the first bucket; see `infra.stores.influxread.Buckets`.
    network
        Network whose segment indices and areas are stored.
    pane_ms
        Length of the city's panes, ms.
    level_breaks
        Speed ratios that end levels 1..4, for means over longer bins.
    expires
        True where the server's retention lets go of what is old; else `retain` deletes it.
    """

    def __init__(
        self,
        server: InfluxServer,
        bucket: str,
        network: Network,
        *,
        pane_ms: int,
        level_breaks: Sequence[float] = GBT_33171_LEVEL_BREAKS,
        expires: bool = True,
    ) -> None:
        self._server, self._network, self._pane_ms = server, network, pane_ms
        self._level_breaks, self._expires = tuple(level_breaks), expires
        self._buckets = Buckets(bucket)
        self._schema = Schema(network, pane_ms, state_packing(network, pane_ms))
        self._reader = Reader(server, self._schema, self._buckets, network, pane_ms)
        self._writer = InfluxWriter(server, self._schema, self._reader, self._buckets, network, pane_ms)
        self._forecasts = ForecastShelf(server, self._schema, self._buckets)
        self._writing = threading.Lock()
        self._states_from_ms: int | None = None

    # Writing

    def write(self, batch: Batch, *, run: str = "") -> None:
        """Upsert by (run, partition, pane), newest version wins: see `infra.stores.protocol.Store`."""
        refuse_foreign(batch, self._network, self._pane_ms)
        with self._writing:
            if batch.states and not run:
                refuse_deleted(batch, self._kept_from_ms())
            self._writer.write(batch, run)
            self._forecasts.write(batch.forecasts, run)

    def _kept_from_ms(self) -> int:
        if self._states_from_ms is None:
            where = f"{self._schema.where('')} AND \"run\" = ''"
            told = self._server.query(
                self._buckets.runs,
                f'SELECT "states_from_ms" FROM "{ABOUT}" WHERE {where}',  # noqa: S608
            ).columns
            self._states_from_ms = max(told.get("states_from_ms", [0]), default=0)
        return self._states_from_ms

    # Newest

    def latest_states(self, *, run: str = "") -> list[SegmentStates]:
        """Return the newest closed pane of each partition."""
        found = self._reader.whole(STATES, run, lambda: self._reader.newest_marks(STATES, run))
        return sorted(self._states_of(found), key=lambda state: state.partition)

    def changes_since(self, write_id: int, *, run: str = "") -> tuple[int, list[SegmentStates]]:
        """Return states written after ``write_id`` and the id to ask with next; (0 asks for what is newest)."""
        found = self._reader.whole(
            STATES, run, lambda: self._reader.marks(STATES, run, f'"write_id" > {int(write_id)}')
        ) if write_id else Whole(self._reader.marks(STATES, run), {})  # fmt: skip
        newest = max((mark.write_id for mark in found.marks), default=write_id)
        return newest, self._states_of(found) if write_id else self.latest_states(run=run)

    def _states_of(self, found: Whole) -> list[SegmentStates]:
        """Return the panes as records, in the order of writing."""
        states: list[SegmentStates] = []
        partition = self._network.segments.partition[found.rows["segment"]]
        for of in sorted({mark.partition for mark in found.marks}):
            mine = partition == of
            rows = {name: values[mine] for name, values in found.rows.items()}
            states += [
                SegmentStates(partition=of, **self._record(mark, rows)) for mark in found.marks if mark.partition == of
            ]
        written = {(mark.partition, mark.start_ms): mark.write_id for mark in found.marks}
        return sorted(states, key=lambda state: written[state.partition, state.pane_start_ms])

    def _record(self, mark: Mark, rows: Columns) -> dict[str, Any]:
        """Return what a record of a pane is made of; ``rows`` are by time."""
        first, end = np.searchsorted(rows["time"], (mark.start_ms, mark.start_ms + 1))
        columns = {name: values[first:end] for name, values in rows.items() if name not in {"time", "version"}}
        return {
            "network": self._network.version,
            "pane_start_ms": mark.start_ms,
            "pane_ms": self._pane_ms,
            "version": mark.version,
            "revision": mark.revision,
            "status": mark.status,
            **columns,
        }

    def latest_areas(self, *, run: str = "") -> AreaIndices | None:
        """Return the newest pane of area indices."""
        found = self._reader.whole(CITY_AREAS, run, lambda: self._reader.newest_marks(CITY_AREAS, run))
        return AreaIndices(**self._record(found.marks[0], found.rows)) if found.marks else None

    def latest_forecasts(self, *, run: str = "") -> list[Forecasts]:
        """Return the newest forecasts of each partition."""
        return self._forecasts.read(run)

    def forecast_of(self, segment: int, *, run: str = "") -> pd.DataFrame:
        """Return the newest forecast of one segment by horizon."""
        return forecast_fan(self._forecasts.read(run, int(self._network.segments.partition[segment])), segment)

    # History

    def states(self, from_ms: int, to_ms: int, *, run: str = "") -> pd.DataFrame:
        """Return all segments' states by pane, segment."""
        return _frame(self._between(STATES, run, from_ms, to_ms))

    def areas(self, from_ms: int, to_ms: int, *, area: int | None = None, run: str = "") -> pd.DataFrame:
        """Return area indices by pane, area."""
        if area is None:
            return _frame(self._between(CITY_AREAS, run, from_ms, to_ms))
        return _frame(self._between(CITY_AREAS, run, from_ms, to_ms, f"\"area\" = '{int(area)}'"))

    def _between(self, measure: Measure, run: str, from_ms: int, to_ms: int, condition: str = "") -> Whole:
        return self._reader.whole(
            measure,
            run,
            lambda: self._reader.marks_between(measure, run, from_ms, to_ms),
            condition=condition,
            complete=not condition,
        )

    def series(
        self, segment: int, from_ms: int, to_ms: int, *, step_ms: int | None = None, run: str = ""
    ) -> pd.DataFrame:
        """Return one segment's panes, or means over ``step_ms`` recomputed from sums."""
        if step_ms is not None:
            return self._means(self._sums([segment], from_ms, to_ms, step_ms, run))
        partition = [int(self._network.segments.partition[segment])]
        return _frame(
            self._reader.whole(
                STATES,
                run,
                lambda: self._reader.marks_between(STATES, run, from_ms, to_ms, partition),
                condition=_of_segments([segment]),
                complete=False,
            )
        )

    def heatmap(self, segments: list[int], from_ms: int, to_ms: int, *, step_ms: int, run: str = "") -> pd.DataFrame:
        """Return speed_kmh by time_start_ms (index) and segment (columns, in the given order)."""
        return speeds_wide(self._means(self._sums(segments, from_ms, to_ms, step_ms, run)), segments)

    def ranking(self, from_ms: int, to_ms: int, *, limit: int = 20, run: str = "") -> pd.DataFrame:
        """Return the segments with most delay: segment, delay_veh_h, speed_kmh, tti, level."""
        return most_delayed(self._means(self._sums(None, from_ms, to_ms, None, run)), limit)

    def _means(self, sums: pd.DataFrame) -> pd.DataFrame:
        return means(sums, self._network, self._pane_ms, self._level_breaks)

    def _sums(
        self, segments: Sequence[int] | None, from_ms: int, to_ms: int, step_ms: int | None, run: str
    ) -> pd.DataFrame:
        """Return sums by step and segment: of bins that lie inside a step, of the panes that no such bin holds."""
        require_step(step_ms, self._pane_ms)
        of = self._network.segments.partition
        partitions = None if segments is None else [int(of[segment]) for segment in segments]
        if partitions == [] or to_ms <= from_ms:
            segments, to_ms = [], from_ms
        condition = "" if segments is None else _of_segments(segments)
        first, last = whole_bins(from_ms, to_ms, step_ms, self._writer.bin_ms)
        rolled = self._reader.whole(
            BINS,
            run,
            lambda: self._reader.marks_between(BINS, run, first, last, partitions),
            condition=condition,
            complete=not condition,
        )
        held = {(mark.partition, mark.start_ms) for mark in rolled.marks}

        def choose() -> list[Mark]:
            marks = self._reader.marks_between(STATES, run, from_ms, to_ms, partitions)
            bin_ms = self._writer.bin_ms
            return [mark for mark in marks if (mark.partition, mark.start_ms // bin_ms * bin_ms) not in held]

        loose = self._loose(run, choose, condition)
        parts = []
        for whole, sum_up in ((rolled, _sums_of_bins), (loose, sums_of_states)):
            rows = whole.rows
            chosen = slice(None) if segments is None else np.isin(rows["segment"], segments)
            rows = {name: values[chosen] for name, values in rows.items()}
            starts = rows["time"] if step_ms else np.full(len(rows["time"]), from_ms)
            parts.append(sum_up(rows, starts, step_ms or 1))
        filled = [part for part in parts if len(part)]
        return added(pd.concat(filled)) if filled else parts[-1]

    def _loose(self, run: str, choose: Any, condition: str) -> Whole:
        """Return panes outside of bins, a span of rows at a time, so that bins between are not read for nothing."""
        return self._reader.whole(STATES, run, choose, condition=condition, complete=not condition)

    # What is usual

    def typical(self, *, timezone: str, before_ms: int, days: int = 28) -> pd.DataFrame:
        """Return by segment, day_type and 15-min bin: n, speed_kmh, speed_sd_kmh, flow_vph."""
        week = SegmentWeek(len(self._network.segments))
        for part in self._parts(BINS, before_ms, days):
            week.add(_table(self._between(BINS, "", *part), ("segment", *week.SUMS)), quarters(*part, timezone))
        return week.frame()

    def typical_areas(self, *, timezone: str, before_ms: int, days: int = 28) -> pd.DataFrame:
        """Return per area, day_type and 15-min bin: n, mean and ``_sd`` of each of the areas' usual indices."""
        week = AreaWeek(len(self._network.areas), self._pane_ms)
        for part in self._parts(CITY_AREAS, before_ms, days):
            table = _table(self._between(CITY_AREAS, "", *part), ("area", *week.SUMS[1:]))
            week.add(table.append_column("panes", pa.array(np.ones(table.num_rows))), quarters(*part, timezone))
        return week.frame()

    def _parts(self, measure: Measure, before_ms: int, days: int) -> list[tuple[int, int]]:
        oldest = self._reader.oldest_ms(measure, "")
        end_ms = before_ms // QUARTER_MS * QUARTER_MS
        parts = [(end_ms - at * DAY_MS // 4, end_ms - (at - 1) * DAY_MS // 4) for at in range(4 * days, 0, -1)]
        return [part for part in parts if oldest is not None and part[1] > oldest]

    # Moving a period to another store

    def records(self, from_ms: int, to_ms: int, *, run: str = "") -> Batch:
        """Return the panes that begin in [from, to) as the records they were written as, by time."""
        states = self._states_of(self._between(STATES, run, from_ms, to_ms))
        areas = self._between(CITY_AREAS, run, from_ms, to_ms)
        return Batch(
            states=sorted(states, key=lambda state: (state.pane_start_ms, state.partition)),
            areas=[AreaIndices(**self._record(mark, areas.rows)) for mark in areas.marks],
            forecasts=[f for f in self.latest_forecasts(run=run) if from_ms <= f.pane_start_ms < to_ms],
        )

    def bins(self, from_ms: int, to_ms: int, *, run: str = "") -> pd.DataFrame:
        """Return the rolled-up sums by time_start_ms, segment."""
        rows = self._between(BINS, run, from_ms, to_ms).rows
        return pd.DataFrame({"time_start_ms": rows["time"]} | {name: rows[name] for name in BIN_COLUMNS})

    def write_bins(self, sums: pd.DataFrame, *, run: str = "") -> None:
        """Put sums in the place of bins: all segments of a partition in a bin at once."""
        with self._writing:
            self._writer.write_bins(sums, run)

    # Runs, upkeep

    def runs(self) -> list[str]:
        """Return the replay runs it holds."""
        table = self._server.query(
            self._buckets.runs,
            f'SELECT "seen", "run" FROM "{RUNS}" WHERE {self._schema.where("")}',  # noqa: S608
        )
        return sorted(set(table.columns.get("run", [])))

    def delete_run(self, run: str) -> None:
        """Forget a replay run."""
        if not run:
            return
        with self._writing:
            self._server.delete(self._buckets.runs, f'network="{self._schema.edition}" AND run="{quoted(run)}"')
            self._writer.forget(run)

    def retain(self, days: int, *, rollup_days: int = 400) -> None:
        """Let go of live states older than ``days`` before the newest pane; of bins and areas after ``rollup_days``.

        Where the buckets have a retention of their own, the server has done so.
        """
        if not 1 <= days <= rollup_days:
            raise ConfigError(f"retention: {days} days seen, 1 to {rollup_days} allowed")
        if self._expires:
            return
        newest = max((mark.start_ms for mark in self._reader.newest_marks(STATES, "")), default=None)
        if newest is None:
            return
        # Whole bins: one whose panes are partly gone could not be made again.
        bin_ms = self._writer.bin_ms
        cut = max((newest - days * DAY_MS) // bin_ms * bin_ms, self._kept_from_ms())
        of_network = f'network="{self._schema.edition}"'
        with self._writing:
            self._server.write(self._buckets.runs, [f"{ABOUT},{self._schema.tags('')} states_from_ms={cut}i 0"])
            self._states_from_ms = cut
            self._server.delete(self._buckets.states, of_network, to_ms=cut - 1)
            self._server.delete(self._buckets.rollups, of_network, to_ms=newest - rollup_days * DAY_MS - 1)

    def close(self) -> None:
        """Let go of the connections."""
        self._server.close()


BIN_COLUMNS = ("segment", *SUMS, "quality")


def _of_segments(segments: Sequence[int]) -> str:
    if len(segments) == 1:
        return f"\"segment\" = '{int(segments[0])}'"
    if len(segments) > MOST_ALTERNATIVES:
        return ""
    return f'"segment" =~ /^({"|".join(str(int(segment)) for segment in segments)})$/'


def _sums_of_bins(rows: Columns, starts: Any, step_ms: int) -> pd.DataFrame:
    columns = {name: rows[name] for name in BIN_COLUMNS}
    return added(pd.DataFrame({"time_start_ms": starts // step_ms * step_ms, **columns}))


def _frame(whole: Whole) -> pd.DataFrame:
    columns = {name: values for name, values in whole.rows.items() if name not in {"time", "version"}}
    return pd.DataFrame({"time_start_ms": whole.rows["time"], **columns})


def _table(whole: Whole, names: Sequence[str]) -> pa.Table:
    return pa.table({"time_start_ms": whole.rows["time"], **{name: whole.rows[name] for name in names}})
