"""The past of a city: its table feeds or its archive in, messages for the topic ``readings`` out, in time order."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import structlog

from citybrain.clock import utc
from citybrain.errors import ConfigError
from citybrain.messages import DeadLetter
from citybrain.network import Network
from citybrain.settings import CitySettings, TimeSettings
from citybrain.wire import Output
from infra.archive import Archive, check
from ingest.publish import heartbeat, messages
from ingest.tables import TableArchive
from streams.ring import SPREAD_MS

Kind = Literal["auto", "tables", "archive"]
TOLD_MOST = 3
log = structlog.get_logger()


@dataclass(slots=True)
class Past:
    """Messages of a period.

    ``span_ms`` is the period asked for, [from, to); messages reach beyond it as far as its panes need. ``tables`` are
    the table archives read, whose refused rows are known once they have been read.
    """

    network: Network
    time: TimeSettings
    span_ms: tuple[int, int]
    tables: list[TableArchive] = field(default_factory=list)
    archive: Archive | None = None
    without: frozenset[Path] = frozenset()
    """Files of the archive that are damaged and left out."""

    def outputs(self) -> Iterator[Output]:
        """Yield the messages; each has its record time."""
        return self._of_archive(self.archive) if self.archive is not None else self._of_tables()

    def refused(self) -> list[DeadLetter]:
        """Return the dead letters of rows that never became a message, as far as has been read."""
        return [letter for table in self.tables for letter in table.refused]

    def _of_tables(self) -> Iterator[Output]:
        feeds = [table.batches(*self.span_ms) for table in self.tables]
        sources: set[str] = set()
        newest_ms = 0
        for readings in heapq.merge(*feeds, key=lambda readings: readings.received_ms):
            if len(readings):
                sources.add(readings.source)
                newest_ms = max(newest_ms, int(readings.observed_to_ms.max()))
                yield from messages(self.network, readings)
        yield from self._closing(sources, newest_ms)

    def _of_archive(self, archive: Archive) -> Iterator[Output]:
        from_ms, to_ms = self.span_ms
        sources: set[str] = set()
        newest_ms = 0
        for message in archive.read("readings", from_ms - SPREAD_MS, to_ms + SPREAD_MS, without=self.without):
            sources.add(message.key.decode())
            newest_ms = max(newest_ms, message.record_ms)
            yield Output("readings", message.partition, message.key, message.value, message.record_ms)
        yield from self._closing(sources, newest_ms)

    def _closing(self, sources: set[str], newest_ms: int) -> Iterator[Output]:
        """Show every feed's clock so far on that the last pane with readings closes, and none after it."""
        pane_ms, reorder_ms = self.time.pane_ms, round(self.time.reorder.total_seconds() * 1000)
        end_ms = -(-newest_ms // pane_ms) * pane_ms + reorder_ms
        for source in sorted(sources):
            yield from messages(self.network, heartbeat(self.network.version, source, end_ms, end_ms))


def past_of(
    city: CitySettings,
    network: Network,
    *,
    kind: Kind = "auto",
    data: Path | None = None,
    from_ms: int | None = None,
    to_ms: int | None = None,
    batch_rows: int = 0,
    allow_gaps: bool = False,
) -> Past:
    """Return the past of a city: its tables where it has some (``auto``), else its archive.

    ``data`` stands for ``{data}`` in table feeds, and its folder ``archive`` is the archive; by default that of the
    city's data folder.

    Raises
    ------
    ConfigError
        If there is none, or nothing in the period; if the archive lacks messages of it, unless ``allow_gaps``.
    """
    if kind == "tables" and not city.tables:
        raise ConfigError(f"--source tables seen, but {city.name} has no table feed in city.toml: --source archive")
    if kind != "archive" and city.tables:
        tables = [
            TableArchive(feed, network, city.folder, data=data, rows_per_batch=batch_rows) for feed in city.tables
        ]
        begins = [
            table.span_ms[0] - round(feed.interval.total_seconds() * 1000)
            for table, feed in zip(tables, city.tables, strict=True)
        ]
        held = min(begins), max(table.span_ms[1] for table in tables)
        return Past(network, city.time, _period(held, from_ms, to_ms, "the tables"), tables=tables)
    folder = data / "archive" if data is not None else city.archive_folder
    archive = Archive(folder)
    held_hours = archive.span("readings")
    if held_hours is None:
        raise ConfigError(f"{folder}: no readings in the archive; it is written while `citybrain up` or `worker` runs")
    period = _period(held_hours, from_ms, to_ms, str(folder))
    return Past(network, city.time, period, archive=archive, without=_damaged(archive, period, allow_gaps=allow_gaps))


def _damaged(archive: Archive, period: tuple[int, int], *, allow_gaps: bool) -> frozenset[Path]:
    """Look the archive through before anything is computed; return the files to leave out."""
    report = check(archive, "readings", period[0] - SPREAD_MS, period[1] + SPREAD_MS)
    if report.problems and not allow_gaps:
        told = [problem.text for problem in report.problems[:TOLD_MOST]]
        if len(report.problems) > TOLD_MOST:
            told.append(f"and {len(report.problems) - TOLD_MOST} more")
        raise ConfigError(
            "the archive is not whole in this period: what is computed would differ from what was live"
            f" (--allow-gaps computes all the same)\n{chr(10).join(told)}"
        )
    for problem in report.problems:
        log.warning("archive_not_whole", what=problem.text)
    return frozenset(report.damaged)


def _period(held: tuple[int, int], from_ms: int | None, to_ms: int | None, what: str) -> tuple[int, int]:
    """Return the period asked for, where it lies in what is held."""
    begin, end = held[0] if from_ms is None else from_ms, held[1] if to_ms is None else to_ms
    if begin >= end:
        raise ConfigError(f"from {utc(begin).isoformat()} to {utc(end).isoformat()} seen, a later end allowed")
    if begin >= held[1] or end <= held[0]:
        raise ConfigError(
            f"from {utc(begin).isoformat()} to {utc(end).isoformat()} seen, but {what} reach from"
            f" {utc(held[0]).isoformat()} to {utc(held[1]).isoformat()}"
        )
    return begin, end
