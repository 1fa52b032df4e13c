"""``citybrain ingest``: the feeds of a city into Kafka: simulated ones, table archives, the JSON edge's batcher."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import click

from cli.options import Pace, brokers_option, city_argument, data_option, open_city, pace_options


@click.command()
@city_argument
@brokers_option
@click.option("--feed", "names", multiple=True, help="Only this feed of city.toml; may be given several times.")
@pace_options
@data_option
@click.option("--until-stdin-closes", is_flag=True, hidden=True, help="End with the parent process.")
@click.option("--verbose", is_flag=True, help="Log what goes on, not only what goes wrong.")
def ingest(
    city: Path, data_folder: Path | None, brokers: str | None, names: tuple[str, ...], real_time: bool,
    speed: float | None, start: str | None, data: Path | None, until_stdin_closes: bool, verbose: bool,
) -> None:  # fmt: skip
    """Send the feeds of CITY to Kafka, until they end or Ctrl-C.

    A simulated city goes on where it was stopped. A table archive is played once, as fast as it goes, or ``--speed``
    times as fast as it was. The JSON edge's batcher runs where city.toml leaves it open.

    \b
    citybrain ingest cities/porto --real-time
    citybrain ingest cities/i5 --data pems/ --speed 60
    """  # noqa: D301
    from cli.feeds import run_feeds
    from cli.logs import configure_logs

    configure_logs(verbose=verbose)
    settings = open_city(city, data_folder, Pace(real_time, speed, start))
    stop = threading.Event()
    if until_stdin_closes:
        from cli.child import set_when_closed

        set_when_closed(sys.stdin.buffer, stop)
    run_until_stopped(lambda: run_feeds(settings, brokers, stop, names=names, archives=data, speed=speed), stop)


def run_until_stopped(work: Callable[[], None], stop: threading.Event) -> None:
    """Run blocking work in a thread; Ctrl-C and SIGTERM set ``stop``. What the work raises is raised here."""
    from cli.process import run_program, stop_on_signals

    async def run() -> None:
        told = asyncio.Event()
        stop_on_signals(told)
        working = asyncio.ensure_future(asyncio.to_thread(work))
        waiting = asyncio.create_task(told.wait())
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        waiting.cancel()
        await working

    run_program(run())
