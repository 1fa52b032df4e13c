"""Reading whole panes of the InfluxDB store: marks and conditions in, columns of rows out.

The server knows no transaction over several lines. So a row counts only if its version is the one that its pane's mark
names, and a pane only if it has as many rows as its mark says. What is torn (a revision is being written, or its writer
died) is read again and then left out: it reads as missing, never as whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import structlog

from citybrain.network import IntArray, Network
from citybrain.records import LongArray
from infra.stores.influxschema import STATES, Mark, Measure, Schema, marks_of
from infra.stores.influxserver import InfluxServer, Table
from infra.stores.packing import Columns

ROWS_A_QUERY = 200_000
TRIES = 5
AGAIN_S = 0.1
MARK_COLUMNS = ("version", "write_id", "rows", "revision", "status", "partition")
BoolArray = npt.NDArray[np.bool_]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Buckets:
    """Names of a city's buckets: panes of segments, roll-ups, and what has no age limit (replay runs, forecasts)."""

    states: str

    @property
    def rollups(self) -> str:
        """Return the bucket of roll-ups and areas."""
        return f"{self.states}_rollups"

    @property
    def runs(self) -> str:
        """Return the bucket of replay runs and of the newest forecasts."""
        return f"{self.states}_runs"

    @property
    def all(self) -> tuple[str, str, str]:
        """Return all of them."""
        return self.states, self.rollups, self.runs

    def of(self, measure: Measure, run: str) -> str:
        """Return where rows of this kind are."""
        if run:
            return self.runs
        return self.states if measure is STATES else self.rollups


@dataclass(frozen=True, slots=True)
class Whole:
    """Marks that hold, by time and partition, and their rows by time and index."""

    marks: list[Mark]
    rows: Columns


