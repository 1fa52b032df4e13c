"""The feed: a seed in, every message to be sent with its time out. The same seed sends the same bytes.

Plausible traffic with jams that open and close alerts, and everything that goes wrong on the way: readings that come
late up to and past the lateness, poison, batches sent twice, partitions that are silent for minutes, a clock an hour
ahead and one that is a little fast, a network of another version, JSON readings of which some are no readings.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from citybrain.network import Network
from citybrain.records import Quality, Readings, SegmentStates, encode
from ingest.publish import heartbeat
from tests.fakes import segment_states
from tests.torture.plan import H_MS, MIN_MS, Plan

LATE = 0.02
POISON = 0.005
REPEATED = 0.03
LATEST_MS = 6 * MIN_MS
"""How late a late reading comes at most; the lateness of the city ends after two minutes and a bit."""
SILENT_MS = (2 * MIN_MS, 6 * MIN_MS)
HEARTBEAT_MS = 10_000
FOREIGN = "0000deadbeef"
JSON_EVERY = 9
"""One detector in so many reports as JSON."""


@dataclass(frozen=True, slots=True, order=True)
class Sent:
    """One message: at which record time, to which topic and partition (-1: by key)."""

    at_ms: int
    number: int
    topic: str
    partition: int
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Kind:
    """One source: how often it reports and how far behind, which detectors it has, how wrong its clock is."""

    name: str
    interval_ms: int
    offset_ms: int
    delay_ms: int
    detectors: np.ndarray[Any, np.dtype[np.int32]]
    ahead_ms: int = 0


Row = dict[str, float]


def kinds(network: Network) -> list[Kind]:
    """Return the column sources. Some detectors have two, which count both."""
    every = np.arange(len(network.detectors), dtype=np.int32)
    return [
        Kind("loops", 30_000, 0, 3_000, every[every % 3 != 2]),
        # Its intervals lie across the minutes, so that a reading counts in two or three panes by its overlap.
        Kind("radar", 90_000, 17_000, 25_000, every[every % 3 != 0]),
        Kind("fast", 60_000, 8_000, 2_000, every[every % 11 == 0], ahead_ms=2 * MIN_MS),
        Kind("wrong", 60_000, 31_000, 2_000, every[every % 29 == 0], ahead_ms=H_MS),
    ]


class Feed:
    """Everything that is sent, in order of time.

    Parameters
    ----------
    plan, network
        The run and its city.
    start_ms
        Where the feed's clock begins, a whole minute.
    """

    def __init__(self, plan: Plan, network: Network, start_ms: int) -> None:
        self._plan, self._network, self.start_ms = plan, network, start_ms
        self.end_ms = start_ms + plan.span_ms
        self._rng = np.random.default_rng([plan.seed, 2])
        self._waiting: list[Sent] = []
        self._number = 0
        self._jams = _Jams(network, self._rng, start_ms, self.end_ms)
        self._silent = self._silences()
        self.poison = 0

    def messages(self) -> list[Sent]:
        """Return all messages, those of a silent partition when it speaks again."""
        for kind in kinds(self._network):
            first = self.start_ms + kind.offset_ms
            for to_ms in range(first + kind.interval_ms, self.end_ms, kind.interval_ms):
                self._report(kind, to_ms)
        for at_ms in range(self.start_ms + HEARTBEAT_MS, self.end_ms, HEARTBEAT_MS):
            beat = heartbeat(self._network.version, "loops", at_ms, at_ms - 3_000)
            for partition in range(self._network.partitions):
                self._put(at_ms, partition, beat)
        self._json()
        self._events()
        self._last_words()
        return [heapq.heappop(self._waiting) for _ in range(len(self._waiting))]

    def _report(self, kind: Kind, to_ms: int) -> None:
        """Send one interval of one source to every partition, with what goes wrong."""
        network, rng = self._network, self._rng
        at_ms = to_ms + kind.delay_ms
        for partition in range(network.partitions):
            mine = kind.detectors[network.detector_partition[kind.detectors] == partition]
            rows = [self._row(int(d), to_ms - kind.interval_ms, to_ms, kind.ahead_ms) for d in mine]
            late = rng.random(len(rows)) < LATE
            for row in (row for row, is_late in zip(rows, late, strict=True) if is_late):
                behind_ms = int(rng.integers(1_000, LATEST_MS))
                self._put(at_ms + behind_ms, partition, self._batch(kind, [row], at_ms + behind_ms))
            kept = [self._spoilt(row, at_ms) for row, is_late in zip(rows, late, strict=True) if not is_late]
            cuts = 2 if rng.random() < 0.2 else 1
            for part in range(cuts):
                # A clock that ran ahead of rows still to come would make them late: the last part tells it.
                clock_ms = to_ms if part == cuts - 1 else to_ms - kind.interval_ms
                batch = self._batch(kind, kept[part::cuts], at_ms, clock_ms + kind.ahead_ms)
                self._put(at_ms, partition, batch)
                if rng.random() < REPEATED:
                    self._put(at_ms + int(rng.integers(0, MIN_MS)), partition, batch)
            if rng.random() < POISON:
                self._poison(at_ms, partition, kind, rows)

    def _row(self, detector: int, from_ms: int, to_ms: int, ahead_ms: int) -> Row:
        rng, segment = self._rng, int(self._network.detectors.segment[detector])
        lanes, free = int(self._network.detectors.lanes[detector]), self._network.segments.free_flow_kmh[segment]
        share, flow = self._jams.traffic(segment, to_ms)
        speed = float(free * share * rng.uniform(0.93, 1.07))
        count = float(rng.poisson(flow * lanes * (to_ms - from_ms) / H_MS))
        row: Row = {"detector": detector, "from": from_ms + ahead_ms, "to": to_ms + ahead_ms}
        row |= {
            "count": count,
            "flow": np.nan,
            "speed": speed,
            "occupancy": float(rng.uniform(0, 0.4)),
            "travel": np.nan,
        }
        row |= dict.fromkeys(("q_flow", "q_speed", "q_occupancy", "q_travel"), int(Quality.OK))
        if count == 0:
            row |= {"speed": np.nan, "q_speed": int(Quality.NO_VEHICLE)}
        return self._dressed(row, (to_ms - from_ms) / H_MS, detector)

    def _dressed(self, row: Row, hours: float, detector: int) -> Row:
        """Give a few rows what sources really send: a flow for a count, a travel time for a speed, flags."""
        draw = self._rng.random()
        length_km = float(self._network.segments.length_km[self._network.detectors.segment[detector]])
        if draw < 0.05:
            row |= {"flow": row["count"] / hours, "count": np.nan}
        elif draw < 0.08 and row["count"] > 0:
            row |= {"travel": length_km / row["speed"] * 3600, "speed": np.nan, "q_speed": int(Quality.MISSING)}
        elif draw < 0.09:
            row |= {"speed": 0.0}
        elif draw < 0.11:
            row |= {"q_speed": int(Quality.IMPUTED_BY_SOURCE), "q_flow": int(Quality.DERIVED)}
        elif draw < 0.12:
            row |= {"q_flow": int(Quality.SOURCE_ERROR)}
        elif draw < 0.13:
            row |= {"q_flow": int(Quality.NO_VEHICLE), "speed": np.nan, "q_speed": int(Quality.NO_VEHICLE)}
        elif draw < 0.14:
            row |= {"count": np.nan, "q_flow": int(Quality.MISSING)}
        elif draw < 0.15:
            row |= {"occupancy": np.nan, "q_occupancy": int(Quality.MISSING)}
        elif draw < 0.155:
            row |= dict.fromkeys(("count", "speed", "occupancy"), np.nan)
        return row

    def _spoilt(self, row: Row, at_ms: int) -> Row:
        """Return the row, one in two hundred made impossible."""
        if self._rng.random() >= POISON:
            return row
        self.poison += 1
        others = np.flatnonzero(
            self._network.detector_partition != self._network.detector_partition[int(row["detector"])]
        )
        wrong: list[Row] = [
            {"detector": len(self._network.detectors) + 5},
            {"detector": -1},
            {"detector": int(self._rng.choice(others))},
            {"speed": -5.0},
            {"speed": 912.0},
            {"occupancy": 1.5},
            {"count": 1e6},
            {"flow": 9e5},
            {"travel": -3.0},
            {"travel": 0.01},
            {"to": row["from"]},
            {"from": row["to"] + 1_000},
            {"from": row["to"] - 5 * H_MS},
            {"from": at_ms + 6 * MIN_MS, "to": at_ms + 7 * MIN_MS},
            {"from": at_ms + 300 * 24 * H_MS, "to": at_ms + 300 * 24 * H_MS + 60_000},
            {"speed": -5.0, "detector": -7},
        ]
        return row | wrong[int(self._rng.integers(len(wrong)))]

    def _batch(self, kind: Kind, rows: list[Row], at_ms: int, clock_ms: int | None = None) -> Readings:
        def column(name: str, dtype: type) -> np.ndarray[Any, Any]:
            return np.array([row[name] for row in rows], dtype=dtype)

        newest = int(max((row["to"] for row in rows), default=0))
        return Readings(
            self._network.version,
            kind.name,
            at_ms,
            newest if clock_ms is None else clock_ms,
            column("detector", np.int32),
            column("from", np.int64),
            column("to", np.int64),
            column("count", np.float64),
            column("flow", np.float64),
            column("speed", np.float64),
            column("occupancy", np.float64),
            column("travel", np.float64),
            np.zeros(len(rows), dtype=np.uint8),
            *(column(name, np.uint8) for name in ("q_flow", "q_speed", "q_occupancy", "q_travel")),
        )

    def _poison(self, at_ms: int, partition: int, kind: Kind, rows: list[Row]) -> None:
        """Send a message that no stage can use."""
        self.poison += 1
        good = self._batch(kind, rows, at_ms)
        value = encode(good)
        states: SegmentStates = segment_states(self._network, partition=partition)
        wrong: list[Callable[[], bytes]] = [
            lambda: b"poison",
            lambda: b"",
            lambda: value[: len(value) // 2],
            lambda: encode(states),
            lambda: value.replace(b"record_version", b"record_versiom"),
            lambda: encode(replace(good, network=FOREIGN)),
            lambda: value.replace(b"observed_to_ms", b"observed_to_mz"),
        ]
        made = wrong[int(self._rng.integers(len(wrong)))]()
        self._put_bytes(at_ms, "readings", partition, kind.name.encode(), made)

    def _silences(self) -> list[tuple[int, int, int]]:
        """Draw when partitions say nothing: about a third of them, once each half hour."""
        found = []
        for begin in range(self.start_ms + 5 * MIN_MS, self.end_ms - 10 * MIN_MS, 30 * MIN_MS):
            for partition in range(self._network.partitions):
                if self._rng.random() < 0.35:
                    at_ms = begin + int(self._rng.integers(0, 20 * MIN_MS))
                    found.append((partition, at_ms, at_ms + int(self._rng.integers(*SILENT_MS))))
        return found

    def _put(self, at_ms: int, partition: int, batch: Readings) -> None:
        if self._rng.random() < 0.0008 and len(batch):
            # In the middle of a change of network one feed still speaks of another one.
            batch = replace(batch, network=FOREIGN)
            self.poison += 1
        for silent, from_ms, to_ms in self._silent:
            if silent == partition and from_ms <= at_ms < to_ms:
                at_ms = to_ms
        self._put_bytes(at_ms, "readings", partition, batch.source.encode(), encode(replace(batch, received_ms=at_ms)))

    def _put_bytes(self, at_ms: int, topic: str, partition: int, key: bytes, value: bytes) -> None:
        self._number += 1
        heapq.heappush(self._waiting, Sent(at_ms, self._number, topic, partition, key, value))

    def _json(self) -> None:
        """Send single readings as JSON, of some detectors every minute; one in a hundred is no reading."""
        rng, network = self._rng, self._network
        for to_ms in range(self.start_ms + 2 * MIN_MS, self.end_ms, MIN_MS):
            for detector in range(0, len(network.detectors), JSON_EVERY):
                name = str(network.detectors.id[detector])
                reading: dict[str, object] = {
                    "detector": name,
                    "observed_from": to_ms - MIN_MS,
                    "observed_to": to_ms,
                    "count_veh": int(rng.poisson(8)),
                    "speed_kmh": round(float(rng.uniform(20, 60)), 2),
                    "source": "edge",
                }
                at_ms = to_ms + int(rng.integers(1_000, 20_000))
                if rng.random() < LATE:
                    at_ms += int(rng.integers(0, LATEST_MS))
                value = json.dumps(reading).encode()
                if rng.random() < 2 * POISON:
                    self.poison += 1
                    wrong = (b"{", b"[]", value[:-9], json.dumps(reading | {"detector": "nowhere"}).encode())
                    value = (*wrong, json.dumps(reading | {"observed_to": "soon"}).encode())[int(rng.integers(5))]
                self._put_bytes(at_ms, "readings-json", -1, name.encode(), value)
                if rng.random() < REPEATED:
                    self._put_bytes(at_ms + 5_000, "readings-json", -1, name.encode(), value)

    def _events(self) -> None:
        """Report an incident somewhere every ten minutes, and its end."""
        for number, at_ms in enumerate(range(self.start_ms + 4 * MIN_MS, self.end_ms - 6 * MIN_MS, 10 * MIN_MS)):
            segment = str(self._rng.choice(self._network.segments.id))
            event = {
                "id": f"e{number}",
                "kind": "incident",
                "segment": segment,
                "started_ms": at_ms,
                "code": "accident",
            }
            self._put_bytes(at_ms, "events", 0, f"e{number}".encode(), json.dumps(event).encode())
            ended = event | {"version": 2, "ended_ms": at_ms + 5 * MIN_MS}
            self._put_bytes(at_ms + 5 * MIN_MS, "events", 0, f"e{number}".encode(), json.dumps(ended).encode())

    def _last_words(self) -> None:
        """Let every partition's clock pass far beyond the lateness, so that all panes become final."""
        for step in range(1, 5):
            at_ms = self.end_ms + LATEST_MS + 3 * step * MIN_MS
            beat = heartbeat(self._network.version, "loops", at_ms, at_ms - 1_000)
            for partition in range(self._network.partitions):
                self._put_bytes(at_ms, "readings", partition, b"loops", encode(beat))


class _Jams:
    """Where and when traffic is jammed: stretches of a road, for ten minutes or so."""

    def __init__(self, network: Network, rng: np.random.Generator, start_ms: int, end_ms: int) -> None:
        self._by_segment: dict[int, list[tuple[int, int]]] = {}
        roads = sorted(set(network.segments.road.tolist()))
        for at_ms in range(start_ms + 3 * MIN_MS, end_ms, 4 * MIN_MS):
            members = np.flatnonzero(network.segments.road == rng.choice(roads))
            first = int(rng.integers(0, max(1, len(members) - 4)))
            span = at_ms, at_ms + int(rng.integers(6, 14)) * MIN_MS
            for segment in members[first : first + 4].tolist():
                self._by_segment.setdefault(segment, []).append(span)

    def traffic(self, segment: int, at_ms: int) -> tuple[float, float]:
        """Return the share of free-flow speed and the flow a lane, veh/h."""
        jammed = any(from_ms <= at_ms < to_ms for from_ms, to_ms in self._by_segment.get(segment, ()))
        return (0.2, 900.0) if jammed else (0.85, 500.0)
