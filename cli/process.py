"""The serving process: a city and its brokers in, the page, API, stores and webhooks (and stages) running out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import structlog
import uvicorn
from fastapi import FastAPI
from mode.threads import WorkerThread

from citybrain.cityfile import load_network
from citybrain.clock import SystemClock
from citybrain.errors import BadRecord, CityBrainError, StoreError
from citybrain.messages import DeadLetter, Event, decode_json
from citybrain.metrics import Metrics
from citybrain.network import Network
from citybrain.settings import CitySettings
from citybrain.typical import day_type_and_bin
from citybrain.wire import Message, Output
from cli.host import StageHost
from cli.lookout import Lookout
from cli.runs import RunStores
from cli.typicalweek import learn_typical, typical_of
from dashboard.app import SERVER_OPTIONS, make_app
from dashboard.context import Context
from dashboard.live import Live
from dashboard.live.city import TOPICS_SHOWN
from dashboard.live.feeds import Demo
from infra.database.alerts import SqlAlertDesk
from infra.database.outbox import Outbox
from infra.database.payload import Sender
from infra.database.tables import open_database
from infra.kafka.client import Brokers
from infra.kafka.producer import BatchProducer, JsonProducer
from infra.kafka.tail import Tail
from infra.stores.factory import check_store, open_store
from infra.webhooks import Dispatcher, ensure_secret
from streams.pipeline import PIPELINE, Ground, Role

log = structlog.get_logger()

TAIL_MESSAGES = 20
"""Newest messages of each partition that the screen begins with: the sensors' last interval and its heartbeats."""
LOOK_EVERY_S = 60.0
HOUR_MS = 3_600_000
KEEP_ALERTS_DAYS = 365
LEFT_OVER_S = 0.3
ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals that end the program in order."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one serving process does.

    Attributes
    ----------
    city, brokers
        The city; where its topics are.
    host, port
        Where the page is.
    roles
        Roles whose stages run here.
    production
        True where other processes run the other stages, on machines of their own.
    parts
        State of other parts by name (broker, feed), for ``/health``.
    """

    city: CitySettings
    brokers: Brokers
    host: str
    port: int
    roles: tuple[Role, ...]
    production: bool = False
    parts: Callable[[], Mapping[str, str]] = field(default=dict)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the program has one way to end."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        """Leave signals to the program."""
        yield


class CityProcess:
    """Everything that one serving process holds."""

    def __init__(self, plan: Plan) -> None:
        self.plan, city = plan, plan.city
        self.clock, self.metrics = SystemClock(), Metrics()
        self.network: Network = load_network(city)
        self.typical = typical_of(city, self.network)
        look_at_store(city)
        self.store = open_store(city, self.network)
        engine = open_database(city.database_address, city.database_password_file)
        base_url = city.public_url or f"http://{plan.host}:{plan.port}"
        sender = Sender(city.name, simulated=bool(city.simulated or city.sumo), base_url=base_url)
        self.desk = SqlAlertDesk(engine, self.network, city.webhooks, self.clock, sender)
        self._engine = engine
        for endpoint in city.webhooks:
            ensure_secret(Path(endpoint.secret_file))
        self.outbox = Outbox(engine)
        self.dispatcher = Dispatcher(self.outbox, city.webhooks, self.clock, self.metrics, np.random.default_rng())
        self.live = Live(
            self.network, city, typical=self.typical, store=self.store, desk=self.desk, clock=self.clock,
            metrics=self.metrics, demo=demo_of(city), broker=self._broker_state,
        )  # fmt: skip
        self.tail = Tail(plan.brokers, TOPICS_SHOWN, self._hear, last=TAIL_MESSAGES)
        self.hosts = [StageHost(role, self.ground, plan.brokers, production=plan.production) for role in plan.roles]
        self.lookout = Lookout(
            plan.brokers, lambda: self.hosts, self.metrics, wall_clock=not demo_of(city).feed_clock
        )  # fmt: skip
        self._counted_here = {step.name for step in PIPELINE if step.role in plan.roles}
        self.runs = RunStores(plan.brokers, self.ground, production=plan.production)
        self._json = JsonProducer(plan.brokers)
        self._events = BatchProducer(plan.brokers)

    def ground(self) -> Ground:
        """Return what stages are made of now."""
        return Ground(
            network=self.network, settings=self.plan.city, metrics=self.metrics, typical=self.typical,
            store=self.store, desk=self.desk,
        )  # fmt: skip

    def app(self) -> FastAPI:
        """Return the web application; stages and webhooks live as long as it."""
        return make_app(
            Context(
                city=self.plan.city, network=self.network, store=self.store, desk=self.desk, live=self.live,
                clock=self.clock, metrics=self.metrics, parts=self.parts,
                submit_readings=self.submit_readings if self.plan.city.json_edge else None,
                submit_event=self.submit_event,
            ),
            lifespan=[self._lifespan],
        )  # fmt: skip

    def parts(self) -> Mapping[str, str]:
        """Return the state of every part by name."""
        broker = self.tail.state
        return {
            "broker": broker.error or "ok",
            **{host.role: host.state for host in self.hosts},
            "webhooks": self.dispatcher.state,
            **self.plan.parts(),
        }

    def _hear(self, message: Message) -> None:
        """Show a message; a letter of a part that runs elsewhere (batcher, workers) is counted here, once it is new."""
        self.live.apply(message)
        if message.topic == "dead-letters" and self.tail.caught_up.is_set():
            with contextlib.suppress(BadRecord):
                self._count(decode_json(DeadLetter, message.value))

    def _count(self, letter: DeadLetter) -> None:
        if letter.stage not in self._counted_here:
            self.metrics.count("citybrain_dead_letters_total", letter.stage, letter.reason, by=letter.count)

    def submit_readings(self, readings: list[bytes]) -> None:
        """Send JSON readings to the batcher, at the feeds' time; durable on return."""
        now_ms = self.live.city_ms()
        self._json.send("readings-json", ((_detector(text), text, now_ms) for text in readings))
        self._json.flush()

    def submit_event(self, event: bytes) -> None:
        """Send a reported event; durable on return."""
        key = decode_json(Event, event).id.encode()
        self._events.send([Output("events", 0, key, event)], self.live.city_ms())
        self._events.flush()

    def _broker_state(self):  # type: ignore[no-untyped-def]
        return "lost" if self.tail.state.kind == "lost" else "ok"

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        stop = asyncio.Event()
        self.tail.start()
        self.lookout.start()
        tasks = [asyncio.create_task(host.run(), name=host.role) for host in self.hosts]
        tasks.append(asyncio.create_task(self.dispatcher.run(stop), name="webhooks"))
        tasks.append(asyncio.create_task(self.runs.follow(), name="runs"))
        tasks.append(asyncio.create_task(self._every_midnight(), name="midnight"))
        self.tasks = tasks
        try:
            yield
        finally:
            stop.set()
            for task in tasks:
                if task.get_name() != "webhooks":
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(self.lookout.stop)
            await asyncio.to_thread(self.tail.stop)

    async def _every_midnight(self) -> None:
        """After every midnight of the city learn the typical week again, and let go of what is too old."""
        last_ms: int | None = None
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now_ms = self.live.city_ms()
            _, place = day_type_and_bin(now_ms, self.plan.city.timezone)
            midnight_ms = now_ms - round(place * 900_000)
            # Within an hour it is the same midnight, read off a clock that counts in milliseconds.
            if last_ms is not None and midnight_ms - last_ms < HOUR_MS:
                continue
            first, last_ms = last_ms is None, midnight_ms
            await asyncio.to_thread(self._let_go)
            if not first:
                await self._learn(midnight_ms)

    async def _learn(self, before_ms: int) -> None:
        typical = await asyncio.to_thread(learn_typical, self.plan.city, self.network, self.store, before_ms=before_ms)
        if typical is not None:
            self.typical = typical
            self.live.city.use_typical(typical)
            for host in self.hosts:
                if host.role == "worker":
                    host.renew()

    def _let_go(self) -> None:
        try:
            keep = self.plan.city.store
            self.store.retain(keep.keep.days, rollup_days=keep.keep_rollups.days)
            self.desk.retain(KEEP_ALERTS_DAYS)
            self.outbox.retain(self.clock.now_ms())
        except StoreError as error:
            log.warning("old_rows_not_removed", reason=str(error))

    def close(self) -> None:
        """Let go of files and connections."""
        self._json.close()
        self._events.close()
        self.store.close()
        self._engine.dispose()


