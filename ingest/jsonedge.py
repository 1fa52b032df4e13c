"""The JSON edge, pure: many messages of one reading each in, columns by source and refusals out.

A batch is decoded as one JSON array, and message by message only where that fails. It judges form, not values: what is
physically impossible is the business of `streams.clean`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter

import msgspec
import numpy as np
import numpy.typing as npt

from citybrain.clock import epoch_ms
from citybrain.errors import Reason
from citybrain.messages import JsonReading
from citybrain.network import Network
from citybrain.records import ByteArray, FloatArray, LongArray, Quality, Readings

GROUP = 512
LATEST_MS = 10**14
SOURCE_LENGTH = 64

_ONE = msgspec.json.Decoder(JsonReading)
_MANY = msgspec.json.Decoder(list[JsonReading])
_METRICS = ("count_veh", "flow_vph", "speed_kmh", "occupancy", "travel_time_s")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Message number ``index`` of a batch cannot be used."""

    index: int
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True, eq=False)
class Edge:
    """What a batch of messages holds.

    Attributes
    ----------
    readings
        One `Readings` a source, in the order in which sources first appear; their watermark is the latest
        ``observed_to``.
    refused
        Messages that cannot be used, in order.
    observed_to_ms
        End of the interval of each message, ms UTC, 0 where it was refused; shape (messages,).
    """

    readings: tuple[Readings, ...]
    refused: tuple[Refusal, ...]
    observed_to_ms: LongArray


class JsonEdge:
    """Turns messages into readings of one network."""

    def __init__(self, network: Network) -> None:
        self._version = network.version
        self._rows = {str(name): row for row, name in enumerate(network.detectors.id)}

    def decode(self, values: Sequence[bytes], record_ms: LongArray) -> Edge:
        """Return the readings and refusals of a batch.

        Parameters
        ----------
        values
            JSON objects, see `JsonReading`.
        record_ms
            When each was received, ms UTC: the Kafka record time, so that a replay gives the same. Shape (messages,).
        """
        indexed, refused = _parsed(values)
        observed_to_ms = np.zeros(len(values), dtype=np.int64)
        if not indexed:
            return Edge((), tuple(refused), observed_to_ms)
        index, rows = np.array([at for at, _ in indexed]), [row for _, row in indexed]
        from_ms = _instants([row.observed_from for row in rows])
        to_ms = _instants([row.observed_to for row in rows])
        detector = np.fromiter((self._rows.get(row.detector, -1) for row in rows), np.int32, len(rows))
        sources = list(map(attrgetter("source"), rows))
        named = {name: bool(0 < len(name) <= SOURCE_LENGTH) for name in set(sources)}
        in_form = (from_ms >= 0) & (to_ms > from_ms)
        if not all(named.values()):
            in_form &= np.array([named[name] for name in sources])
        good = in_form & (detector >= 0)
        if not good.all():
            for at in np.flatnonzero(~good).tolist():
                refused.append(_refusal(int(index[at]), rows[at], int(from_ms[at]), int(to_ms[at])))
            refused.sort(key=lambda refusal: refusal.index)
        observed_to_ms[index[good]] = to_ms[good]
        columns = {name: _metric(rows, name) for name in _METRICS}
        readings = tuple(
            self._readings(name, np.flatnonzero(mine & good), detector, from_ms, to_ms, columns, record_ms[index])
            for name, mine in _by_source(sources)
            if (mine & good).any()
        )
        return Edge(readings, tuple(refused), observed_to_ms)

    def _readings(
        self,
        source: str,
        mine: npt.NDArray[np.intp],
        detector: npt.NDArray[np.int32],
        from_ms: LongArray,
        to_ms: LongArray,
        columns: dict[str, FloatArray],
        record_ms: LongArray,
    ) -> Readings:
        value = {name: column[mine] for name, column in columns.items()}
        flow = np.where(np.isnan(value["flow_vph"]), value["count_veh"], value["flow_vph"])
        speed = _quality(value["speed_kmh"])
        speed[(flow == 0) & np.isnan(value["speed_kmh"])] = Quality.NO_VEHICLE
        return Readings(
            network=self._version,
            source=source,
            received_ms=int(record_ms[mine].max()),
            watermark_ms=int(to_ms[mine].max()),
            detector=detector[mine],
            observed_from_ms=from_ms[mine],
            observed_to_ms=to_ms[mine],
            **value,
            speed_kind=np.zeros(len(mine), dtype=np.uint8),
            quality_flow=_quality(flow),
            quality_speed=speed,
            quality_occupancy=_quality(value["occupancy"]),
            quality_travel_time=_quality(value["travel_time_s"]),
        )


