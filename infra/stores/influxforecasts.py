"""Newest forecasts in InfluxDB: one record a partition in, the same record out.

A forecast of a city's minute has sixty numbers a segment; as fields of their own they would cost twelve times what the
states do, and only the newest is asked for. So the record is kept as it is on the wire, in text fields, in one of two
slots: the mark names the slot that is whole, and the next forecast goes to the other one.
"""

from __future__ import annotations

import base64
import time
import zlib
from dataclasses import dataclass

from citybrain.records import Forecasts, decode, encode
from infra.stores.influxread import AGAIN_S, TRIES, Buckets
from infra.stores.influxschema import FORECASTS, Schema
from infra.stores.influxserver import InfluxServer
from infra.stores.newest import newest_forecasts

PART = 48_000
"""Letters a field; InfluxDB allows 64 kB."""


@dataclass(frozen=True, slots=True)
class _Mark:
    partition: int
    order: tuple[int, int]
    slot: int
    parts: int
    crc: int


class ForecastShelf:
    """Keeps the newest forecast of each partition. The bucket has no age limit, since all are at the time 0."""

    def __init__(self, server: InfluxServer, schema: Schema, buckets: Buckets) -> None:
        self._server, self._schema, self._bucket = server, schema, buckets.runs

    def write(self, records: list[Forecasts], run: str) -> None:
        """Keep those that are newer than what is there."""
        if not records:
            return
        known = {mark.partition: mark for mark in self._marks(run)}
        rows, marks = [], []
        for forecast in newest_forecasts(records):
            mark = known.get(forecast.partition)
            order = forecast.pane_start_ms, forecast.version
            if mark is not None and mark.order >= order:
                continue
            value = encode(forecast)
            text = base64.b64encode(value).decode()
            slot = 1 - mark.slot if mark is not None else 0
            tags = self._schema.tags(run)
            parts = [text[first : first + PART] for first in range(0, len(text), PART)]
            rows += [
                f'{FORECASTS.rows},{tags},partition={forecast.partition},part={at},slot={slot} value="{part}" 0'
                for at, part in enumerate(parts)
            ]
            marks.append(
                f"{FORECASTS.marks},{tags},partition={forecast.partition} pane_start_ms={order[0]}i,"
                f"version={order[1]}i,slot={slot}i,parts={len(parts)}i,crc={zlib.crc32(value)}i 0"
            )
        self._server.write(self._bucket, rows)
        self._server.write(self._bucket, marks)

    def read(self, run: str, partition: int | None = None) -> list[Forecasts]:
        """Return the newest forecast of each partition, or of one."""
        found: list[Forecasts] = []
        for again in range(TRIES):
            if again:
                time.sleep(AGAIN_S)
            marks = self._marks(run, partition)
            values = [self._value(mark, run) for mark in marks]
            found = [decode(Forecasts, value) for value in values if value is not None]
            if len(found) == len(marks):
                break
        return found

    def _marks(self, run: str, partition: int | None = None) -> list[_Mark]:
        where = self._where(run) + ("" if partition is None else f" AND \"partition\" = '{partition}'")
        names = ("partition", "pane_start_ms", "version", "slot", "parts", "crc")
        columns = self._server.query(
            self._bucket,
            f'SELECT {", ".join(names)} FROM "{FORECASTS.marks}" WHERE {where}',  # noqa: S608
        ).columns
        rows = zip(*(columns.get(name, []) for name in names), strict=True)
        marks = [_Mark(int(at), (start, version), slot, parts, crc) for at, start, version, slot, parts, crc in rows]
        return sorted(marks, key=lambda mark: mark.partition)

    def _value(self, mark: _Mark, run: str) -> bytes | None:
        where = f"{self._where(run)} AND \"partition\" = '{mark.partition}' AND \"slot\" = '{mark.slot}'"
        columns = self._server.query(
            self._bucket,
            f'SELECT "part", "value" FROM "{FORECASTS.rows}" WHERE {where}',  # noqa: S608
        ).columns
        rows = zip(columns.get("part", []), columns.get("value", []), strict=True)
        parts = {int(at): str(value) for at, value in rows}
        if any(at not in parts for at in range(mark.parts)):
            return None
        value = base64.b64decode("".join(parts[at] for at in range(mark.parts)))
        return value if zlib.crc32(value) == mark.crc else None

    def _where(self, run: str) -> str:
        return self._schema.where(run) + ("" if run else " AND \"run\" = ''")
