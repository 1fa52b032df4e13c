"""``citybrain up``: everything on this machine, with one command: broker, feeds, stages, stores, page."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from citybrain.settings import CitySettings
from cli.child import Child
from cli.options import (
    LogFormat,
    Pace,
    brokers_option,
    city_argument,
    elsewhere,
    log_options,
    open_city,
    pace_options,
    refuse_other_than_loopback,
    refuse_port_in_use,
)
from infra.kafka.client import Brokers

if TYPE_CHECKING:
    from infra.kafka.broker import EmbeddedBroker


@click.command()
@city_argument
@brokers_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; this machine only.")
@click.option("--port", default=8050, show_default=True, type=click.IntRange(1, 65535), help="Port of the page.")
@pace_options
@click.option("--fresh", is_flag=True, help="Begin anew: what an earlier run stored is removed.")
@log_options
def up(
    city: Path, data_folder: Path | None, address: str | None, host: str, port: int,
    real_time: bool, speed: float | None, start: str | None, fresh: bool, verbose: bool,
    log_format: LogFormat,
) -> None:  # fmt: skip
    """Run CITY on this machine: Kafka, feeds, stream processors, stores, page and webhooks.

    It prints the address of the page. Ctrl-C stops everything within seconds; what was stored is there at the next
    start, and a simulated city goes on where it was.

    \b
    citybrain up cities/porto
    citybrain up cities/porto --real-time --port 9000
    """  # noqa: D301
    from cli.logs import configure_logs
    from cli.process import run_program

    configure_logs(verbose=verbose, form=log_format)
    pace = Pace(real_time, speed, start)
    settings = open_city(city, data_folder, pace)
    refuse_other_than_loopback(host)
    refuse_port_in_use(host, port)
    if fresh:
        remove_data(settings)
    run_program(_run(settings, address, host, port, pace))


def remove_data(city: CitySettings) -> None:
    """Remove what earlier runs left, unless one runs now.

    Raises
    ------
    ConfigError
        If the city's broker runs.
    """
    from citybrain.errors import ConfigError
    from infra.kafka.broker import running_in

    if (running := running_in(city.broker_folder)) is not None:
        raise ConfigError(f"{city.data_folder}: in use by process {running.pid}; stop it before --fresh")
    shutil.rmtree(city.data_folder)
    city.data_folder.mkdir()


async def _run(city: CitySettings, address: str | None, host: str, port: int, pace: Pace) -> None:
    from rich.console import Console

    from infra.kafka.broker import EmbeddedBroker
    from infra.kafka.jars import cache_folder

    began = time.monotonic()
    stop = asyncio.Event()
    jars = cache_folder(os.environ) / "kafka"
    console = Console(stderr=True)
    named = elsewhere(city, address)
    broker = None if named else EmbeddedBroker(city.broker_folder, jars_folder=jars, console=console)
    feed = Child("feed", _ingest_arguments(city, address, pace), city.data_folder / "logs" / "feed.log")
    feeds = bool(city.simulated or city.tables or city.sumo or city.json_edge)
    try:
        # The simulated city runs its night while the broker starts.
        if feeds:
            feed.start()
        brokers = named or Brokers(await asyncio.to_thread(broker.start))  # type: ignore[union-attr]
        await _serve(stop, city, brokers, host, port, broker, feed if feeds else None, began)
    finally:
        await asyncio.gather(*(asyncio.to_thread(part.stop) for part in (feed, broker) if part is not None))


def _ingest_arguments(city: CitySettings, address: str | None, pace: Pace) -> list[str]:
    arguments = ["ingest", str(city.folder), "--state", str(city.data_folder)]
    arguments += ["--brokers", address] if address else []
    return arguments + pace.arguments()


async def _serve(
    stop: asyncio.Event, city: CitySettings, brokers: Brokers, host: str, port: int,
    broker: EmbeddedBroker | None, feed: Child | None, began: float,
) -> None:  # fmt: skip
    from citybrain.cityfile import load_network
    from cli.host import prepare
    from cli.process import CityProcess, Plan, serve_until, stop_on_signals
    from streams.pipeline import HOSTED

    stop_on_signals(stop)
    partitions = load_network(city).partitions
    roles = (*HOSTED["worker"], *HOSTED["serve"])
    await asyncio.to_thread(prepare, brokers, city, partitions, roles)

    def parts() -> Mapping[str, str]:
        return {} if feed is None else {"feed": feed.state}

    def announce(process: CityProcess) -> None:
        click.echo(f"{city.name} is at http://{host}:{port}  ({time.monotonic() - began:.1f} s; Ctrl-C stops it)")

    plan = Plan(city, brokers, host, port, roles, production=broker is None, parts=parts)
    watching = asyncio.create_task(_watch(broker, feed))
    try:
        await serve_until(stop, plan, announce)
    finally:
        watching.cancel()


async def _watch(broker: EmbeddedBroker | None, feed: Child | None) -> None:
    """Bring back the feed and the broker if they die."""
    import structlog

    from citybrain.errors import CityBrainError

    log = structlog.get_logger()
    while True:
        await asyncio.sleep(1.0)
        if feed is not None:
            feed.watch()
        if broker is not None and not broker.alive:
            log.warning("broker_ended", reason=broker.trouble())
            try:
                await asyncio.to_thread(broker.start)
            except CityBrainError as error:
                log.error("broker_not_restarted", reason=str(error))
                await asyncio.sleep(5.0)
