"""``citybrain worker``: the stages that compute, as many processes as wished; Kafka spreads the partitions."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from cli.options import brokers_of, brokers_option, city_argument, open_city


@click.command()
@city_argument
@brokers_option
@click.option("--verbose", is_flag=True, help="Log what goes on, not only what goes wrong.")
def worker(city: Path, data_folder: Path | None, brokers: str | None, verbose: bool) -> None:
    """Compute: readings of CITY to states, indices, forecasts, signals and alerts.

    Start as many as there are cores to spare; each takes its share of the partitions, and takes over from one that
    dies. It needs no store.

    \b
    citybrain worker cities/porto --brokers kafka-1:9092
    """  # noqa: D301
    from citybrain.cityfile import load_network
    from citybrain.metrics import Metrics
    from cli.host import StageHost, tell_of_broker
    from cli.logs import configure_logs
    from cli.process import run_program, stop_on_signals
    from cli.typicalweek import typical_of
    from infra.kafka.admin import apply_topics
    from streams.pipeline import Ground

    configure_logs(verbose=verbose)
    settings = open_city(city, data_folder)
    network = load_network(settings)
    address = brokers_of(settings, brokers)
    apply_topics(address, network.partitions, retention=settings.retention)
    metrics = Metrics()

    def ground() -> Ground:
        return Ground(network=network, settings=settings, metrics=metrics, typical=typical_of(settings, network))

    async def run() -> None:
        stop = asyncio.Event()
        stop_on_signals(stop)
        host = StageHost("worker", ground, address, production=brokers is not None)
        computing = asyncio.create_task(host.run())
        stopping = asyncio.create_task(stop.wait())
        telling = asyncio.create_task(tell_of_broker(address))
        click.echo(f"{settings.name}: computing, Kafka at {address} (Ctrl-C stops it)")
        await asyncio.wait({computing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if computing.done():
            computing.result()
        computing.cancel()
        telling.cancel()
        await asyncio.gather(computing, telling, return_exceptions=True)

    run_program(run())
