"""``citybrain serve``: the page, the API, the stores and the webhooks, in one process beside workers elsewhere."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from cli.options import (
    LogFormat,
    brokers_of,
    brokers_option,
    city_argument,
    elsewhere,
    log_options,
    open_city,
    refuse_other_than_loopback,
    refuse_port_in_use,
)


@click.command()
@city_argument
@brokers_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; this machine only.")
@click.option("--port", default=8050, show_default=True, type=click.IntRange(1, 65535), help="Port of the page.")
@log_options
def serve(
    city: Path, data_folder: Path | None, address: str | None, host: str, port: int, verbose: bool,
    log_format: LogFormat,
) -> None:  # fmt: skip
    """Serve the page, the API and the webhooks of CITY, and write its stores.

    Workers (`citybrain worker`) and feeds (`citybrain ingest`) are other processes. `citybrain up` is all in one.

    \b
    citybrain serve cities/porto --brokers kafka-1:9092,kafka-2:9092
    """  # noqa: D301
    from citybrain.cityfile import load_network
    from cli.host import prepare, tell_of_broker
    from cli.logs import configure_logs
    from cli.process import Plan, run_program, serve_until, stop_on_signals
    from streams.pipeline import HOSTED

    configure_logs(verbose=verbose, form=log_format)
    settings = open_city(city, data_folder)
    refuse_other_than_loopback(host)
    refuse_port_in_use(host, port)
    brokers = brokers_of(settings, address)
    prepare(brokers, settings, load_network(settings).partitions, HOSTED["serve"])

    async def run() -> None:
        stop = asyncio.Event()
        stop_on_signals(stop)
        production = bool(elsewhere(settings, address))
        plan = Plan(settings, brokers, host, port, HOSTED["serve"], production=production)
        telling = asyncio.create_task(tell_of_broker(brokers))
        try:
            await serve_until(stop, plan, lambda _: click.echo(f"{settings.name} is at http://{host}:{port}"))
        finally:
            telling.cancel()

    run_program(run())
