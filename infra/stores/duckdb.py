"""The store on one DuckDB file: result records in, frames and arrays out (`infra.stores.protocol.Store`).

Rows are appended in time order; a revision deletes the rows of its pane and appends its own. Segments are rolled up to
five minutes as soon as such a bin is over, and again when a revision comes. It serves one process: DuckDB lets no other
one open the file.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from citybrain.errors import ConfigError
from citybrain.indices import GBT_33171_LEVEL_BREAKS
from citybrain.network import Network
from citybrain.records import AreaIndices, Forecasts, SegmentStates, decode
from citybrain.topics import DAY_MS
from infra.stores import schema
from infra.stores.answers import forecast_fan, most_delayed, require_step, speeds_wide, whole_bins
from infra.stores.duckfile import in_order
from infra.stores.newest import refuse_deleted, refuse_foreign
from infra.stores.packing import AREAS, Packing, state_packing
from infra.stores.panewriter import PaneWriter
from infra.stores.protocol import Batch
from infra.stores.sums import SUMS, added, means, sums_of_states
from infra.stores.typicals import QUARTER_MS, AreaWeek, SegmentWeek, quarters

LIVE = 0


class DuckStore:
    """Time series of one city in a DuckDB file. Thread-safe; a write is durable when it returns.

    Parameters
    ----------
    path
        The file. One that was made for another network or pane is set aside under another name, never mixed.
    network
        Network whose segment indices and areas are stored.
    pane_ms
        Length of the city's panes, ms.
    level_breaks
        Speed ratios that end levels 1..4, for means over longer bins.

    Raises
    ------
    StoreError
        If the file cannot be opened, such as when another process holds it.
    """

    def __init__(
        self,
        path: Path,
        network: Network,
        *,
        pane_ms: int,
        level_breaks: Sequence[float] = GBT_33171_LEVEL_BREAKS,
    ) -> None:
        self._network, self._pane_ms, self._level_breaks = network, pane_ms, tuple(level_breaks)
        self._writing = threading.Lock()
        self._states = state_packing(network, pane_ms)
        self._file = schema.opened(path, network.version, pane_ms, self._states, AREAS)
        self._run_ids: dict[str, int] = {name: at for at, name in self._file.rows("SELECT id, name FROM runs")}
        [(newest,)] = self._file.rows("SELECT coalesce(max(write_id), 0) FROM state_panes")
        [(newest_areas,)] = self._file.rows("SELECT coalesce(max(write_id), 0) FROM area_panes")
        [(self._states_from_ms,)] = self._file.rows("SELECT states_from_ms FROM about")
        self._panes = PaneWriter(network, self._states, pane_ms, max(newest, newest_areas))
        self._newest: dict[int, int] = dict(self._file.rows("SELECT run, max(write_id) FROM state_panes GROUP BY run"))

    # Writing

    def write(self, batch: Batch, *, run: str = "") -> None:
        """Upsert by (run, partition, pane), newest version wins: see `infra.stores.protocol.Store`."""
        if not run:
            refuse_deleted(batch, self._states_from_ms)
        refuse_foreign(batch, self._network, self._pane_ms)
        with self._writing:
            with self._file.transaction() as writer:
                run_id = self._run_id(writer, run)
                newest = self._panes.states(writer, run_id, batch.states)
                self._panes.areas(writer, run_id, batch.areas)
                self._panes.forecasts(writer, run_id, batch.forecasts)
            self._run_ids[run] = run_id
            if newest:
                self._newest[run_id] = newest

    def _run_id(self, writer: duckdb.DuckDBPyConnection, run: str) -> int:
        if run in self._run_ids:
            return self._run_ids[run]
        run_id = max(self._run_ids.values()) + 1
        writer.execute("INSERT INTO runs VALUES (?, ?)", [run_id, run])
        return run_id

    # Newest

    def latest_states(self, *, run: str = "") -> list[SegmentStates]:
        """Return the newest closed pane of each partition."""
        others = ("write_id", "version", "revision", "status")
        newest = ", ".join(f"arg_max({name}, pane_start_ms) AS {name}" for name in others)
        return self._read_states(
            f"SELECT partition, max(pane_start_ms) AS pane_start_ms, {newest} FROM state_panes WHERE run = ?"  # noqa: S608
            " GROUP BY partition ORDER BY partition",
            [self._run_ids.get(run, -1)],
        )

    def changes_since(self, write_id: int, *, run: str = "") -> tuple[int, list[SegmentStates]]:
        """Return states written after ``write_id`` and the id to ask with next; (0 asks for what is newest)."""
        run_id = self._run_ids.get(run, -1)
        newest = self._newest.get(run_id, 0)
        if newest <= write_id:
            return write_id, []
        if write_id == 0:
            return newest, self.latest_states(run=run)
        return newest, self._read_states(
            "SELECT * FROM state_panes WHERE run = ? AND write_id > ? AND write_id <= ? ORDER BY write_id",
            [run_id, write_id, newest],
        )

    def _read_states(self, panes_sql: str, parameters: list[int]) -> list[SegmentStates]:
        with self._file.snapshot() as query:
            panes = {pane["write_id"]: pane for pane in query(panes_sql, parameters).to_pylist()}
            if not panes:
                return []
            # As constants, so that DuckDB passes over all other row groups.
            starts, ids = [pane["pane_start_ms"] for pane in panes.values()], ", ".join(map(str, panes))
            table = query(
                f"SELECT write_id, {', '.join(self._states.columns)} FROM states"  # noqa: S608
                f" WHERE pane_start_ms BETWEEN {min(starts)} AND {max(starts)} AND write_id IN ({ids})",
                [],
            )
        table = in_order(table, "write_id", "segment")
        rows = self._states.unpack(table)
        write_ids = table.column("write_id").to_numpy()
        firsts = np.flatnonzero(np.diff(write_ids, prepend=-1))
        found = []
        for first, last in zip(firsts, np.append(firsts, len(write_ids))[1:], strict=True):
            scalars: dict[str, Any] = {name: panes[write_ids[first]][name] for name in schema.STATE_SCALARS}
            columns: dict[str, Any] = {name: values[first:last] for name, values in rows.items()}
            found.append(SegmentStates(network=self._network.version, pane_ms=self._pane_ms, **scalars, **columns))
        return found

    def latest_areas(self, *, run: str = "") -> AreaIndices | None:
        """Return the newest pane of area indices."""
        return self._area_pane("ORDER BY pane_start_ms DESC LIMIT 1", [self._run_ids.get(run, -1)])

    def _area_pane(self, which: str, parameters: list[int]) -> AreaIndices | None:
        with self._file.snapshot() as query:
            panes = query(
                f"SELECT pane_start_ms, version, revision, status, write_id FROM area_panes WHERE run = ? {which}",  # noqa: S608
                parameters,
            ).to_pylist()
            if not panes:
                return None
            pane: dict[str, Any] = panes[0]
            place = [pane["pane_start_ms"], pane.pop("write_id")]
            table = pa.concat_tables(
                query(f"SELECT * FROM {name} WHERE pane_start_ms = ? AND write_id = ?", place)  # noqa: S608
                for name in schema.TABLES_OF["area"][1:]
            ).sort_by("area")
        columns: dict[str, Any] = dict(AREAS.unpack(table))
        return AreaIndices(network=self._network.version, pane_ms=self._pane_ms, **pane, **columns)

    def latest_forecasts(self, *, run: str = "") -> list[Forecasts]:
        """Return the newest forecasts of each partition."""
        rows = self._file.rows(
            "SELECT value FROM forecasts WHERE run = ? ORDER BY partition", [self._run_ids.get(run, -1)]
        )
        return [decode(Forecasts, value) for (value,) in rows]

    def forecast_of(self, segment: int, *, run: str = "") -> pd.DataFrame:
        """Return the newest forecast of one segment by horizon."""
        partition = int(self._network.segments.partition[segment])
        rows = self._file.rows(
            "SELECT value FROM forecasts WHERE run = ? AND partition = ?", [self._run_ids.get(run, -1), partition]
        )
        return forecast_fan([decode(Forecasts, value) for (value,) in rows], segment)

    # History

    def states(self, from_ms: int, to_ms: int, *, run: str = "") -> pd.DataFrame:
        """Return all segments' states by pane, segment."""
        return self._frame("states", self._states, from_ms, to_ms, run)

    def areas(self, from_ms: int, to_ms: int, *, area: int | None = None, run: str = "") -> pd.DataFrame:
        """Return area indices by pane, area."""
        if area is not None:
            table = "street_areas" if area in self._panes.streets else "city_areas"
            return self._frame(table, AREAS, from_ms, to_ms, run, f" AND area = {int(area)}")
        both = "(SELECT * FROM city_areas UNION ALL SELECT * FROM street_areas)"
        return self._frame(both, AREAS, from_ms, to_ms, run)

    def _frame(self, table: str, packing: Packing, from_ms: int, to_ms: int, run: str, where: str = "") -> pd.DataFrame:
        rows = self._file.query(
            f"SELECT pane_start_ms, {', '.join(packing.columns)} FROM {table}"  # noqa: S608
            f" WHERE run = ? AND pane_start_ms >= ? AND pane_start_ms < ?{where}",
            [self._run_ids.get(run, -1), from_ms, to_ms],
        )
        rows = in_order(rows, "pane_start_ms", packing.index)
        return pd.DataFrame({"time_start_ms": rows.column("pane_start_ms").to_numpy(), **packing.unpack(rows)})

    def series(
        self, segment: int, from_ms: int, to_ms: int, *, step_ms: int | None = None, run: str = ""
    ) -> pd.DataFrame:
        """Return one segment's panes, or means over ``step_ms`` recomputed from sums."""
        if step_ms is None:
            return self._frame("states", self._states, from_ms, to_ms, run, f" AND segment = {int(segment)}")
        return self._means(self._sums([segment], from_ms, to_ms, step_ms, run))

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
        """Return sums by step and segment: of bins where they lie inside a step and are over, of panes elsewhere.

        ``step_ms`` None is one step over all of it.
        """
        require_step(step_ms, self._pane_ms)
        run_id = self._run_ids.get(run, -1)
        chosen = "" if segments is None else f" AND segment IN ({', '.join(str(int(at)) for at in segments) or 'NULL'})"
        first, last = whole_bins(from_ms, to_ms, step_ms, self._panes.bin_ms)
        step = f"time_start_ms // {step_ms} * {step_ms}" if step_ms else f"{int(from_ms)}"
        with self._file.snapshot() as query:
            ends = query("SELECT partition, end_ms FROM rolled WHERE run = ?", [run_id])
            # A partition's panes from its `end_ms` on are in no bin yet.
            lowest = min(ends.column("end_ms").to_pylist(), default=first)
            rolled = query(
                f"SELECT CAST({step} AS BIGINT) AS time_start_ms, segment,"  # noqa: S608
                f" {', '.join(f'sum({name}) AS {name}' for name in SUMS)}, max(quality) AS quality FROM segment_5min"
                f" WHERE run = ? AND time_start_ms >= ? AND time_start_ms < ?{chosen} GROUP BY ALL",
                [run_id, first, last],
            )
            tables = [
                query(
                    "SELECT * FROM states WHERE run = ? AND pane_start_ms >= ?"  # noqa: S608
                    f" AND pane_start_ms < ?{chosen}",
                    [run_id, *span],
                )
                for span in ((from_ms, min(first, to_ms)), (max(first, min(last, lowest)), to_ms))
            ]
        panes = self._not_rolled(pa.concat_tables(tables), ends, first, last)
        starts = panes.column("pane_start_ms").to_numpy()
        if step_ms is None:
            starts = np.full_like(starts, from_ms)
        loose = sums_of_states(self._states.unpack(panes), starts, step_ms or 1)
        parts = [part for part in (rolled.to_pandas(), loose) if len(part)]
        return added(pd.concat(parts)) if parts else loose

    def _not_rolled(self, panes: pa.Table, ends: pa.Table, first: int, last: int) -> pa.Table:
        """Return the panes before the first whole bin, and those that no bin up to ``last`` holds."""
        end_of = np.full(self._network.partitions, last)
        end_of[ends.column("partition").to_numpy()] = np.minimum(last, ends.column("end_ms").to_numpy())
        start = panes.column("pane_start_ms").to_numpy()
        loose = (start < first) | (start >= end_of[panes.column("partition").to_numpy()])
        return panes.filter(pa.array(loose))

    # What is usual

    def typical(self, *, timezone: str, before_ms: int, days: int = 28) -> pd.DataFrame:
        """Return by segment, day_type and 15-min bin: n, speed_kmh, speed_sd_kmh, flow_vph."""
        week = SegmentWeek(len(self._network.segments))
        sql = (
            f"SELECT time_start_ms, segment, {', '.join(week.SUMS)} FROM segment_5min"  # noqa: S608
            " WHERE run = 0 AND time_start_ms >= ? AND time_start_ms < ?"
        )
        for part in self._parts("segment_5min", "time_start_ms", before_ms, days):
            week.add(self._file.query(sql, part), quarters(*part, timezone))
        return week.frame()

    def typical_areas(self, *, timezone: str, before_ms: int, days: int = 28) -> pd.DataFrame:
        """Return per area, day_type and 15-min bin: n, mean and ``_sd`` of each of the areas' usual indices."""
        week = AreaWeek(len(self._network.areas), self._pane_ms)
        both = " UNION ALL ".join(
            f"SELECT pane_start_ms AS time_start_ms, area, 1.0::DOUBLE AS panes, {', '.join(week.SUMS[1:])}"  # noqa: S608
            f" FROM {table} WHERE run = 0"
            for table in schema.TABLES_OF["area"][1:]
        )
        sql = f"SELECT * FROM ({both}) WHERE time_start_ms >= ? AND time_start_ms < ?"  # noqa: S608
        for part in self._parts("area_panes", "pane_start_ms", before_ms, days):
            week.add(self._file.query(sql, part), quarters(*part, timezone))
        return week.frame()

    def _parts(self, table: str, time: str, before_ms: int, days: int) -> list[tuple[int, int]]:
        """Cut what is there of the window into six hours each: a month of a large city needs the memory of one."""
        [(oldest,)] = self._file.rows(f"SELECT min({time}) FROM {table} WHERE run = 0")  # noqa: S608
        end_ms = before_ms // QUARTER_MS * QUARTER_MS
        parts = [(end_ms - at * DAY_MS // 4, end_ms - (at - 1) * DAY_MS // 4) for at in range(4 * days, 0, -1)]
        return [part for part in parts if oldest is not None and part[1] > oldest]

    # Moving a period to another store

    def records(self, from_ms: int, to_ms: int, *, run: str = "") -> Batch:
        """Return the panes that begin in [from, to) as the records they were written as, by time."""
        span = [self._run_ids.get(run, -1), from_ms, to_ms]
        between = "WHERE run = ? AND pane_start_ms >= ? AND pane_start_ms < ?"
        states = self._read_states(f"SELECT * FROM state_panes {between}", span)  # noqa: S608
        panes = self._file.rows(f"SELECT pane_start_ms FROM area_panes {between} ORDER BY 1", span)  # noqa: S608
        areas = [self._area_pane("AND pane_start_ms = ?", [span[0], start]) for (start,) in panes]
        return Batch(
            states=sorted(states, key=lambda state: (state.pane_start_ms, state.partition)),
            areas=[area for area in areas if area is not None],
            forecasts=[f for f in self.latest_forecasts(run=run) if from_ms <= f.pane_start_ms < to_ms],
        )

    def bins(self, from_ms: int, to_ms: int, *, run: str = "") -> pd.DataFrame:
        """Return the rolled-up sums by time_start_ms, segment."""
        rows = self._file.query(
            f"SELECT time_start_ms, segment, {', '.join(SUMS)}, quality FROM segment_5min"  # noqa: S608
            " WHERE run = ? AND time_start_ms >= ? AND time_start_ms < ? ORDER BY time_start_ms, segment",
            [self._run_ids.get(run, -1), from_ms, to_ms],
        )
        return pd.DataFrame({name: rows.column(name).to_numpy() for name in rows.column_names})

    def write_bins(self, sums: pd.DataFrame, *, run: str = "") -> None:
        """Put sums in the place of bins: all segments of a partition in a bin at once."""
        partition = self._network.segments.partition[sums["segment"].to_numpy()]
        with self._writing:
            with self._file.transaction() as writer:
                run_id = self._run_id(writer, run)
                for of in np.unique(partition).tolist():
                    self._panes.bins(writer, run_id, of, sums[partition == of])
            self._run_ids[run] = run_id

    # Runs, upkeep

    def runs(self) -> list[str]:
        """Return the replay runs it holds."""
        return sorted(name for name in self._run_ids if name)

    def delete_run(self, run: str) -> None:
        """Forget a replay run."""
        run_id = self._run_ids.get(run)
        if not run or run_id is None:
            return
        with self._writing:
            with self._file.transaction() as writer:
                for table in (*schema.TABLES_OF["state"], *schema.TABLES_OF["area"], *schema.ROLLED, "forecasts"):
                    writer.execute(f"DELETE FROM {table} WHERE run = ?", [run_id])  # noqa: S608
                writer.execute("DELETE FROM runs WHERE id = ?", [run_id])
            self._run_ids.pop(run, None)
            self._newest.pop(run_id, None)

    def retain(self, days: int, *, rollup_days: int = 400) -> None:
        """Delete live states older than ``days`` before the newest pane; bins and areas after ``rollup_days``."""
        if not 1 <= days <= rollup_days:
            raise ConfigError(f"retention: {days} days seen, 1 to {rollup_days} allowed")
        [(newest,)] = self._file.rows("SELECT max(pane_start_ms) FROM state_panes WHERE run = 0")
        if newest is None:
            return
        # Whole bins: one whose panes are partly gone could not be made again.
        cuts = {
            "states": (newest - days * DAY_MS) // self._panes.bin_ms * self._panes.bin_ms,
            "rollups": newest - rollup_days * DAY_MS,
        }
        with self._writing, self._file.transaction() as writer:
            writer.execute("UPDATE about SET states_from_ms = greatest(states_from_ms, ?)", [cuts["states"]])
            for table, column, kept in schema.RETAINED:
                writer.execute(f"DELETE FROM {table} WHERE run = 0 AND {column} < ?", [cuts[kept]])  # noqa: S608
        self._states_from_ms = max(self._states_from_ms, cuts["states"])

    def close(self) -> None:
        """Flush and let go of the file."""
        self._file.close()
