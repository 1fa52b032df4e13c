"""The feed board: what feeds send in, how each is out: metrics, health and readiness of ``citybrain ingest``."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from threading import Event

import msgspec

from citybrain.errors import BrokerUnavailable, CityBrainError
from citybrain.metrics import Metrics
from citybrain.records import Readings
from citybrain.topics import PREFIX, topic_address
from citybrain.wire import Output
from infra.kafka.client import Brokers
from infra.kafka.offsets import Offsets
from ingest.publish import Producer

SILENT_S = 60.0
"""A feed speaks every 5 s; one that has sent nothing for so long is not ready."""
LOOK_S = 5.0
BATCHER = "batcher"


class FeedHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One feed: its state, ages in s (None: never), messages and readings since the start, newest record time."""

    feed: str
    state: str
    since_s: float
    confirmed_s: float | None
    messages: int
    readings: int
    newest_ms: int | None


class Entry:
    """What one feed has done; it sends through this, by whatever thread."""

    def __init__(self, name: str, metrics: Metrics) -> None:
        self.name, self._metrics = name, metrics
        self._producer: Producer | None = None
        self._state, self._since_s = "starting", time.monotonic()
        self._confirmed_s: float | None = None
        self._spoke_s = time.monotonic()
        self._messages, self._readings, self._newest_ms = 0, 0, 0

    def through(self, producer: Producer) -> Producer:
        """Return the entry as a producer that sends through this one."""
        self._producer = producer
        return self

    def send(self, outputs: Iterable[Output], record_ms: int) -> None:
        """Queue messages, and count them."""
        assert self._producer is not None
        try:
            self._producer.send(self._counted(outputs, record_ms), record_ms)
        except BrokerUnavailable as error:
            self.say(f"waiting for the broker: {error}")
            raise

    def flush(self, stop: Event | None = None) -> None:
        """Return once they are durable."""
        assert self._producer is not None
        try:
            self._producer.flush(stop)
        except BrokerUnavailable as error:
            self.say(f"waiting for the broker: {error}")
            raise
        self._confirmed_s = time.monotonic()
        self.say("ok")

    def published(self, batch: Readings) -> None:
        """Take a batch that is durable."""
        self._readings += len(batch)
        self._metrics.count("citybrain_feed_readings_total", self.name, by=len(batch))

    def say(self, state: str) -> None:
        """Note how the feed is."""
        if state != self._state:
            self._state, self._since_s = state, time.monotonic()

    def _counted(self, outputs: Iterable[Output], record_ms: int) -> Iterator[Output]:
        for output in outputs:
            self._messages += 1
            self._newest_ms = max(self._newest_ms, record_ms if output.record_ms is None else output.record_ms)
            self._metrics.count("citybrain_feed_messages_total", self.name)
            yield output
        self._spoke_s = time.monotonic()
        self._metrics.show("citybrain_feed_newest_ms", self._newest_ms, self.name)

    def silent_s(self) -> float:
        """Return how long ago it last sent anything, heartbeats included, s."""
        return time.monotonic() - self._spoke_s

    def health(self) -> FeedHealth:
        """Return how it is."""
        now_s = time.monotonic()
        return FeedHealth(
            feed=self.name, state=self._state, since_s=round(now_s - self._since_s, 1),
            confirmed_s=None if self._confirmed_s is None else round(now_s - self._confirmed_s, 1),
            messages=self._messages, readings=self._readings, newest_ms=self._newest_ms or None,
        )  # fmt: skip


class FeedBoard:
    """All feeds of one process."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._entries: dict[str, Entry] = {}

    def entry(self, name: str) -> Entry:
        """Return the entry of a feed."""
        return self._entries.setdefault(name, Entry(name, self.metrics))

    def parts(self) -> Mapping[str, str]:
        """Return the state of each feed; one that has ended is well."""
        states = {feed.feed: feed.state for feed in self.feeds()}
        return {name: "ok" if state == "ended" else state for name, state in states.items()}

    def feeds(self) -> list[FeedHealth]:
        """Return how each feed is."""
        return [entry.health() for entry in list(self._entries.values())]

    def not_ready(self) -> list[str]:
        """Return why this process is not ready: a feed that starts, waits, or has said nothing for long."""
        if not self._entries:
            return ["no feed has begun yet"]
        reasons = []
        for feed in self.feeds():
            if feed.state not in ("ok", "ended"):
                reasons.append(f"feed {feed.feed}: {feed.state}")
            # The batcher sends when somebody does: its silence is no fault.
            elif (
                feed.state == "ok"
                and feed.feed != BATCHER
                and (silent_s := self.entry(feed.feed).silent_s()) > SILENT_S
            ):
                reasons.append(f"feed {feed.feed}: it has sent nothing for {silent_s:.0f} s")
        return reasons


def follow_batcher(brokers: Brokers, board: FeedBoard, stop: Event) -> threading.Thread:
    """Show in a thread how many JSON readings wait for the batchers of this city, until ``stop`` is set."""
    topic, group = topic_address("readings-json"), f"{PREFIX}.{BATCHER}"

    def look(offsets: Offsets) -> None:
        places = [(topic, number) for number in range(offsets.partitions([topic]).get(topic, 0))]
        ends, begins, committed = offsets.ends(places), offsets.begins(places), offsets.committed(group)
        for place in places:
            behind = ends[place] - max(begins[place], committed.get(place, 0))
            board.metrics.show("citybrain_lag_messages", max(0, behind), BATCHER, topic, str(place[1]))
        board.entry(BATCHER).say("ok")

    def run() -> None:
        offsets = Offsets(brokers)
        while not stop.is_set():
            try:
                look(offsets)
            except CityBrainError as error:
                board.entry(BATCHER).say(f"waiting for the broker: {error}")
            stop.wait(LOOK_S)
        offsets.close()

    thread = threading.Thread(target=run, name="batcher-lag", daemon=True)
    thread.start()
    return thread
