"""``citybrain ingest``: the feeds of a city into Kafka: simulated ones, table archives, the JSON edge's batcher."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.options import (
    LogFormat,
    Ops,
    Pace,
    brokers_option,
    city_argument,
    data_option,
    log_options,
    open_city,
    ops_options,
    pace_options,
)

if TYPE_CHECKING:
    from cli.ops import Answers


@click.command()
@city_argument
@brokers_option
@click.option("--feed", "names", multiple=True, help="Only this feed of city.toml; may be given several times.")
@pace_options
@data_option
@click.option("--until-stdin-closes", is_flag=True, hidden=True, help="End with the parent process.")
@ops_options
@log_options
def ingest(
    city: Path, data_folder: Path | None, address: str | None, names: tuple[str, ...], real_time: bool,
    speed: float | None, start: str | None, data: Path | None, until_stdin_closes: bool,
    ops_host: str, ops_port: int | None, verbose: bool, log_format: LogFormat,
) -> None:  # fmt: skip
    """Send the feeds of CITY to Kafka, until they end or Ctrl-C.

    A simulated city goes on where it was stopped. A table archive is played once, as fast as it goes, or ``--speed``
    times as fast as it was. The JSON edge's batcher runs where city.toml leaves it open.

    \b
    citybrain ingest cities/porto --real-time
    citybrain ingest cities/i5 --data pems/ --speed 60
    citybrain ingest cities/porto --brokers kafka-1:9092 --ops-port 9102
    """  # noqa: D301
    from citybrain.metrics import Metrics
    from cli.feedboard import FeedBoard
    from cli.feeds import run_feeds
    from cli.logs import configure_logs
    from cli.ops import Answers

    configure_logs(verbose=verbose, form=log_format)
    settings = open_city(city, data_folder, Pace(real_time, speed, start))
    stop = threading.Event()
    if until_stdin_closes:
        from cli.child import set_when_closed

        set_when_closed(sys.stdin.buffer, stop)
    board = FeedBoard(Metrics())
    answers = Answers(board.metrics, board.parts, board.feeds, board.not_ready)

    def work() -> None:
        run_feeds(settings, address, stop, board=board, names=names, archives=data, speed=speed)

    run_until_stopped(work, stop, Ops(ops_host, ops_port), answers)


def run_until_stopped(
    work: Callable[[], None], stop: threading.Event, ops: Ops | None = None, answers: Answers | None = None
) -> None:
    """Run blocking work in a thread; Ctrl-C and SIGTERM set ``stop``. What the work raises is raised here."""
    from cli.ops import operations
    from cli.process import run_program, stop_on_signals

    async def run() -> None:
        told = asyncio.Event()
        stop_on_signals(told)
        async with contextlib.AsyncExitStack() as stack:
            if ops is not None and answers is not None:
                await stack.enter_async_context(operations(ops, answers))
            working = asyncio.ensure_future(asyncio.to_thread(work))
            waiting = asyncio.create_task(told.wait())
            await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
            stop.set()
            waiting.cancel()
            await working

    run_program(run())
