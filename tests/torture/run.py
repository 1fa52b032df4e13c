"""One run: a plan in, the evidence of what the shipped programs made of it out.

Broker, workers, batcher, serving process and receiver are real; the feed sends at its pace, the faults happen at their
times, and when all is over and everything was worked off, what is in the log, the store, the database, the archive and
at the receiver is gathered for the judge.
"""

from __future__ import annotations

import itertools
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from citybrain.cityfile import load_city
from citybrain.errors import ConfigError
from citybrain.network import Network
from citybrain.settings import CitySettings
from infra.archive import Archive
from infra.kafka.broker import EmbeddedBroker
from infra.stores.factory import open_store
from streams.harness import EMBEDDED_SESSION_S, PRODUCTION_SESSION_S
from tests.conftest import ROOT
from tests.infra.influx import TOKEN, InfluxProcess, influxd_path
from tests.torture.city import make_city
from tests.torture.faults import Happened, World, mount_small, schedule, unmount
from tests.torture.feed import Feed, Sent
from tests.torture.log import Link, Logged, lags, read_topic, settled
from tests.torture.plan import H_MS, MIN_MS, Plan
from tests.torture.processes import Service, Services, wait_until
from tests.torture.receiver import Got, Receiver

TOPICS = (
    "readings", "readings-json", "events", "segment-states", "area-partials", "area-indices", "forecasts", "signals",
    "alerts", "dead-letters",
)  # fmt: skip
GROUPS = {
    "citybrain.worker": ("readings", "events", "segment-states", "area-partials", "signals"),
    "citybrain.archive": ("readings", "events"),
    "citybrain.serve": ("segment-states", "area-indices", "forecasts"),
    "citybrain.outbox": ("alerts",),
    "citybrain.batcher": ("readings-json",),
}
OF_WORKERS = ("citybrain.worker", "citybrain.archive")
"""Groups that every worker is a member of; the others have one member."""
STARTS_S = 90.0
HANGS_S = 90.0
"""Without any progress for so long it is given up: longer than a lease, a back-off and the archive's checkpoint."""
ARCHIVE_MB = 512
TAIL_S = 5.0
_STORE = 'url = "{url}"\nbucket = "torture"\n'
BIN_MS = 5 * MIN_MS


@dataclass(slots=True)
class Evidence:
    """What a run left behind.

    Attributes
    ----------
    plan, network, city
        What was run.
    sent
        What the feed sent.
    log
        Every topic as the broker holds it.
    states, areas, bins
        What the store holds: rows by pane and segment; by pane and area; of some segments by five minutes.
    got
        What the receiver got.
    outbox
        Endpoint, message id and state of each row of the outbox.
    archive
        What the archive holds of each raw topic.
    happened
        The faults.
    feed_s, pace
        Wall time when each message was sent, s, next to ``sent``; when each pane of a partition was first seen closed.
    ends
        Exit codes by process.
    """

    plan: Plan
    network: Network
    city: CitySettings
    sent: list[Sent]
    log: dict[str, list[Logged]] = field(default_factory=dict)
    states: pd.DataFrame = field(default_factory=pd.DataFrame)
    areas: pd.DataFrame = field(default_factory=pd.DataFrame)
    bins: dict[int, pd.DataFrame] = field(default_factory=dict)
    got: list[Got] = field(default_factory=list)
    outbox: list[tuple[str, str, str]] = field(default_factory=list)
    archive: dict[str, list[Logged]] = field(default_factory=dict)
    happened: list[Happened] = field(default_factory=list)
    feed_s: list[float] = field(default_factory=list)
    pace: dict[tuple[int, int], float] = field(default_factory=dict)
    ends: dict[str, list[int]] = field(default_factory=dict)
    wall_s: float = 0.0


Say = Callable[[str], None]


