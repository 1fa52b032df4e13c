"""The JSON edge, pure: many messages of one reading each in, columns by source and refusals out.

A batch is decoded as one JSON array, and message by message only where that fails. It judges form, not values: what is
physically impossible is the business of `streams.clean`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import repeat
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from citybrain.clock import epoch_ms
from citybrain.errors import Reason
from citybrain.messages import JsonReading
from citybrain.network import Network
from citybrain.records import ByteArray, FloatArray, LongArray, Quality, Readings

GROUP = 1024
LATEST_MS = 10**14
SOURCE_LENGTH = 64

_ONE = msgspec.json.Decoder(JsonReading)
_MANY = msgspec.json.Decoder(list[JsonReading])
_DETECTOR, _SOURCE = attrgetter("detector"), attrgetter("source")
_INSTANTS = attrgetter("observed_from"), attrgetter("observed_to")
_METRICS = tuple(map(attrgetter, ("count_veh", "flow_vph", "speed_kmh", "occupancy", "travel_time_s")))


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


class _Columns(NamedTuple):
    """Readings that can be used, as columns, with the number of each one's message; ``sources`` is a sequence."""

    place: LongArray
    detector: npt.NDArray[np.int32]
    from_ms: LongArray
    to_ms: LongArray
    count_veh: FloatArray
    flow_vph: FloatArray
    speed_kmh: FloatArray
    occupancy: FloatArray
    travel_time_s: FloatArray
    sources: Sequence[str]


_EMPTY: list[Any] = [np.empty(0, dtype=np.int64)] * 4 + [np.empty(0)] * 5 + [()]
NOTHING = _Columns(*_EMPTY)


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
        observed_to_ms = np.zeros(len(values), dtype=np.int64)
        refused: list[Refusal] = []
        # Group by group: what is read of one is near while it is taken apart, and is let go before the next.
        groups = [self._group(values[at : at + GROUP], at, refused) for at in range(0, len(values), GROUP)]
        groups = [group for group in groups if len(group.place)]
        if not groups:
            return Edge((), tuple(refused), observed_to_ms)
        parts: list[Any] = [np.concatenate(columns) for columns in list(zip(*groups, strict=True))[:-1]]
        whole = _Columns(*[*parts, [name for group in groups for name in group.sources]])
        observed_to_ms[whole.place] = whole.to_ms
        received_ms = record_ms[whole.place]
        readings = tuple(self._readings(name, mine, whole, received_ms) for name, mine in _by_source(whole.sources))
        return Edge(readings, tuple(refused), observed_to_ms)

    def _group(self, values: Sequence[bytes], begin: int, refused: list[Refusal]) -> _Columns:
        """Return the readings of some messages as columns; what cannot be used goes to ``refused``."""
        rows, places, malformed = _parsed(values, begin)
        refused += malformed
        if not rows:
            return NOTHING
        sources = list(map(_SOURCE, rows))
        from_ms, to_ms = (_instants(list(map(get, rows))) for get in _INSTANTS)
        detector = np.fromiter(map(self._rows.get, map(_DETECTOR, rows), repeat(-1)), np.int32, len(rows))
        good = (from_ms >= 0) & (to_ms > from_ms) & (detector >= 0)
        named = {name: bool(0 < len(name) <= SOURCE_LENGTH) for name in set(sources)}
        if not all(named.values()):
            good &= np.array([named[name] for name in sources])
        columns: list[Any] = [np.array(places), detector, from_ms, to_ms, *(_metric(rows, get) for get in _METRICS)]
        if good.all():
            return _Columns(*[*columns, sources])
        for at in np.flatnonzero(~good).tolist():
            refused.append(_refusal(places[at], rows[at], int(from_ms[at]), int(to_ms[at])))
        refused.sort(key=lambda refusal: refusal.index)
        left = [name for name, kept in zip(sources, good.tolist(), strict=True) if kept]
        return _Columns(*[*(column[good] for column in columns), left])

    def _readings(
        self, source: str, mine: npt.NDArray[np.bool_] | None, whole: _Columns, record_ms: LongArray
    ) -> Readings:
        columns: list[Any] = list(whole[:-1])
        some = whole if mine is None else _Columns(*[*(column[mine] for column in columns), whole.sources])
        received_ms = record_ms if mine is None else record_ms[mine]
        flow = np.where(np.isnan(some.flow_vph), some.count_veh, some.flow_vph)
        speed = _quality(some.speed_kmh)
        speed[(flow == 0) & np.isnan(some.speed_kmh)] = Quality.NO_VEHICLE
        return Readings(
            network=self._version,
            source=source,
            received_ms=int(received_ms.max()),
            watermark_ms=int(some.to_ms.max()),
            detector=some.detector,
            observed_from_ms=some.from_ms,
            observed_to_ms=some.to_ms,
            count_veh=some.count_veh,
            flow_vph=some.flow_vph,
            speed_kmh=some.speed_kmh,
            occupancy=some.occupancy,
            travel_time_s=some.travel_time_s,
            speed_kind=np.zeros(len(some.detector), dtype=np.uint8),
            quality_flow=_quality(flow),
            quality_speed=speed,
            quality_occupancy=_quality(some.occupancy),
            quality_travel_time=_quality(some.travel_time_s),
        )


