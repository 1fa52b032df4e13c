"""A real server with a generated city behind it: what the browser tests open, and what pictures are taken of."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import uvicorn
from fastapi import FastAPI

from citybrain.clock import SystemClock
from citybrain.messages import AlertEvent, AlertState, encode_json
from citybrain.metrics import Metrics
from citybrain.network import Network
from citybrain.records import SegmentStates, encode
from citybrain.settings import CitySettings
from citybrain.topics import TopicName
from citybrain.wire import Message
from dashboard.app import SERVER_OPTIONS, make_app
from dashboard.context import Context
from dashboard.live import Live
from dashboard.live.feeds import Demo
from dashboard.live.notices import Broker
from infra.database.protocol import Alert, StaleVersion
from infra.stores.duckdb import DuckStore
from infra.stores.protocol import Batch
from tests.browser.generated import MINUTE_MS, GeneratedCity

T = TypeVar("T")


@dataclass
class MemoryDesk:
    """Alerts in memory, by the rules of `infra.database.protocol.AlertDesk`."""

    kept: dict[str, Alert] = field(default_factory=dict)

    def apply(self, events: Sequence[AlertEvent], *, run: str = "") -> None:
        for event in events:
            old = self.kept.get(event.alert_id)
            if old is not None and old.event.sequence >= event.sequence:
                continue
            state: AlertState = "resolved" if event.type == "alert.resolved" else old.state if old else "open"
            version = old.version + 1 if old else 1
            by, at = (old.acknowledged_by, old.acknowledged_ms) if old else ("", None)
            self.kept[event.alert_id] = Alert(event, state, version, by, at)

    def alerts(self, *, states: Sequence[AlertState] = (), limit: int = 200, run: str = "") -> list[Alert]:
        found = [alert for alert in self.kept.values() if not states or alert.state in states]
        return sorted(found, key=lambda alert: -alert.event.detected_ms)[:limit]

    def alert(self, alert_id: str, *, run: str = "") -> Alert | None:
        return self.kept.get(alert_id)

    def acknowledge(self, alert_id: str, *, by: str, at_ms: int, version: int | None = None) -> Alert:
        alert = self.kept[alert_id]
        if version is not None and version != alert.version:
            raise StaleVersion(f"version {version} seen, {alert.version} is the newest")
        if alert.state == "open":
            alert = Alert(alert.event, "acknowledged", alert.version + 1, by, at_ms)
            self.kept[alert_id] = alert
        return alert


@dataclass
class Served:
    """A running server and the hands that feed it."""

    url: str
    context: Context
    city: GeneratedCity
    desk: MemoryDesk
    now_ms: int
    trust: list[Broker]
    loop: asyncio.AbstractEventLoop
    offsets: int = 0

    @property
    def live(self) -> Live:
        return self.context.live

    def on_loop(self, act: Callable[[], T]) -> T:
        """Do something on the server's event loop, as its live view must be."""

        async def acting() -> T:
            return act()

        return asyncio.run_coroutine_threadsafe(acting(), self.loop).result(10)

    def send(self, topic: TopicName, value: bytes) -> None:
        self.offsets += 1
        self.live.apply(Message(topic, 0, self.offsets, self.now_ms, b"", value))

    def history(self, minutes: int, step: int = 1) -> None:
        """Fill the store with the minutes before now."""
        batch = Batch()
        for start in range(self.now_ms - minutes * MINUTE_MS, self.now_ms - MINUTE_MS, step * MINUTE_MS):
            states = self.city.states(start, version=start // MINUTE_MS)
            batch.areas.append(self.city.areas(states, version=start // MINUTE_MS))
            if start % (5 * MINUTE_MS) == 0 or start > self.now_ms - 90 * MINUTE_MS:
                batch.states.extend(states)
        self.context.store.write(batch)

    def minute(self, *, forecast: bool = True, change: dict[int, float] | None = None) -> None:
        """Let a minute pass: readings, closed pane, indices, forecasts, warnings. ``change`` sets speeds, km/h."""
        start, version = self.now_ms, self.now_ms // MINUTE_MS
        self.now_ms += MINUTE_MS
        states = [
            with_speeds(each, change or {}, self.city.network) for each in self.city.states(start, version=version)
        ]
        areas = self.city.areas(states, version=version)
        ahead = self.city.forecasts(start, version=version) if forecast else []
        self.send("readings", encode(self.city.readings(self.now_ms)))
        for each in states:
            self.send("segment-states", encode(each))
        self.send("area-indices", encode(areas))
        for outlook in ahead:
            self.send("forecasts", encode(outlook))
        if forecast:
            self.send("signals", encode_json(self.city.signals(start)))
        self.context.store.write(Batch(states, [areas], ahead))

    def alert(self, event: AlertEvent) -> None:
        """Let the desk take an alert, and the log tell of it."""
        self.desk.apply([event])
        self.send("alerts", encode_json(event))


def with_speeds(states: SegmentStates, speed_kmh: dict[int, float], network: Network) -> SegmentStates:
    """Return the states with some segments' speeds set, and their levels by them."""
    speed, level = states.speed_kmh.copy(), states.level.copy()
    for row, segment in enumerate(states.segment.tolist()):
        if segment in speed_kmh:
            speed[row] = speed_kmh[segment]
            level[row] = 5 if speed_kmh[segment] < 0.3 * network.segments.free_flow_kmh[segment] else 1
    return replace(states, speed_kmh=speed, level=level)


@contextmanager
def serving(
    network: Network,
    settings: CitySettings,
    folder: Path,
    *,
    now_ms: int,
    demo: Demo | None = None,
    with_typical: bool = True,
    port: int = 0,
) -> Iterator[Served]:
    """Serve a generated city on a free port of loopback."""
    city = GeneratedCity(network, settings.timezone)
    metrics, desk, clock, trust = Metrics(), MemoryDesk(), SystemClock(), ["ok"]
    store = DuckStore(folder / "store.duckdb", network, pane_ms=settings.time.pane_ms)
    live = Live(
        network, settings, typical=city.typical if with_typical else None, store=store, desk=desk, clock=clock,
        metrics=metrics, demo=demo or Demo(simulated=True, speed=5.0, label="simulated", feed_clock=True),
        broker=lambda: trust[0],  # type: ignore[arg-type, return-value]
    )  # fmt: skip
    context = Context(city=settings, network=network, store=store, desk=desk, live=live, clock=clock, metrics=metrics)
    loops: list[asyncio.AbstractEventLoop] = []

    @asynccontextmanager
    async def know_loop(_: FastAPI) -> AsyncIterator[None]:
        loops.append(asyncio.get_running_loop())
        yield

    config = uvicorn.Config(
        make_app(context, lifespan=[know_loop]), host="127.0.0.1", port=port, log_level="warning", **SERVER_OPTIONS
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Served(f"http://127.0.0.1:{port}/", context, city, desk, now_ms, trust, loops[0])  # type: ignore[arg-type]
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        store.close()