def say(text: str) -> None:
    """Tell whoever watches."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def torture(plan: Plan, folder: Path, *, tell: Say = say, jars: Path | None = None) -> Evidence:
    """Run the plan in an empty folder and return what was found."""
    start_ms = (time.time_ns() // 1_000_000 - plan.span_ms - H_MS) // MIN_MS * MIN_MS
    with ExitStack() as stack:
        receiver = stack.enter_context(Receiver())
        place = folder / "city"
        influx = stack.enter_context(_influx(folder / "influxdb")) if plan.store == "influxdb" else None
        store = _STORE.format(url=influx.url) if influx else ""
        network = make_city(place, plan, timezone=_zone(start_ms), hook=receiver.url, store=store)
        city = load_city(place)
        sent = Feed(plan, network, start_ms).messages()
        stack.callback(unmount, city.archive_folder)
        mount_small(city.archive_folder, ARCHIVE_MB)
        broker = stack.enter_context(EmbeddedBroker(city.broker_folder, jars_folder=jars))
        services = stack.enter_context(Services())
        scene = _Scene(plan, place, folder / "logs", broker.address)
        evidence = Evidence(plan, network, city, sent)
        for _ in range(plan.workers):
            services.add(scene.worker())
        wait_until(lambda: services.steady() and _has_topics(broker.address), STARTS_S, "topics")
        if influx:
            (place / "influxdb-token").write_text(TOKEN, "utf-8")
            scene.once("store", "init", str(place))
        services.add(scene.service("ingest", "ingest"))
        services.add(scene.service("serve", "serve", "--port", str(_free_port())))
        session = PRODUCTION_SESSION_S if plan.production else EMBEDDED_SESSION_S
        world = World(plan, broker, services, receiver, city.archive_folder, scene.worker, session[0], store=influx)
        members = {group: plan.workers if group in OF_WORKERS else 1 for group in GROUPS}
        wait_until(lambda: services.steady() and settled(broker.address, members), STARTS_S, "partitions for everyone")
        tell(f"{len(sent)} messages over {plan.feed_s:.0f} s, {plan.span_ms // MIN_MS} min of the feed's time")
        _play(evidence, world, tell)
        services.__exit__(None, None, None)
        evidence.got, evidence.happened = list(receiver.got), world.happened
        evidence.ends = {service.name: service.ends for service in services.all}
        _gather(evidence, broker.address)
        return evidence


@contextmanager
def _influx(folder: Path) -> Iterator[InfluxProcess]:
    """Run a server of this run's own."""
    program = influxd_path()
    if program is None:
        raise ConfigError("--store influxdb: no influxd on the PATH or in the cache seen, one needed")
    folder.mkdir()
    server = InfluxProcess(program, folder)
    try:
        server.start()
        server.set_up()
        yield server
    finally:
        server.stop()


class _Scene:
    """Which commands are run, and how."""

    def __init__(self, plan: Plan, city: Path, logs: Path, address: str) -> None:
        self._plan, self._city, self._logs, self._address = plan, city, logs, address
        self._count = itertools.count()

    def worker(self) -> Service:
        """Return one more worker, not yet started."""
        return self.service(f"worker-{next(self._count)}", "worker")

    def once(self, *arguments: str) -> None:
        """Run a command of the program to its end; raise if it fails."""
        subprocess.run([sys.executable, "-m", "cli.main", *arguments], cwd=ROOT, check=True, capture_output=True)

    def service(self, name: str, command: str, *options: str) -> Service:
        brokers = ("--brokers", self._address) if self._plan.production else ()
        arguments = (command, str(self._city), *brokers, *options)
        return Service(name, arguments, mutant=self._plan.mutant, folder=self._logs)


def _play(evidence: Evidence, world: World, tell: Say) -> None:
    """Send the feed at its pace while the faults happen, and wait for the end of all work."""
    plan, link = evidence.plan, Link(world.broker.address)
    ended = threading.Event()
    watching = threading.Thread(target=_watch, args=(evidence, world, ended), daemon=True)
    breaking = threading.Thread(target=world.run, args=(schedule(plan),), daemon=True)
    world.began_s = time.monotonic()
    watching.start()
    breaking.start()
    start_ms = evidence.sent[0].at_ms
    for message in evidence.sent:
        # The last words only move time on: they need no pace.
        due_s = world.began_s + min((message.at_ms - start_ms) / 1000 / plan.speed, plan.feed_s + TAIL_S)
        if (left_s := due_s - time.monotonic()) > 0:
            time.sleep(left_s)
        link.send(message.topic, message.partition, message.key, message.value, message.at_ms)
        evidence.feed_s.append(time.monotonic() - world.began_s)
    breaking.join()
    left = link.flush(120)
    if left or link.failed:
        raise RuntimeError(f"the feed: {left} messages not in the log, {link.failed[:1]}")
    tell(f"feed and {len(world.happened)} faults are over")
    evidence.wall_s = time.monotonic() - world.began_s
    _drain(evidence, world, tell)
    ended.set()
    watching.join()