def _parsed(values: Sequence[bytes], begin: int) -> tuple[list[JsonReading], list[int], list[Refusal]]:
    """Return the readings of messages from number ``begin`` on, the number of the message of each, and the refusals."""
    try:
        rows = _MANY.decode(b"[" + b",".join(values) + b"]")
    except (msgspec.DecodeError, UnicodeDecodeError):
        rows = []
    # A message may hold two objects, or half of one: then the numbers differ.
    if len(rows) == len(values):
        return rows, list(range(begin, begin + len(values))), []
    good: list[JsonReading] = []
    places: list[int] = []
    refused: list[Refusal] = []
    for at, result in enumerate(_singly(values), begin):
        if isinstance(result, JsonReading):
            good.append(result)
            places.append(at)
        else:
            refused.append(Refusal(at, "malformed", result))
    return good, places, refused


def _singly(group: Sequence[bytes]) -> Iterator[JsonReading | str]:
    for value in group:
        try:
            yield _ONE.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            yield f"one reading as a JSON object allowed: {error}"


def _instants(stamps: Sequence[str | int]) -> LongArray:
    """Return ms UTC, -1 where a stamp cannot be read."""
    kinds = set(map(type, stamps))
    # A batch names few instants, many times over: each text is read once.
    read = {stamp: _instant_ms(stamp) for stamp in set(stamps)} if kinds != {int} else {}
    if read:
        return np.fromiter(map(read.__getitem__, stamps), np.int64, len(stamps))
    try:
        instants = np.fromiter(stamps, np.int64, len(stamps))
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


def _metric(rows: Sequence[JsonReading], get: Callable[[JsonReading], float | None]) -> FloatArray:
    """Return a column, NaN for None; most metrics are there in all readings, or in none."""
    if get(rows[0]) is not None:
        with contextlib.suppress(TypeError):  # None is no float
            return np.fromiter(map(get, rows), np.float64, len(rows))
    values = list(map(get, rows))
    if values.count(None) == len(values):
        return np.full(len(values), np.nan)
    return np.array(values, dtype=np.float64)


def _by_source(sources: Sequence[str]) -> Iterator[tuple[str, npt.NDArray[np.bool_] | None]]:
    """Yield each source with its rows, None where all are of the only one."""
    number = {name: at for at, name in enumerate(dict.fromkeys(sources))}
    if len(number) == 1:
        yield sources[0], None
        return
    code = np.fromiter(map(number.__getitem__, sources), np.int64, len(sources))
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
