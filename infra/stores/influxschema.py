"""Measurements of the InfluxDB store: records in, lines out; tables in, record columns out, bit for bit.

Tags are functions of the segment (or area) and the network, so that the number of series stays that of the segments.
Types never change: speeds, sums and shares are floats, codes, counts and versions integers, words strings. NaN is a
field that is not written. A field stays when a point is written again without it, hence ``has``: which fields the
newest writing gave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from citybrain.network import ROAD_CLASSES, FloatArray, IntArray, Network
from citybrain.records import AreaIndices, LongArray, SegmentStates
from infra.stores.influxserver import Table
from infra.stores.packing import AREAS, Columns, Packing
from infra.stores.sums import SUMS

BITS = 24
"""``has`` holds two bits a field: written, and NaN although the formula gives a number."""
ALL_AREAS = replace(AREAS, kept=(*AREAS.kept, *AREAS.derived), derived=(), predict=lambda rows: {})
"""Areas are few: all their columns are written, for whoever draws charts from InfluxDB."""


@dataclass(frozen=True, slots=True)
class Measure:
    """Names of a kind of rows: the rows' measurement, their marks' measurement, and the tag that tells rows apart."""

    rows: str
    marks: str
    index: str


STATES = Measure("states", "state_panes", "segment")
BINS = Measure("segment_5min", "segment_bins", "segment")
CITY_AREAS = Measure("areas", "area_panes", "area")
FORECASTS = Measure("forecasts", "forecast_panes", "part")
RUNS, ABOUT = "runs", "about"
MARK_FIELDS = ("version", "write_id", "rows", "revision", "status")


@dataclass(frozen=True, slots=True)
class Mark:
    """What makes a pane count: written last, it names the version whose rows are whole, and their number."""

    partition: int
    start_ms: int
    version: int
    write_id: int
    rows: int
    revision: int = 0
    status: str = "closed"

    def line(self, measure: Measure, tags: str) -> str:
        """Return the mark as a line."""
        return (
            f"{measure.marks},{tags},partition={self.partition}"
            f" version={self.version}i,write_id={self.write_id}i,rows={self.rows}i,revision={self.revision}i,"
            f'status="{self.status}" {self.start_ms}'
        )


def marks_of(table: Table) -> list[Mark]:
    """Return the marks of an answer."""
    if not len(table):
        return []
    columns = table.columns
    columns_given = (columns[name] for name in ("partition", "time", *MARK_FIELDS))
    return [
        Mark(int(partition), at, version, write_id, rows, revision, status)
        for partition, at, version, write_id, rows, revision, status in zip(*columns_given, strict=True)
    ]


class Schema:
    """Writes and reads the lines of one network.

    Parameters
    ----------
    network, pane_ms
        What the rows are of; both are in the tag ``network``, so that rows of others are never mixed in.
    states
        How states of segments are packed.
    """

    def __init__(self, network: Network, pane_ms: int, states: Packing) -> None:
        self.edition = (
            f"{network.version}-{pane_ms // 1000}s" if pane_ms % 1000 == 0 else f"{network.version}-{pane_ms}ms"
        )
        self.states = states
        segments, areas = network.segments, network.areas
        districts = [escaped(str(areas.id[at])) for at in segments.district.tolist()]
        self._segment_tags = [
            f",district={district},network={self.edition},partition={partition},road_class={ROAD_CLASSES[road_class]}"
            for district, partition, road_class in zip(
                districts, segments.partition.tolist(), segments.road_class.tolist(), strict=True
            )
        ]
        self._area_tags = [f",network={self.edition}"] * len(areas)

    def tags(self, run: str) -> str:
        """Return the tags that every mark has."""
        return f"network={self.edition}" + (f",run={escaped(run)}" if run else "")

    def where(self, run: str) -> str:
        """Return the condition that every question has."""
        return f"\"network\" = '{self.edition}'" + (f" AND \"run\" = '{quoted(run)}'" if run else "")

    def state_lines(self, state: SegmentStates, run: str) -> list[str]:
        """Return a pane's states, a line a segment."""
        prefix = self._prefixes(STATES, self._segment_tags, state.segment, run)
        return _lines(self.states, state, prefix, state.version, state.pane_start_ms)

    def area_lines(self, areas: AreaIndices, run: str) -> list[str]:
        """Return a pane's areas, a line an area."""
        prefix = self._prefixes(CITY_AREAS, self._area_tags, areas.area, run)
        return _lines(ALL_AREAS, areas, prefix, areas.version, areas.pane_start_ms)

    def bin_lines(self, sums: pd.DataFrame, write_id: int, run: str) -> list[str]:
        """Return rolled-up sums, a line a bin and segment."""
        prefix = self._prefixes(BINS, self._segment_tags, sums["segment"].to_numpy(), run)
        values = [[f"{name}={value!r}," for value in sums[name].tolist()] for name in SUMS]
        codes = zip(sums["quality"].tolist(), sums["time_start_ms"].tolist(), strict=True)
        ends = [f"quality={quality}i,version={write_id}i {at}" for quality, at in codes]
        return ["".join(parts) for parts in zip(prefix, *values, ends, strict=True)]

    def _prefixes(self, measure: Measure, tags: list[str], index: IntArray, run: str) -> list[str]:
        last = f",run={escaped(run)}" if run else ""
        if measure.index == "area":  # tags in alphabetical order, which spares the server a sort
            return [f"{measure.rows},area={at}{tags[at]}{last} " for at in index.tolist()]
        return [f"{measure.rows}{tags[at]}{last},{measure.index}={at} " for at in index.tolist()]

    def select(self, measure: Measure, *, derived: bool) -> str:
        """Return the columns to ask for; ``derived`` are there only where they follow from no formula."""
        if measure is BINS:
            names: Sequence[str] = ("segment", *SUMS, "quality", "version")
        else:
            packing = self.states if measure is STATES else ALL_AREAS
            names = (packing.index, *packing.kept, *packing.codes, "version", "has")
            names = (*names, *packing.derived) if derived else names
        return ", ".join(f'"{name}"' for name in names)

    def needs_derived(self, measure: Measure, table: Table) -> bool:
        """Return whether an answer without derived columns lacks one that was written."""
        kept = len(self.states.kept)
        return measure is STATES and any(has >> kept for has in table.columns.get("has", ()))

    def columns(self, measure: Measure, table: Table) -> Columns:
        """Return an answer to `select` as columns of the record, or of sums, with ``time`` and ``version``."""
        given = table.columns
        rows: Columns = {
            measure.index: _integers(given.get(measure.index), np.int32),
            "time": _integers(given.get("time"), np.int64),
            "version": _integers(given.get("version"), np.int64),
        }
        if measure is BINS:
            rows |= {name: _floats(given.get(name), len(table)) for name in SUMS}
            rows["quality"] = _integers(given.get("quality"), np.uint8)
            return rows
        packing = self.states if measure is STATES else ALL_AREAS
        return rows | _unpacked(packing, rows[measure.index], table)