class Reader:
    """Reads rows that their marks vouch for."""

    def __init__(self, server: InfluxServer, schema: Schema, buckets: Buckets, network: Network, pane_ms: int) -> None:
        self._server, self._schema, self._buckets = server, schema, buckets
        self._partition: IntArray = network.segments.partition
        self._pane_ms = pane_ms

    def marks(self, measure: Measure, run: str, condition: str = "") -> list[Mark]:
        """Return the marks that a condition chooses, by time."""
        return self._marks(measure, run, ", ".join(f'"{name}"' for name in MARK_COLUMNS), condition)

    def marks_between(
        self, measure: Measure, run: str, from_ms: int, to_ms: int, partitions: Sequence[int] | None = None
    ) -> list[Mark]:
        """Return the marks of panes that begin in [from, to), by time."""
        if to_ms <= from_ms:
            return []
        condition = f"time >= {from_ms}ms AND time < {to_ms}ms"
        if partitions is not None:
            condition += " AND (" + " OR ".join(f"\"partition\" = '{at}'" for at in sorted(set(partitions))) + ")"
        return self.marks(measure, run, condition)

    def newest_marks(self, measure: Measure, run: str) -> list[Mark]:
        """Return the newest mark of each partition, by partition."""
        return self._edge_marks(measure, run, "last")

    def oldest_ms(self, measure: Measure, run: str) -> int | None:
        """Return the time of the oldest pane."""
        return min((mark.start_ms for mark in self._edge_marks(measure, run, "first")), default=None)

    def _edge_marks(self, measure: Measure, run: str, edge: str) -> list[Mark]:
        others = ", ".join(f'"{name}"' for name in MARK_COLUMNS[1:-1])
        chosen = f'{edge}("version") AS "version", {others}'
        return sorted(self._marks(measure, run, chosen, "", ' GROUP BY "partition"'), key=lambda mark: mark.partition)

    def _marks(self, measure: Measure, run: str, chosen: str, condition: str, ending: str = "") -> list[Mark]:
        where = self._schema.where(run) + (f" AND {condition}" if condition else "")
        sql = f'SELECT {chosen} FROM "{measure.marks}" WHERE {where}{ending}'  # noqa: S608
        return marks_of(self._server.query(self._buckets.of(measure, run), sql))

    def whole(
        self,
        measure: Measure,
        run: str,
        choose: Callable[[], list[Mark]],
        *,
        condition: str = "",
        complete: bool = True,
    ) -> Whole:
        """Return the rows of the marks that ``choose`` gives; ``complete`` where the condition leaves no row out."""
        for again in range(TRIES):
            if again:
                time.sleep(AGAIN_S)
            found, torn = self._try(measure, run, choose(), condition, complete=complete)
            if not torn:
                return found
        log.warning("torn_panes_left_out", measurement=measure.rows, panes=torn, run=run)
        return found

    def _try(
        self, measure: Measure, run: str, marks: list[Mark], condition: str, *, complete: bool
    ) -> tuple[Whole, int]:
        spans = self._spans(marks) if complete else [(marks[0].start_ms, marks[-1].start_ms)] if marks else []
        tables = [self._rows(measure, run, span, condition) for span in spans]
        parts = [self._schema.columns(measure, table) for table in tables] or [self._schema.columns(measure, Table())]
        rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        place = np.lexsort((rows[measure.index], rows["time"]))
        rows = {name: values[place] for name, values in rows.items()}
        return self._vouched(measure, marks, rows, complete=complete)

    def _vouched(self, measure: Measure, marks: list[Mark], rows: Columns, *, complete: bool) -> tuple[Whole, int]:
        """Keep the rows whose mark names their version; returns how many marks' rows are torn, too."""
        keys = _keys([mark.start_ms for mark in marks], [mark.partition for mark in marks])
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        version = np.array([mark.version for mark in marks], dtype=np.int64)[order]
        wanted = np.array([mark.rows for mark in marks], dtype=np.int64)[order]
        key = _keys(rows["time"], self._partition[rows["segment"]] if measure.index == "segment" else 0)
        at: LongArray = np.searchsorted(keys, key)
        known: BoolArray = at < len(keys)
        known[known] = keys[at[known]] == key[known]
        right: BoolArray = known.copy()
        right[known] = version[at[known]] == rows["version"][known]
        torn: BoolArray = np.zeros(len(marks), dtype=np.bool_)
        if complete:
            torn = np.bincount(at[right], minlength=len(marks)) != wanted
            right[right] = ~torn[at[right]]
        else:
            torn[at[known & ~right]] = True
        held = [marks[place] for place in order[~torn].tolist()]
        return Whole(held, {name: values[right] for name, values in rows.items()}), int(torn.sum())

    def _rows(self, measure: Measure, run: str, span: tuple[int, int], condition: str) -> Table:
        where = f"{self._schema.where(run)} AND time >= {span[0]}ms AND time <= {span[1]}ms"
        where += f" AND {condition}" if condition else ""
        # Each column costs the server a cursor a series, even where nothing was written.
        for derived in (False, True):
            chosen = self._schema.select(measure, derived=derived)
            sql = f'SELECT {chosen} FROM "{measure.rows}" WHERE {where}'  # noqa: S608
            table = self._server.query(self._buckets.of(measure, run), sql)
            if not self._schema.needs_derived(measure, table):
                break
        return table

    def _spans(self, marks: list[Mark]) -> list[tuple[int, int]]:
        """Cut the marks' times into spans without long gaps, none of too many rows; both ends belong to a span."""
        spans: list[tuple[int, int]] = []
        rows, longest = 0, 10 * self._pane_ms
        for mark in sorted(marks, key=lambda mark: mark.start_ms):
            rows += mark.rows
            if spans and (
                mark.start_ms == spans[-1][1] or (mark.start_ms - spans[-1][1] <= longest and rows <= ROWS_A_QUERY)
            ):
                spans[-1] = spans[-1][0], mark.start_ms
            else:
                spans.append((mark.start_ms, mark.start_ms))
                rows = mark.rows
        return spans


def _keys(start_ms: npt.ArrayLike, partition: npt.ArrayLike) -> LongArray:
    # No city has so many partitions.
    return np.asarray(start_ms, dtype=np.int64) * 4096 + np.asarray(partition, dtype=np.int64)
