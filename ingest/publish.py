"""Publishing: `Readings` of a whole network in, batches to the partitions that own their segments out.

Every partition hears of every feed: rows where it has some, and else a heartbeat (an empty batch with the feed's
watermark), so that no partition holds the city back. Rows always go before a watermark that covers them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from threading import Event
from typing import Protocol

import numpy as np
import numpy.typing as npt

from citybrain.errors import ConfigError
from citybrain.network import Network
from citybrain.records import Readings, encode
from citybrain.wire import Output

ROWS_PER_MESSAGE = 2000
ROWS_OF_AN_INTERVAL = 250
"""From so many rows an interval on, a message holds only one: a worker counts them without looking at each row's
time, and knows the list of detectors again."""
HEARTBEAT_MS = 5000

IndexArray = npt.NDArray[np.intp]


class Producer(Protocol):
    """Where batches go (`infra.kafka.producer.BatchProducer`)."""

    def send(self, outputs: Iterable[Output], record_ms: int) -> None:
        """Queue messages."""
        ...

    def flush(self, stop: Event | None = None) -> None:
        """Return once they are durable; raise `BrokerUnavailable` in time, or at once when ``stop`` is set."""
        ...


class Publisher:
    """Sends the readings of feeds to the partitions of one network.

    Parameters
    ----------
    network
        Whose detectors the readings name.
    producer
        Where batches go.
    heartbeat_ms
        How much feed time may pass without a word to every partition; `play` keeps to it.
    """

    def __init__(self, network: Network, producer: Producer, *, heartbeat_ms: int = HEARTBEAT_MS) -> None:
        self.heartbeat_ms = heartbeat_ms
        self._network = network
        self._producer = producer

    def publish(self, readings: Readings) -> int:
        """Queue the readings and their watermark for every partition; return the number of messages.

        Raises
        ------
        ConfigError
            If they were made for another network.
        """
        if readings.network != self._network.version:
            raise ConfigError(
                f"feed {readings.source!r}: network {readings.network!r} seen, {self._network.version!r} allowed"
            )
        outputs = list(messages(self._network, readings))
        self._producer.send(outputs, readings.received_ms)
        return len(outputs)

    def heartbeat(self, source: str, received_ms: int, watermark_ms: int) -> None:
        """Queue an empty batch for every partition: the feed is there, and has nothing new up to ``received_ms``."""
        empty = heartbeat(self._network.version, source, received_ms, watermark_ms)
        self._producer.send(_to_all(self._network, empty), received_ms)

    def flush(self, stop: Event | None = None) -> None:
        """Return once everything that was published is durable; raises what the producer raises."""
        self._producer.flush(stop)


def heartbeat(network: str, source: str, received_ms: int, watermark_ms: int) -> Readings:
    """Return a batch without rows."""
    no_float, no_byte = np.empty(0), np.empty(0, dtype=np.uint8)
    return Readings(
        network=network,
        source=source,
        received_ms=received_ms,
        watermark_ms=watermark_ms,
        detector=np.empty(0, dtype=np.int32),
        observed_from_ms=np.empty(0, dtype=np.int64),
        observed_to_ms=np.empty(0, dtype=np.int64),
        count_veh=no_float,
        flow_vph=no_float,
        speed_kmh=no_float,
        occupancy=no_float,
        travel_time_s=no_float,
        speed_kind=no_byte,
        quality_flow=no_byte,
        quality_speed=no_byte,
        quality_occupancy=no_byte,
        quality_travel_time=no_byte,
    )


def messages(network: Network, readings: Readings) -> Iterator[Output]:
    """Cut readings into messages, partition by partition, the order of rows kept.

    Where a partition has more rows than one message holds, or many of several intervals one after another, all but the
    last message carry a watermark before all of them: one that covers rows still to come would make these late. (A
    watermark that goes back says nothing new.)
    """
    if len(readings):
        earlier = min(int(readings.observed_from_ms.min()), readings.watermark_ms)
        partition = network.detector_partition[readings.detector]
        order = np.argsort(partition, kind="stable")
        bounds = np.searchsorted(partition[order], np.arange(network.partitions + 1))
        for number in range(network.partitions):
            begin, end = int(bounds[number]), int(bounds[number + 1])
            for at, to in _cuts(readings, order[begin:end], begin):
                watermark = readings.watermark_ms if to == end else earlier
                yield _output(number, replace(readings.take(order[at:to]), watermark_ms=watermark))
        silent = np.flatnonzero(bounds[1:] == bounds[:-1]).tolist()
    else:
        silent = list(range(network.partitions))
    if silent:
        empty = heartbeat(readings.network, readings.source, readings.received_ms, readings.watermark_ms)
        yield from _to_all(network, empty, silent)


def _cuts(readings: Readings, rows: IndexArray, first: int) -> Iterator[tuple[int, int]]:
    """Yield the begin and end of each message of a partition's rows, counted from ``first``."""
    begins, ends = readings.observed_from_ms[rows], readings.observed_to_ms[rows]
    steps = np.flatnonzero((begins[1:] != begins[:-1]) | (ends[1:] != ends[:-1])) + 1
    if len(rows) < ROWS_OF_AN_INTERVAL * (len(steps) + 1):
        steps = steps[:0]
    for begin, end in pairwise([0, *steps.tolist(), len(rows)]):
        for at in range(begin, end, ROWS_PER_MESSAGE):
            yield first + at, first + min(at + ROWS_PER_MESSAGE, end)


def _to_all(network: Network, empty: Readings, partitions: Iterable[int] | None = None) -> Iterator[Output]:
    value, key = encode(empty), empty.source.encode()
    for number in range(network.partitions) if partitions is None else partitions:
        yield Output("readings", number, key, value, empty.received_ms)


def _output(partition: int, readings: Readings) -> Output:
    return Output("readings", partition, readings.source.encode(), encode(readings), readings.received_ms)
