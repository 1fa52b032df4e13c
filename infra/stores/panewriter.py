"""What a write does to the tables of the DuckDB store: records in, rows and rolled-up bins in one transaction out.

A record that is not newer than what is stored is dropped; one that is takes the place of its pane's rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from citybrain.network import AREA_LEVELS, Network
from citybrain.records import AreaIndices, Forecasts, SegmentStates, encode
from infra.stores import schema
from infra.stores.duckfile import insert
from infra.stores.newest import R, bin_length_ms, newest_forecasts, newest_of
from infra.stores.packing import AREAS, Packing
from infra.stores.sums import SUMS, sums_of_states


class PaneWriter:
    """Writes records in the caller's transaction; ``write_id`` counts the panes written."""

    def __init__(self, network: Network, packing: Packing, pane_ms: int, write_id: int) -> None:
        self._packing, self._pane_ms = packing, pane_ms
        self.bin_ms = bin_length_ms(pane_ms)
        self.write_id = write_id
        self.streets = np.flatnonzero(network.areas.level == AREA_LEVELS.index("street"))

    def states(self, writer: duckdb.DuckDBPyConnection, run: int, records: list[SegmentStates]) -> int:
        """Write the panes that are new; return the newest write id, 0 where nothing was new."""
        fresh = self._fresh(
            writer, "state", run, newest_of(records, lambda record: (record.partition, record.pane_start_ms))
        )
        if not fresh:
            return 0
        sizes = [len(state.segment) for state in fresh]
        panes = self._panes(run, fresh)
        insert(writer, "state_panes", panes | {"partition": [state.partition for state in fresh]})
        keys = {name: np.repeat(np.array(panes[name]), sizes) for name in ("run", "write_id", "pane_start_ms")}
        keys["partition"] = np.repeat([state.partition for state in fresh], sizes)
        insert(writer, "states", keys | self._packing.pack(fresh))
        for partition in sorted({state.partition for state in fresh}):
            touched = {state.pane_start_ms for state in fresh if state.partition == partition}
            self._roll(writer, run, partition, touched)
        return self.write_id

    def areas(self, writer: duckdb.DuckDBPyConnection, run: int, records: list[AreaIndices]) -> None:
        """Write the panes that are new."""
        fresh = self._fresh(writer, "area", run, newest_of(records, lambda record: (0, record.pane_start_ms)))
        if not fresh:
            return
        panes = self._panes(run, fresh)
        insert(writer, "area_panes", panes)
        sizes = [len(area.area) for area in fresh]
        keys = {name: np.repeat(np.array(panes[name]), sizes) for name in ("run", "write_id", "pane_start_ms")}
        rows = pa.table(keys | AREAS.pack(fresh))
        street = np.isin(rows.column("area").to_numpy(), self.streets)
        for table, chosen in (("city_areas", ~street), ("street_areas", street)):
            if chosen.any():
                part = rows.filter(pa.array(chosen))
                insert(writer, table, dict(zip(part.column_names, part.columns, strict=True)))

    def forecasts(self, writer: duckdb.DuckDBPyConnection, run: int, records: list[Forecasts]) -> None:
        """Keep the newest forecast of each partition."""
        for forecast in newest_forecasts(records):
            place = [run, forecast.partition]
            order = (forecast.pane_start_ms, forecast.version)
            known = writer.execute(
                "SELECT pane_start_ms, version FROM forecasts WHERE run = ? AND partition = ?", place
            ).fetchall()
            if not known or known[0] < order:
                # Only the newest is kept: a city's forecasts of one minute are as large as its states of an hour.
                writer.execute("DELETE FROM forecasts WHERE run = ? AND partition = ?", place)
                writer.execute("INSERT INTO forecasts VALUES (?, ?, ?, ?, ?)", [*place, *order, encode(forecast)])

    def _fresh(self, writer: duckdb.DuckDBPyConnection, kind: str, run: int, records: list[R]) -> list[R]:
        """Return the records that are newer than what is stored, whose rows are deleted."""
        if not records:
            return []
        starts = [record.pane_start_ms for record in records]
        partition = "partition" if kind == "state" else "0"
        known = {
            (row[0], row[1]): (row[2], row[3])
            for row in writer.execute(
                f"SELECT {partition}, pane_start_ms, version, write_id FROM {kind}_panes"  # noqa: S608
                " WHERE run = ? AND pane_start_ms BETWEEN ? AND ?",
                [run, min(starts), max(starts)],
            ).fetchall()
        }
        fresh, replaced = [], []
        for record in records:
            version, write_id = known.get((getattr(record, "partition", 0), record.pane_start_ms), (-1, None))
            if record.version > version:
                fresh.append(record)
                replaced += [] if write_id is None else [write_id]
        if replaced:
            for table in schema.TABLES_OF[kind]:
                writer.execute(
                    f"DELETE FROM {table} WHERE pane_start_ms BETWEEN ? AND ? AND list_contains(?, write_id)",  # noqa: S608
                    [min(starts), max(starts), replaced],
                )
        return fresh

    def _panes(self, run: int, records: Sequence[SegmentStates | AreaIndices]) -> dict[str, list[Any]]:
        first = self.write_id + 1
        self.write_id += len(records)
        return {
            "run": [run] * len(records),
            "write_id": list(range(first, first + len(records))),
            "pane_start_ms": [record.pane_start_ms for record in records],
            "version": [record.version for record in records],
            "revision": [record.revision for record in records],
            "status": [record.status for record in records],
        }

    def _roll(self, writer: duckdb.DuckDBPyConnection, run: int, partition: int, touched: set[int]) -> None:
        """Make the bins that are over, and those that changed, from their panes."""
        known = writer.execute("SELECT end_ms FROM rolled WHERE run = ? AND partition = ?", [run, partition]).fetchall()
        old_end: int = known[0][0] if known else min(touched) // self.bin_ms * self.bin_ms
        end = max(old_end, (max(touched) + self._pane_ms) // self.bin_ms * self.bin_ms)
        changed = sorted({pane // self.bin_ms * self.bin_ms for pane in touched if pane < old_end})
        first = min([*changed, old_end])
        if not known:
            writer.execute("INSERT INTO rolled VALUES (?, ?, ?)", [run, partition, end])
        if end == old_end and not changed:
            return
        if changed:
            writer.execute(
                "DELETE FROM segment_5min WHERE run = ? AND partition = ? AND list_contains(?, time_start_ms)",
                [run, partition, changed],
            )
        rows = writer.sql(
            "SELECT * FROM states WHERE run = ? AND partition = ? AND pane_start_ms >= ? AND pane_start_ms < ?"
            " AND (pane_start_ms >= ? OR list_contains(?, pane_start_ms // ? * ?)) ORDER BY pane_start_ms",
            params=[run, partition, first, end, old_end, changed, self.bin_ms, self.bin_ms],
        ).to_arrow_table()
        if rows.num_rows:
            self._insert_bins(writer, run, partition, self._sums(rows))
        writer.execute("UPDATE rolled SET end_ms = ? WHERE run = ? AND partition = ?", [end, run, partition])

    def bins(self, writer: duckdb.DuckDBPyConnection, run: int, partition: int, sums: pd.DataFrame) -> None:
        """Put sums of one partition in the place of its bins."""
        starts = sorted(set(sums["time_start_ms"].tolist()))
        writer.execute(
            "DELETE FROM segment_5min WHERE run = ? AND partition = ? AND list_contains(?, time_start_ms)",
            [run, partition, starts],
        )
        self._insert_bins(writer, run, partition, sums)
        end = starts[-1] + self.bin_ms
        known = writer.execute("SELECT end_ms FROM rolled WHERE run = ? AND partition = ?", [run, partition]).fetchall()
        if not known:
            writer.execute("INSERT INTO rolled VALUES (?, ?, ?)", [run, partition, end])
        elif known[0][0] < end:
            # From now on all before the new end counts as rolled up: so it must be.
            loose = writer.sql(
                "SELECT * FROM states WHERE run = ? AND partition = ? AND pane_start_ms >= ? AND pane_start_ms < ?"
                " AND NOT list_contains(?, pane_start_ms // ? * ?) ORDER BY pane_start_ms",
                params=[run, partition, known[0][0], end, starts, self.bin_ms, self.bin_ms],
            ).to_arrow_table()
            self._insert_bins(writer, run, partition, self._sums(loose))
            writer.execute("UPDATE rolled SET end_ms = ? WHERE run = ? AND partition = ?", [end, run, partition])

    def _sums(self, rows: pa.Table) -> pd.DataFrame:
        return sums_of_states(self._packing.unpack(rows), rows.column("pane_start_ms").to_numpy(), self.bin_ms)

    def _insert_bins(self, writer: duckdb.DuckDBPyConnection, run: int, partition: int, sums: pd.DataFrame) -> None:
        columns = {name: sums[name].to_numpy() for name in ("time_start_ms", "segment", *SUMS, "quality")}
        keys = {"run": np.full(len(sums), run), "partition": np.full(len(sums), partition)}
        insert(writer, "segment_5min", keys | columns)
