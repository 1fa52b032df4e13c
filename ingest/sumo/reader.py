"""A feed ``[[sumo]]`` in, `Readings` in time order out: of a simulation that is driven, or of files that one wrote.

All rows that end together are one batch. A file is read once, a block at a time, whatever its size. Dead letters are
in `SumoReader.refused`.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import numpy as np

from citybrain.clock import epoch_ms
from citybrain.messages import DeadLetter
from citybrain.network import Network
from citybrain.records import ByteArray, FloatArray, Quality, Readings
from citybrain.settings import SumoFeed
from citybrain.units import KMH_PER_MS, MS_PER_H
from ingest.publish import heartbeat
from ingest.sumo.drive import check, driven
from ingest.sumo.outputs import STAGE, OutputFile
from ingest.sumo.rows import Row
from ingest.tablefile import Refused
from ingest.tables import CLOSING_MS, files_of


class SumoReader:
    """Reads one feed.

    Parameters
    ----------
    feed
        What is driven or read.
    network
        Whose detectors SUMO's detectors and edges are, by their ids.
    folder
        The city folder: relative paths begin there.
    timezone
        Zone of ``start``.
    data
        What ``{data}`` in ``files`` stands for.

    Raises
    ------
    ConfigError
        If no file matches, or there is no such configuration or no libsumo to drive it.
    """

    def __init__(
        self, feed: SumoFeed, network: Network, folder: Path, timezone: str, *, data: Path | None = None
    ) -> None:
        self._feed = feed
        self._network = network
        self._rows = {str(name): row for row, name in enumerate(network.detectors.id)}
        self._start_ms = epoch_ms(datetime.fromisoformat(feed.start).replace(tzinfo=ZoneInfo(timezone)))
        self._length_m = network.segments.length_km[network.detectors.segment] * 1000
        self._share = network.detectors.lanes / network.segments.lanes[network.detectors.segment]
        self._unknown = Refused(feed.name, feed.config or feed.files, STAGE)
        self._newest_ms = self._start_ms
        self._config = folder / feed.config
        interval_s = feed.interval.total_seconds()
        if feed.config:
            check(self._config, feed.name)
        paths = files_of(feed, folder, data) if feed.files else []
        self._files = [
            OutputFile(path, feed.name, interval_s=interval_s, probe_share=feed.probe_share) for path in paths
        ]

    @property
    def refused(self) -> list[DeadLetter]:
        """Rows that could not be used so far: one letter a file and reason, with their number."""
        parts = [self._unknown, *(file.refused for file in self._files)]
        letters = [letter for part in parts for letter in part.letters.values()]
        return [msgspec.structs.replace(letter, record_ms=self._newest_ms) for letter in letters]

    def batches(self) -> Iterator[Readings]:
        """Yield the readings, those of one end together; ``received_ms`` and watermark are that end.

        After the last row comes a batch without rows, whose watermark lies ten minutes ahead, so that the last panes
        close.

        Raises
        ------
        FeedError
            If SUMO refuses the configuration, or a file is no output of a detector.
        """
        some = False
        for to_s, rows in itertools.groupby(self._in_order(), key=lambda row: row.to_s):
            known = [(at, row) for row in rows if (at := self._known(row)) is not None]
            if known:
                some = True
                self._newest_ms = self._instant_ms(to_s)
                yield self._readings(known, self._newest_ms)
        if some:
            end_ms = self._newest_ms + CLOSING_MS
            yield heartbeat(self._network.version, self._feed.name, end_ms, end_ms)

    def _in_order(self) -> Iterator[Row]:
        feed = self._feed
        if feed.files:
            # Each file is in order by itself.
            return heapq.merge(*[file.rows() for file in self._files], key=lambda row: row.to_s)
        interval_s = feed.interval.total_seconds()
        return driven(self._config, feed.name, interval_s=interval_s, probe_share=feed.probe_share)

    def _known(self, row: Row) -> int | None:
        """Return the detector of a row, None where the network has none; edges without a probe are no surprise."""
        at = self._rows.get(row.detector)
        if at is None and not row.is_probe:
            detail = f"detector {row.detector!r} seen, a detector of the network allowed"
            self._unknown.add("unknown_detector", detail, row=-1, count=1, excerpt=row.detector)
        return at

    def _instant_ms(self, second: float) -> int:
        return self._start_ms + round(second * 1000)

    def _readings(self, rows: list[tuple[int, Row]], to_ms: int) -> Readings:
        detector = np.array([at for at, _ in rows], dtype=np.int32)
        count, speed_ms, occupancy, from_s = (
            np.array([getattr(row, name) for _, row in rows], dtype=np.float64)
            for name in ("count_veh", "speed_ms", "occupancy", "from_s")
        )
        probe = np.array([row.is_probe for _, row in rows])
        whole = np.array([row.whole for _, row in rows])
        count = np.where(whole, count * self._share[detector], count)
        from_ms = self._start_ms + np.round(from_s * 1000).astype(np.int64)
        with np.errstate(divide="ignore"):
            travel_time_s = np.where(probe & (speed_ms > 0), self._length_m[detector] / speed_ms, np.nan)
        quality_speed = _quality(speed_ms, derived=probe)
        quality_speed[np.isnan(speed_ms) & (count == 0)] = Quality.NO_VEHICLE
        return Readings(
            network=self._network.version,
            source=self._feed.name,
            received_ms=to_ms,
            watermark_ms=to_ms,
            detector=detector,
            observed_from_ms=from_ms,
            observed_to_ms=np.full(len(rows), to_ms),
            count_veh=count,
            flow_vph=count * (MS_PER_H / (to_ms - from_ms)),
            speed_kmh=speed_ms * KMH_PER_MS,
            occupancy=occupancy,
            travel_time_s=travel_time_s,
            speed_kind=np.array([row.speed_kind for _, row in rows], dtype=np.uint8),
            quality_flow=_quality(count, derived=probe),
            quality_speed=quality_speed,
            quality_occupancy=_quality(occupancy, derived=probe),
            quality_travel_time=_quality(travel_time_s, derived=probe),
        )


def _quality(values: FloatArray, *, derived: np.ndarray) -> ByteArray:
    good = np.where(derived, np.uint8(Quality.DERIVED), np.uint8(Quality.OK))
    return np.where(np.isnan(values), np.uint8(Quality.MISSING), good)