def _watch(evidence: Evidence, world: World, ended: threading.Event) -> None:
    """Note when each pane of each partition is first seen closed in the log."""
    from confluent_kafka import Consumer

    settings = {"bootstrap.servers": world.broker.address, "group.id": "citybrain-torture-watch", "log_level": 0}
    consumer = Consumer(settings | {"auto.offset.reset": "earliest", "enable.auto.commit": False})
    consumer.subscribe(["citybrain.segment-states"])
    while not ended.is_set():
        for raw in consumer.consume(500, 0.5):
            if raw.error() is None:
                partition, pane_ms = map(int, (raw.key() or b"0/0").split(b"/"))
                evidence.pace.setdefault((partition, pane_ms), time.monotonic() - world.began_s)
    consumer.close()


def _drain(evidence: Evidence, world: World, tell: Say) -> None:
    """Wait until every group has acknowledged everything and every message is delivered."""
    seen, since_s, done = {"": -1}, time.monotonic(), 0
    while done < 2:
        left = lags(world.broker.address, GROUPS) | {"deliveries": len(_pending(evidence.city))}
        done = done + 1 if set(left.values()) == {0} else 0
        if left != seen:
            seen, since_s = left, time.monotonic()
        elif done == 0 and time.monotonic() - since_s > HANGS_S:
            # The judge says what is missing.
            tell(f"NO PROGRESS for {HANGS_S:.0f} s: {left}")
            break
        time.sleep(0.5)


def _gather(evidence: Evidence, address: str) -> None:
    """Read everything that is left behind."""
    city, network = evidence.city, evidence.network
    evidence.log = {topic: read_topic(address, topic) for topic in TOPICS}
    store = open_store(city, network)
    try:
        evidence.states, evidence.areas = store.states(0, 2**53), store.areas(0, 2**53)
        for segment in range(0, len(network.segments), 9):
            evidence.bins[segment] = store.series(segment, 0, 2**53, step_ms=BIN_MS)
    finally:
        store.close()
    evidence.outbox = [(endpoint, message, state) for endpoint, message, state in _outbox(city)]
    archive = Archive(city.archive_folder)
    for topic in ("readings", "events"):
        read = archive.read(topic, 0, 2**53)
        evidence.archive[topic] = [Logged(m.topic, m.partition, m.offset, m.record_ms, m.key, m.value) for m in read]


def _outbox(city: CitySettings) -> list[tuple[str, str, str]]:
    with sqlite3.connect(city.data_folder / "city.sqlite") as database:
        return database.execute("SELECT endpoint, message_id, state FROM outbox").fetchall()


def _pending(city: CitySettings) -> list[tuple[str, str, str]]:
    try:
        return [row for row in _outbox(city) if row[2] == "pending"]
    except sqlite3.OperationalError:
        return [("", "", "the database is not there")]


def _has_topics(address: str) -> bool:
    from confluent_kafka.admin import AdminClient

    known = AdminClient({"bootstrap.servers": address, "log_level": 0}).list_topics(timeout=10).topics
    return all(f"citybrain.{topic}" in known for topic in TOPICS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _zone(start_ms: int) -> str:
    """Return a zone in which the run begins early in the morning: after midnight a city learns its typical week."""
    hour = datetime.fromtimestamp(start_ms / 1000, UTC).hour
    ahead = (2 - hour + 12) % 24 - 12
    return f"Etc/GMT{-ahead:+d}" if ahead else "Etc/GMT"
