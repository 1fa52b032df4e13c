"""``citybrain replay``: a period of the past through Kafka and the stages, in topics and rows of its own run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

import click

from citybrain.clock import utc
from citybrain.errors import ConfigError, StoreError
from cli.options import brokers_option, city_argument, data_option, elsewhere, instant_ms, open_city
from cli.recompute import with_bar
from infra.kafka.client import Brokers

if TYPE_CHECKING:
    from citybrain.network import Network
    from citybrain.settings import CitySettings
    from citybrain.topics import TopicName
    from citybrain.wire import Output
    from cli.past import Kind, Past

T = TypeVar("T")

WAIT_S = 0.3
NEVER_WAITS_MS = 2**62
NOBODY_STORES_S = 30.0
"""So long is waited for a serving process to take the results, before it is said that nobody does."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be replayed, where, how fast (None: as fast as it goes), and what becomes of it."""

    city: CitySettings
    network: Network
    past: Past
    brokers: Brokers
    production: bool
    run: str
    speed: float | None
    out: Path | None
    keep_topics: bool


@click.command()
@city_argument
@data_option
@brokers_option
@click.option("--from", "from_", metavar="TIME", help="First pane, such as 2026-04-02 or 2026-04-02T07:30.")
@click.option("--to", metavar="TIME", help="End, not included; default: all there is.")
@click.option("--speed", default="max", show_default=True, metavar="N|max", help="So many times as fast as it was.")
@click.option("--batch-rows", default=0, type=click.IntRange(0), help="Rows a batch; 0: all that ended together.")
@click.option(
    "--run", default="", metavar="NAME", help="Name of the run; default: first day and minute, and when it was played."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Also write the results as Parquet.")
@click.option(
    "--source", type=click.Choice(["auto", "tables", "archive"]), default="auto", show_default=True,
    help="Table feeds of city.toml or the archive of what came; auto: tables where there are some.",
)  # fmt: skip
@click.option("--allow-gaps", is_flag=True, help="Compute though the archive lacks messages of the period.")
@click.option("--keep-topics", is_flag=True, help="Leave the run's topics on the broker.")
def replay(
    city: Path, data_folder: Path | None, data: Path | None, address: str | None, from_: str | None,
    to: str | None, speed: str, batch_rows: int, run: str, out: Path | None, source: Kind, allow_gaps: bool,
    keep_topics: bool,
) -> None:  # fmt: skip
    """Play a period of CITY through Kafka again, never disturbing the live city.

    Its topics are citybrain.RUN.*, its rows stand under RUN in the store and on the page. It uses the broker of a
    running `citybrain up`, or starts the city's own; where a serving process holds the store, that one stores the
    run. --data DIR holds the files of table feeds ({data} in city.toml) or the folder archive.

    \b
    citybrain replay cities/porto --from 2026-11-17T07:00 --to 2026-11-17T09:00 --speed 60
    citybrain replay cities/i5 --data pems/ --speed max --run first --out out/
    """  # noqa: D301
    from citybrain.cityfile import load_network
    from cli.logs import configure_logs
    from cli.past import past_of

    configure_logs()
    settings = open_city(city, data_folder)
    network = load_network(settings)
    from_ms, to_ms = (None if text is None else instant_ms(text, settings.timezone) for text in (from_, to))
    past = past_of(
        settings, network, kind=source, data=data, from_ms=from_ms, to_ms=to_ms, batch_rows=batch_rows,
        allow_gaps=allow_gaps,
    )  # fmt: skip
    pace = _speed(speed)
    with _broker(settings, address) as brokers:
        name, production = _run_name(run, brokers, past, settings.timezone), bool(elsewhere(settings, address))
        request = Request(settings, network, past, brokers, production, name, pace, out, keep_topics)
        asyncio.run(_replay(request))


def _speed(text: str) -> float | None:
    """Return the pace, None for as fast as it goes.

    Examples
    --------
    >>> _speed("60"), _speed("max")
    (60.0, None)
    """
    try:
        pace = None if text == "max" else float(text)
    except ValueError:
        pace = 0.0
    if pace is not None and not 0 < pace < float("inf"):
        raise ConfigError(f"--speed {text!r} seen, a number above 0 or max allowed")
    return pace


@contextlib.contextmanager
def _broker(city: CitySettings, address: str | None) -> Iterator[Brokers]:
    """Give the brokers named, the city's broker that runs, or one started for the replay."""
    from rich.console import Console

    from infra.kafka.broker import EmbeddedBroker, running_in

    if (named := elsewhere(city, address)) is not None:
        yield named
        return
    if (found := running_in(city.broker_folder)) is not None:
        yield Brokers(found.address)
        return
    with EmbeddedBroker(city.broker_folder, console=Console(stderr=True)) as broker:
        yield Brokers(broker.address)


def _run_name(run: str, brokers: Brokers, past: Past, timezone: str) -> str:
    """Return the name told, or one that is new: topics of a run that is over are gone, its rows in a store are not.

    Raises
    ------
    ConfigError
        If a run of that name is on the broker.
    """
    from citybrain.clock import SystemClock
    from infra.kafka.admin import runs

    name = run or new_name(past.span_ms[0], SystemClock().now_ms(), timezone)
    if name in runs(brokers):
        raise ConfigError(f"run {name!r} is on the broker already: another --run, or none for a name of its own")
    return name


def new_name(from_ms: int, now_ms: int, timezone: str) -> str:
    """Return a name that says what is replayed, and when that was begun; both in the city's time.

    Examples
    --------
    >>> new_name(1_794_900_600_000, 1_794_930_005_000, "Europe/Lisbon")
    '20261117-0730-154005'
    """
    zone = ZoneInfo(timezone)
    return f"{utc(from_ms).astimezone(zone):%Y%m%d-%H%M}-{utc(now_ms).astimezone(zone):%H%M%S}"


async def _replay(request: Request) -> None:
    from cli.runs import note_period
    from infra.kafka.admin import apply_topics, delete_run_topics

    note_period(request.city, request.run, request.past.span_ms)
    await asyncio.to_thread(apply_topics, request.brokers, request.network.partitions, run=request.run)
    keep = request.keep_topics
    try:
        stored = await _work(request)
        keep = keep or not stored
        if request.out is not None:
            await _export(request, request.out)
        if not stored:
            click.echo(f"run {request.run}: no serving process has stored it yet; one that starts will", err=True)
        click.echo(f"run {request.run}: done")
    finally:
        if not keep:
            await asyncio.to_thread(delete_run_topics, request.brokers, request.run)


async def _work(request: Request) -> bool:
    """Run the stages, play the past, wait until all is computed and stored; return whether somebody stored it."""
    from citybrain.clock import ManualClock, ScaledClock
    from infra.kafka.producer import BatchProducer
    from streams.replay import play

    stop = Event()
    async with _stages(request) as (apps, stores_here):
        clock = (
            ManualClock(NEVER_WAITS_MS)
            if request.speed is None
            else ScaledClock(request.past.span_ms[0], request.speed)
        )
        producer = BatchProducer(request.brokers, request.run)
        playing = asyncio.ensure_future(
            asyncio.to_thread(
                play, with_bar(_all(request.past), request.past.span_ms, "replaying"), producer, clock, stop
            )
        )
        try:
            await _unless_crash(playing, apps)
            await _unless_crash(_computed(request), apps)
            return await _unless_crash(_stored(request, patient=stores_here), apps)
        finally:
            stop.set()
            await asyncio.gather(playing, return_exceptions=True)
            producer.close()


def _all(past: Past) -> Iterator[Output]:
    """Yield the messages, and what was refused before it became one."""
    from streams.stage import letter

    newest_ms = 0
    for output in past.outputs():
        newest_ms = max(newest_ms, output.record_ms or 0)
        yield output
    for refused in past.refused():
        yield replace(letter(refused), record_ms=newest_ms)


@contextlib.asynccontextmanager
async def _stages(request: Request) -> AsyncIterator[tuple[list[Any], bool]]:
    """Run the run's stages in this process; those that store only if no other process holds the store."""
    from citybrain.clock import SystemClock
    from citybrain.metrics import Metrics
    from cli.typicalweek import typical_of
    from infra.database.alerts import SqlAlertDesk
    from infra.database.payload import Sender
    from infra.database.tables import open_database
    from infra.stores.factory import open_store
    from streams.harness import make_app, running
    from streams.pipeline import Ground, replayed, stages

    city, network = request.city, request.network
    typical = typical_of(city, network)
    ground = Ground(network, city, Metrics(), typical=typical, run=request.run, period_ms=request.past.span_ms)
    async with AsyncExitStack() as stack:
        made = [(role, stages(role, ground)) for role in replayed("worker")]
        try:
            store = open_store(city, network)
        except StoreError:
            store = None
        if store is not None:
            stack.callback(store.close)
            engine = open_database(city.database_address, city.database_password_file)
            stack.callback(engine.dispose)
            desk = SqlAlertDesk(engine, network, (), SystemClock(), Sender(city.name, simulated=False, base_url=""))
            ground = replace(ground, store=store, desk=desk)
            made += [(role, stages(role, ground)) for role in replayed("serve")]
        apps = [
            make_app(
                part,
                request.brokers,
                run=request.run,
                role=role,
                settings=city,
                metrics=ground.metrics,
                production=request.production,
            )
            for role, part in made
        ]
        for app in apps:
            await stack.enter_async_context(running(app))
        yield apps, store is not None


async def _unless_crash(work: Awaitable[T], apps: Sequence[Any]) -> T:
    """Wait for work; if an app crashes before it is done, raise why."""
    from streams.harness import crash_of

    working = asyncio.ensure_future(work)
    crashes = [asyncio.ensure_future(crash_of(app)) for app in apps]
    try:
        await asyncio.wait([working, *crashes], return_when=asyncio.FIRST_COMPLETED)
        for crash in crashes:
            if crash.done():
                raise crash.result()
        return await working
    finally:
        for task in (working, *crashes):
            task.cancel()


async def _computed(request: Request) -> None:
    from streams.replay import lag

    city = request.network.partitions
    read: list[tuple[TopicName, int]] = [
        ("readings", city),
        ("segment-states", city),
        ("area-partials", 1),
        ("signals", 1),
    ]
    while await lag(request.brokers, request.run, "worker", read):
        await asyncio.sleep(WAIT_S)


async def _stored(request: Request, *, patient: bool) -> bool:
    """Wait until the run is stored; unless we store it, give up when nobody has begun after a while."""
    from streams.replay import lag

    city = request.network.partitions
    read: list[tuple[TopicName, int]] = [("segment-states", city), ("area-indices", 1), ("forecasts", city)]
    loop = asyncio.get_running_loop()
    before, moved_at = -1, loop.time()
    while left := (
        await lag(request.brokers, request.run, "serve", read)
        + await lag(request.brokers, request.run, "outbox", [("alerts", 1)])
    ):
        if left != before:
            before, moved_at = left, loop.time()
        if not patient and loop.time() - moved_at > NOBODY_STORES_S:
            return False
        await asyncio.sleep(WAIT_S)
    return True


async def _export(request: Request, out: Path) -> None:
    from cli.recompute import report
    from streams.replay import results
    from streams.results import Recorder

    recorder = Recorder(request.network, request.city.time, out, *request.past.span_ms)
    read: list[tuple[TopicName, int]] = [
        ("area-indices", 1), ("segment-states", request.network.partitions), ("dead-letters", 1),
    ]  # fmt: skip
    async for message in results(request.brokers, request.run, read):
        recorder(message)
    report(recorder.close(), recorder.refused, out)