def escaped(value: str) -> str:
    r"""Return a tag's value as line protocol has it.

    Examples
    --------
    >>> print(escaped("a b,c=d"))
    a\ b\,c\=d
    """
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ")


def quoted(value: str) -> str:
    r"""Return a text as InfluxQL has it between single quotes.

    Examples
    --------
    >>> print(quoted("it's"))
    it\'s
    """
    return value.replace("\\", "\\\\").replace("'", "\\'")


def _lines(packing: Packing, record: Any, prefix: list[str], version: int, at_ms: int) -> list[str]:
    given: Columns = {name: getattr(record, name) for name in packing.columns}
    expected = packing.predict(given)
    has: LongArray = np.zeros(len(prefix), dtype=np.int64)
    parts: list[list[str]] = [prefix]
    for bit, name in enumerate((*packing.kept, *packing.derived)):
        value = given[name]
        missing = np.isnan(value)
        written = ~missing
        if name in packing.derived:
            surprise = ~((value == expected[name]) | (missing & np.isnan(expected[name])))
            if not surprise.any():
                continue
            written &= surprise
            has |= (missing & surprise).astype(np.int64) << (bit + BITS)
        has |= written.astype(np.int64) << bit
        texts = [f"{name}={one!r}," for one in (value + 0.0).tolist()]  # -0.0 becomes 0.0
        parts.append(texts if written.all() else [t if w else "" for t, w in zip(texts, written.tolist(), strict=True)])
    parts += [[f"{name}={one}i," for one in given[name].tolist()] for name in packing.codes]
    parts.append([f"has={one}i,version={version}i {at_ms}" for one in has.tolist()])
    return ["".join(part) for part in zip(*parts, strict=True)]


def _unpacked(packing: Packing, index: IntArray, table: Table) -> Columns:
    given, has = table.columns, _integers(table.columns.get("has"), np.int64)
    rows: Columns = {packing.index: index}
    for bit, name in enumerate(packing.kept):
        rows[name] = np.where(has >> bit & 1, _floats(given.get(name), len(table)), np.nan)
    for name in packing.codes:
        rows[name] = _integers(given.get(name), np.uint8)
    expected = packing.predict(rows)
    for bit, name in enumerate(packing.derived, len(packing.kept)):
        written, nan = has >> bit & 1, has >> (bit + BITS) & 1
        rows[name] = expected[name]
        if written.any() or nan.any():
            rows[name] = np.where(written, _floats(given.get(name), len(table)), np.where(nan, np.nan, expected[name]))
    return {f.name: rows[f.name] for f in fields(packing.record) if f.name in rows}


def _floats(values: list[Any] | None, length: int) -> FloatArray:
    return np.full(length, np.nan) if values is None else np.array(values, dtype=np.float64)


def _integers(values: list[Any] | None, kind: type[np.integer[Any]]) -> Any:
    if values is None:
        return np.zeros(0, dtype=kind)
    return np.array(list(map(int, values)), dtype=kind)