def look_at_store(city: CitySettings) -> None:
    """End here, with one sentence, where the store will never take our rows; one that is away may come back.

    Raises
    ------
    ConfigError
        If the store's server, its buckets or the rights of the token are not as they must be.
    """
    try:
        check_store(city)
    except StoreError as error:
        log.warning("store_away", reason=str(error))


def demo_of(city: CitySettings) -> Demo:
    """Return whose clock the city follows."""
    if city.simulated:
        feed = city.simulated[0]
        return Demo(simulated=True, speed=feed.speed, label=feed.name, feed_clock=bool(feed.start) or feed.speed != 1)
    played = [feed.name for feed in city.tables] + [feed.name for feed in city.sumo]
    return Demo(simulated=bool(city.sumo), feed_clock=bool(played), label=played[0] if played else "")


class _Named(msgspec.Struct):
    detector: str = ""


def _detector(reading: bytes) -> bytes:
    try:
        return msgspec.json.decode(reading, type=_Named).detector.encode()
    except msgspec.DecodeError as error:
        raise BadRecord("malformed", f"no JSON reading: {error}") from error


async def serve_until(stop: asyncio.Event, plan: Plan, on_listening: Callable[[CityProcess], None]) -> None:
    """Run the serving process until ``stop`` is set.

    Raises
    ------
    CityBrainError
        If a part cannot be opened, or the stages do not fit what is on the broker.
    """
    process = await asyncio.to_thread(CityProcess, plan)
    try:
        config = uvicorn.Config(
            process.app(), host=plan.host, port=plan.port, log_level="critical", lifespan="on", **SERVER_OPTIONS
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started and not serving.done():
            await asyncio.sleep(0.02)
        if serving.done():
            raise CityBrainError(f"the page cannot be served at {plan.host}:{plan.port}")
        _note_address(plan)
        on_listening(process)
        await _first_of(stop, serving, process.tasks)
        server.should_exit = True
        await serving
        for task in process.tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
    finally:
        (plan.city.data_folder / "web.json").unlink(missing_ok=True)
        await asyncio.to_thread(process.close)


async def _first_of(stop: asyncio.Event, serving: asyncio.Task[None], tasks: Sequence[asyncio.Task[None]]) -> None:
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({stopping, serving, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()


def _note_address(plan: Plan) -> None:
    text = json.dumps({"address": f"http://{plan.host}:{plan.port}", "pid": os.getpid()})
    (plan.city.data_folder / "web.json").write_text(text)


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set ``stop`` on Ctrl-C, SIGTERM and a terminal that is closed."""
    loop = asyncio.get_running_loop()
    for each in ENDING:
        try:
            loop.add_signal_handler(each, stop.set)
        except NotImplementedError:  # Windows
            signal.signal(each, lambda *_: loop.call_soon_threadsafe(stop.set))


def run_program(main: Coroutine[Any, Any, None]) -> None:
    """Run a program to its end, as `asyncio.run` does, but wait for tasks that are left over only a moment.

    While its broker is away not every task of Faust ends when it is cancelled; by then all of ours have.
    """
    runner = asyncio.Runner()
    try:
        runner.run(main)
    finally:
        loop = runner.get_loop()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        stubborn = loop.run_until_complete(asyncio.wait(left, timeout=LEFT_OVER_S))[1] if left else set()
        # A thread of Faust that goes on would speak to a closed loop; the command ends the process (`cli.main.end`).
        if not stubborn and not any(isinstance(thread, WorkerThread) for thread in threading.enumerate()):
            runner.close()