def _parsed(values: Sequence[bytes]) -> tuple[list[tuple[int, JsonReading]], list[Refusal]]:
    good: list[tuple[int, JsonReading]] = []
    refused: list[Refusal] = []
    for begin in range(0, len(values), GROUP):
        group = values[begin : begin + GROUP]
        try:
            rows = _MANY.decode(b"[" + b",".join(group) + b"]")
        except (msgspec.DecodeError, UnicodeDecodeError):
            rows = []
        # A message may hold two objects, or half of one: then the numbers differ.
        if len(rows) == len(group):
            good.extend(enumerate(rows, begin))
            continue
        for at, result in enumerate(_singly(group), begin):
            if isinstance(result, JsonReading):
                good.append((at, result))
            else:
                refused.append(Refusal(at, "malformed", result))
    return good, refused


def _singly(group: Sequence[bytes]) -> Iterator[JsonReading | str]:
    for value in group:
        try:
            yield _ONE.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            yield f"one reading as a JSON object allowed: {error}"


def _instants(stamps: list[str | int]) -> LongArray:
    """Return ms UTC, -1 where a stamp cannot be read."""
    kinds = set(map(type, stamps))
    # A batch names few instants, many times over: each text is read once.
    read = {stamp: _instant_ms(stamp) for stamp in set(stamps)} if kinds != {int} or len(stamps) < GROUP else {}
    if read:
        return np.fromiter((read[stamp] for stamp in stamps), np.int64, len(stamps))
    try:
        instants = np.array(stamps, dtype=np.int64)
    except OverflowError:
        return np.fromiter((_instant_ms(stamp) for stamp in stamps), np.int64, len(stamps))
    instants[(instants < 0) | (instants > LATEST_MS)] = -1
    return instants


def _instant_ms(stamp: str | int) -> int:
    if isinstance(stamp, str) and stamp.isdecimal() and stamp.isascii() and len(stamp) < 16:
        stamp = int(stamp)
    if isinstance(stamp, int):
        return stamp if 0 <= stamp <= LATEST_MS else -1
    try:
        return max(epoch_ms(datetime.fromisoformat(stamp)), -1)
    except (ValueError, OverflowError):
        return -1


def _metric(rows: list[JsonReading], name: str) -> FloatArray:
    # None becomes NaN.
    return np.array(list(map(attrgetter(name), rows)), dtype=np.float64)


def _by_source(sources: list[str]) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    names = list(dict.fromkeys(sources))
    if len(names) == 1:
        yield names[0], np.ones(len(sources), dtype=np.bool_)
        return
    number = {name: at for at, name in enumerate(names)}
    code = np.fromiter((number[name] for name in sources), np.int64, len(sources))
    for name, at in number.items():
        yield name, code == at


def _refusal(index: int, row: JsonReading, from_ms: int, to_ms: int) -> Refusal:
    for name, instant_ms in (("observed_from", from_ms), ("observed_to", to_ms)):
        if instant_ms < 0:
            allowed = "RFC 3339 with a zone, or ms since 1970, allowed"
            return Refusal(index, "malformed", f"{name}: {getattr(row, name)!r} seen, {allowed}")
    if to_ms <= from_ms:
        detail = f"observed_to: {row.observed_to!r} seen, later than observed_from {row.observed_from!r} allowed"
        return Refusal(index, "malformed", detail)
    if not 0 < len(row.source) <= SOURCE_LENGTH:
        detail = f"source: {len(row.source)} characters seen, 1 to {SOURCE_LENGTH} allowed"
        return Refusal(index, "malformed", detail)
    return Refusal(index, "unknown_detector", f"detector: {row.detector!r} seen, a detector of the network allowed")


def _quality(values: FloatArray) -> ByteArray:
    return np.where(np.isnan(values), np.uint8(Quality.MISSING), np.uint8(Quality.OK))
