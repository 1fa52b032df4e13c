"""Playing a feed: an iterator of `Readings` in, published at the pace of a clock out, until it ends or is stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import Event

import structlog

from citybrain.clock import Clock
from citybrain.errors import BrokerUnavailable
from citybrain.records import Readings
from ingest.publish import Publisher

SLICE_MS = 200
QUICK_S = 0.001
RETRY_S = 1.0
LONGEST_FILL_MS = 600_000
UNCONFIRMED_ROWS = 50_000
UNCONFIRMED_BATCHES = 64
UNCONFIRMED_S = 0.25

log = structlog.get_logger(__name__)


def play(
    batches: Iterator[Readings],
    publisher: Publisher,
    clock: Clock,
    stop: Event,
    *,
    on_published: Callable[[Readings], None] | None = None,
) -> int:
    """Publish each batch when the clock shows its ``received_ms``, heartbeats between; return the number of rows.

    A clock that jumps (`ManualClock`) plays as fast as it goes. While the broker is away the feed waits and sends
    again what was not confirmed: nothing is lost, and what arrives twice is recognised downstream.

    Parameters
    ----------
    batches
        In order of ``received_ms``.
    publisher
        Where they go; its ``heartbeat_ms`` of feed time is the longest silence, 0 sends no heartbeat between.
    clock
        The feed's clock.
    stop
        Ends the feed within 0.3 s.
    on_published
        Told of each batch once it is durable.
    """
    spool = _Spool(publisher, stop, on_published)
    last: Readings | None = None
    spoken_ms = 0
    for batch in batches:
        # The silence before a batch is filled with the watermark that was told before it; not a gap of days in an
        # archive: who has said nothing new for so long holds nothing back.
        while last is not None and publisher.heartbeat_ms:
            spoken_ms += publisher.heartbeat_ms
            if spoken_ms >= min(batch.received_ms, last.received_ms + LONGEST_FILL_MS):
                break
            if not _wait(clock, spoken_ms, stop, spool):
                return spool.close()
            publisher.heartbeat(last.source, spoken_ms, last.watermark_ms)
        if not _wait(clock, batch.received_ms, stop, spool):
            return spool.close()
        spool.publish(batch)
        last, spoken_ms = batch, batch.received_ms
    return spool.close()


def _wait(clock: Clock, instant_ms: int, stop: Event, spool: _Spool) -> bool:
    slice_ms = SLICE_MS
    while not stop.is_set() and (now_ms := clock.now_ms()) < instant_ms:
        spool.confirm_old()
        began_s = time.monotonic()
        clock.sleep_until_ms(min(instant_ms, now_ms + slice_ms))
        # A clock that jumps or races is followed in larger steps; one that walks is looked at often, for the stop.
        slice_ms = slice_ms * 2 if time.monotonic() - began_s < QUICK_S else SLICE_MS
    return not stop.is_set()


class _Spool:
    """What was published and not yet confirmed; sent again until it is."""

    def __init__(self, publisher: Publisher, stop: Event, told: Callable[[Readings], None] | None) -> None:
        self._publisher = publisher
        self._stop = stop
        self._told = told
        self._waiting: list[Readings] = []
        self._rows_waiting = 0
        self._since_s = 0.0
        self._rows = 0

    def publish(self, batch: Readings) -> None:
        if not self._waiting:
            self._since_s = time.monotonic()
        self._waiting.append(batch)
        self._rows_waiting += len(batch)
        try:
            self._publisher.publish(batch)
        except BrokerUnavailable as error:
            self._send_again(error)
        if self._rows_waiting >= UNCONFIRMED_ROWS or len(self._waiting) >= UNCONFIRMED_BATCHES:
            self.confirm()
        else:
            self.confirm_old()

    def confirm_old(self) -> None:
        if self._waiting and time.monotonic() - self._since_s >= UNCONFIRMED_S:
            self.confirm()

    def confirm(self) -> None:
        try:
            self._publisher.flush(self._stop)
        except BrokerUnavailable as error:
            self._send_again(error)
        self._confirmed()

    def close(self) -> int:
        """Confirm what waits; a stop gives up on a broker that is away. Return the number of rows confirmed."""
        if self._waiting:
            self.confirm()
        return self._rows

    def _send_again(self, error: BrokerUnavailable) -> None:
        log.warning("feed_waits_for_broker", error=str(error), batches=len(self._waiting))
        while not self._stop.wait(RETRY_S):
            try:
                for batch in self._waiting:
                    self._publisher.publish(batch)
                self._publisher.flush(self._stop)
            except BrokerUnavailable:
                continue
            log.info("feed_goes_on", batches=len(self._waiting))
            self._confirmed()
            return
        self._waiting.clear()

    def _confirmed(self) -> None:
        for batch in self._waiting:
            self._rows += len(batch)
            if self._told is not None:
                self._told(batch)
        self._waiting.clear()
        self._rows_waiting = 0
