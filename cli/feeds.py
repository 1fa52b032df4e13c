"""The feeds of a city, run side by side: settings in, messages on Kafka out, until told to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import structlog

from citybrain.cityfile import load_network
from citybrain.clock import Clock, ManualClock, ScaledClock
from citybrain.errors import BrokerUnavailable, ConfigError
from citybrain.messages import DeadLetter
from citybrain.network import Network
from citybrain.records import Passages, Readings, encode
from citybrain.settings import CitySettings, SimulatedFeed, SumoFeed, TableFeed
from citybrain.wire import Output
from cli.feedboard import BATCHER, Entry, FeedBoard, follow_batcher
from cli.feedclock import feed_clock, remembering, sent_before
from cli.options import brokers_of
from infra.kafka.admin import apply_topics
from infra.kafka.client import Brokers
from infra.kafka.producer import BatchProducer
from ingest.feed import play
from ingest.publish import Producer, Publisher

log = structlog.get_logger()

BROKER_WAIT_S = 60.0
HEARTBEAT_REAL_MS = 5000
HEARTBEAT_MOST_MS = 30_000
"""Heartbeats: every 5 s of the wall clock, but often enough by the feed's that it is never taken for silent."""
WARM_UP = timedelta(hours=2)
"""A city at real time is to be seen at once, whatever the time of day; hardly a trip of it takes an hour."""
ROWS_PER_BATCH = 2000
"""Rows of a batch where an archive is played as fast as it goes."""


def run_feeds(
    city: CitySettings,
    address: str | None,
    stop: threading.Event,
    *,
    board: FeedBoard,
    names: tuple[str, ...] = (),
    archives: Path | None = None,
    speed: float | None = None,
) -> None:
    """Run the feeds until they end or ``stop`` is set.

    Raises
    ------
    ConfigError
        If ``names`` has an unknown feed, or a feed cannot be what it is told.
    BrokerUnavailable
        If no broker answers within a minute.
    """
    network = load_network(city)
    played: list[TableFeed | SumoFeed] = [*city.tables, *city.sumo]
    known = [feed.name for feed in city.simulated] + [feed.name for feed in played]
    if unknown := sorted(set(names) - set(known)):
        raise ConfigError(f"--feed {unknown[0]} seen, one of {', '.join(known) or 'none'} allowed")
    wanted = set(names or known)
    jobs = [
        _simulated(city, network, feed, address, stop, board.entry(feed.name))
        for feed in city.simulated
        if feed.name in wanted
    ]
    jobs += [
        _played(city, network, feed, address, stop, archives, speed, board.entry(feed.name))
        for feed in played
        if feed.name in wanted
    ]
    if city.json_edge and not names:
        jobs.append(_json_edge(city, network, address, stop, board))
    with ThreadPoolExecutor(max_workers=max(1, len(jobs))) as pool:
        running = [pool.submit(job) for job in jobs]
        wait(running, return_when=FIRST_EXCEPTION)
        if any(job.done() and job.exception() is not None for job in running):
            stop.set()
    for job in running:
        job.result()


def _simulated(
    city: CitySettings, network: Network, feed: SimulatedFeed, address: str | None, stop: threading.Event, entry: Entry
) -> Callable[[], None]:
    def run() -> None:
        from simulators.city import SimulatedCity
        from simulators.incidents import scripted_of

        folder = city.data_folder / "feeds"
        clock, from_ms = feed_clock(city, feed, sent_before(folder, feed.name))
        simulated = SimulatedCity(
            network,
            feed,
            city.timezone,
            truth_folder=city.truth_folder,
            scripted=scripted_of(network, feed),
            state_folder=folder / feed.name,
            warm_up=WARM_UP if feed.speed == 1.0 and not feed.start else None,
        )
        batches = simulated.batches(from_ms)
        first = next(batches)  # runs the day up to now, while the broker starts
        brokers = wait_for_brokers(city, network, address, stop)
        if brokers is None:
            return
        producer = entry.through(BatchProducer(brokers))
        publisher = Publisher(
            network, producer, heartbeat_ms=min(round(HEARTBEAT_REAL_MS * feed.speed), HEARTBEAT_MOST_MS)
        )
        readings = aside(_chained(first, batches), producer)
        play(remembering(readings, folder, feed.name), publisher, clock, stop, on_published=entry.published)

    return run


