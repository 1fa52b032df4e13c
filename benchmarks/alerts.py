"""Alerts and webhooks on SQLite and on PostgreSQL: alerts into the outbox, and from there to a receiver.

The PostgreSQL is a server of its own, with its durability as installed (every commit on the disk), over TCP. A batch is
what comes at one checkpoint; one endpoint hears of everything.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.figure import Figure, Skipped
from citybrain.clock import SystemClock
from citybrain.metrics import Metrics
from citybrain.settings import Webhook
from infra.database.alerts import SqlAlertDesk
from infra.database.outbox import Outbox
from infra.database.payload import Sender
from infra.database.tables import open_database
from infra.webhooks import Dispatcher, ensure_secret
from tests.fakes import alert_event, grid_network
from tests.infra.postgres import PostgresServer, free_port, programs
from tests.infra.receiver import receiving

NETWORK = grid_network()
BATCHES, BATCH = 60, 50
SINGLE = 60
"""Alerts whose way to the receiver is timed one at a time."""


@contextmanager
def _postgres() -> Iterator[str]:
    found = programs()
    if found is None:
        raise Skipped("PostgreSQL is not on this machine: Debian's package `postgresql` has it")
    with tempfile.TemporaryDirectory(prefix="citybrain-postgres-") as folder:
        Path(folder).chmod(0o755)
        server = PostgresServer(found, Path(folder), free_port(), options=())
        server.make()
        server.start()
        try:
            yield server.url("postgres")
        finally:
            server.stop(signal.SIGINT)


@contextmanager
def _sqlite() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/city.sqlite"


def _desk(url: str, hook: str, secret: Path) -> tuple[SqlAlertDesk, Outbox, Webhook]:
    engine, endpoint = open_database(url), Webhook("unit", hook, str(secret))
    return SqlAlertDesk(engine, NETWORK, [endpoint], SystemClock(), Sender("Gridtown")), Outbox(engine), endpoint


def _into_the_outbox(desk: SqlAlertDesk) -> float:
    events = [alert_event(NETWORK, alert_id=f"bulk{at}") for at in range(BATCHES * BATCH)]
    began = time.perf_counter()
    for at in range(0, len(events), BATCH):
        desk.apply(events[at : at + BATCH])
    return len(events) / (time.perf_counter() - began)


async def _to_the_receiver(desk: SqlAlertDesk, outbox: Outbox, endpoint: Webhook, got: list[object]) -> list[float]:
    """Return how many messages arrived a second while many waited, then the times of single ones, ms."""
    dispatcher = Dispatcher(outbox, [endpoint], SystemClock(), Metrics(), np.random.default_rng(1))
    stop = asyncio.Event()
    running, began = asyncio.create_task(dispatcher.run(stop)), time.perf_counter()
    while len(got) < BATCHES * BATCH:
        await asyncio.sleep(0.002)
    times = [len(got) / (time.perf_counter() - began)]
    rng = np.random.default_rng(2)
    for at in range(SINGLE):
        await asyncio.sleep(rng.uniform(0.3, 0.6))
        known, sent = len(got), time.perf_counter()
        await asyncio.to_thread(desk.apply, [alert_event(NETWORK, alert_id=f"single{at}")])
        while len(got) == known:
            await asyncio.sleep(0.001)
        times.append((time.perf_counter() - sent) * 1000)
    stop.set()
    await running
    return times


def _measure(url: str) -> tuple[float, float, float, float]:
    """Return alerts/s into the outbox, messages/s delivered, median and 99th percentile of single ones, ms."""
    with tempfile.TemporaryDirectory() as folder, receiving() as receiver:
        secret = Path(folder) / "secret"
        ensure_secret(secret)
        desk, outbox, endpoint = _desk(url, receiver.url, secret)
        stored = _into_the_outbox(desk)
        delivered, *single = asyncio.run(_to_the_receiver(desk, outbox, endpoint, receiver.got))  # type: ignore[arg-type]
        desk.close()
    return stored, delivered, float(np.median(single)), float(np.quantile(single, 0.99))


def run() -> list[Figure]:
    """Measure PostgreSQL with SQLite beside it."""
    with _sqlite() as url:
        sqlite = _measure(url)
    with _postgres() as url:
        postgres = _measure(url)
    names = (
        ("alerts into the outbox, PostgreSQL", "1/s", f"batches of {BATCH}, each one transaction"),
        ("webhooks delivered from a full outbox, PostgreSQL", "1/s", "one endpoint, four requests at a time"),
        ("alert -> webhook received, median, PostgreSQL", "ms", "the outbox is asked every 250 ms"),
        ("alert -> webhook received, p99, PostgreSQL", "ms", ""),
    )
    return [
        Figure(name, ours, unit, peer="SQLite", peer_value=peer, note=note)
        for (name, unit, note), ours, peer in zip(names, postgres, sqlite, strict=True)
    ]