class _Past(Protocol):
    """What is played from its first reading to its last, at any pace."""

    @property
    def refused(self) -> list[DeadLetter]:
        """What could not be used."""
        ...

    def batches(self) -> Iterator[Readings]:
        """Yield the readings in time order."""
        ...


def _past_of(
    city: CitySettings, network: Network, feed: TableFeed | SumoFeed, archives: Path | None, speed: float | None
) -> _Past:
    if isinstance(feed, SumoFeed):
        from ingest.sumo.reader import SumoReader

        return SumoReader(feed, network, city.folder, city.timezone, data=archives)
    from ingest.tables import TableArchive

    return TableArchive(feed, network, city.folder, data=archives, rows_per_batch=0 if speed else ROWS_PER_BATCH)


def _played(
    city: CitySettings, network: Network, feed: TableFeed | SumoFeed, address: str | None, stop: threading.Event,
    archives: Path | None, speed: float | None, entry: Entry,
) -> Callable[[], None]:  # fmt: skip
    def run() -> None:
        from streams.stage import letter

        archive = _past_of(city, network, feed, archives, speed)
        brokers = wait_for_brokers(city, network, address, stop)
        if brokers is None:
            return
        batches = archive.batches()
        first = next(batches, None)
        if first is None:
            raise ConfigError(f"feed {feed.name}: {_nothing(feed, archive)}")
        clock: Clock = ManualClock() if speed is None else ScaledClock(first.received_ms, speed)
        producer = entry.through(BatchProducer(brokers))
        play(_chained(first, batches), Publisher(network, producer), clock, stop, on_published=entry.published)
        for refused in archive.refused:
            log.warning("table_rows_refused", feed=feed.name, reason=refused.reason, count=refused.count)
            producer.send([letter(refused)], refused.record_ms)
        producer.flush()
        entry.say("ended")

    return run


def _nothing(feed: TableFeed | SumoFeed, archive: _Past) -> str:
    """Say that there was no reading, and why where that is known."""
    where = feed.config if isinstance(feed, SumoFeed) and feed.config else feed.files
    why = [f"; {letter.count} refused: {letter.detail}" for letter in archive.refused[:1]]
    return f"no reading in {where}{''.join(why)}"


def _json_edge(
    city: CitySettings, network: Network, address: str | None, stop: threading.Event, board: FeedBoard
) -> Callable[[], None]:
    entry = board.entry(BATCHER)

    def run() -> None:
        from ingest.batcher import Batcher

        brokers = wait_for_brokers(city, network, address, stop)
        if brokers is not None:
            follow_batcher(brokers, board, stop)
            Batcher(brokers, network, entry.through(BatchProducer(brokers)), metrics=board.metrics).run(stop)

    return run


def _chained(
    first: Readings | Passages, rest: Iterator[Readings] | Iterator[Readings | Passages]
) -> Iterator[Readings]:
    yield first  # type: ignore[misc]
    yield from rest  # type: ignore[misc]


def aside(batches: Iterator[Readings | Passages], producer: Producer) -> Iterator[Readings]:
    """Pass readings on; send passages, which have no owner among the partitions, on their way.

    An interval's passages follow its readings, so they are sent right after these were.
    """
    for batch in batches:
        if isinstance(batch, Passages):
            producer.send([Output("passages", 0, batch.source.encode(), encode(batch))], batch.received_ms)
        else:
            yield batch


def wait_for_brokers(
    city: CitySettings, network: Network, address: str | None, stop: threading.Event
) -> Brokers | None:
    """Return the brokers once they answer and have the city's topics; None if told to stop before.

    Raises
    ------
    BrokerUnavailable
        If there is none within a minute.
    """
    deadline = time.monotonic() + BROKER_WAIT_S
    while not stop.is_set():
        try:
            brokers = brokers_of(city, address)
            apply_topics(brokers, network.partitions, retention=city.retention)
            return brokers
        except BrokerUnavailable:
            if time.monotonic() > deadline:
                raise
            stop.wait(0.1)
    return None
