"""``citybrain worker``: the stages that compute, as many processes as wished; Kafka spreads the partitions."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from cli.options import (
    LogFormat,
    Ops,
    brokers_of,
    brokers_option,
    city_argument,
    elsewhere,
    log_options,
    open_city,
    ops_options,
)


@click.command()
@city_argument
@brokers_option
@ops_options
@log_options
def worker(
    city: Path, data_folder: Path | None, address: str | None, ops_host: str, ops_port: int | None, verbose: bool,
    log_format: LogFormat,
) -> None:  # fmt: skip
    """Compute: readings of CITY to states, indices, forecasts, signals and alerts; and archive what came.

    Start as many as there are cores to spare; each takes its share of the partitions, and takes over from one that
    dies. It needs no store, and a full archive disk holds up nothing else. Where messages wait and none is applied for
    half a minute it makes those stages anew; the second time within ten minutes it ends with exit code 3, for its
    supervisor to start it again. It ends with 2 where that would change nothing, such as a snapshot of another version.

    \b
    citybrain worker cities/porto --brokers kafka-1:9092 --ops-port 9101
    """  # noqa: D301
    from citybrain.cityfile import load_network
    from citybrain.metrics import Metrics
    from cli.host import StageHost, prepare, tell_of_broker
    from cli.logs import configure_logs
    from cli.lookout import Lookout
    from cli.ops import Answers, operations
    from cli.process import demo_of, run_program, stop_on_signals
    from cli.typicalweek import typical_of
    from streams.pipeline import HOSTED, Ground

    configure_logs(verbose=verbose, form=log_format)
    settings = open_city(city, data_folder)
    network = load_network(settings)
    brokers = brokers_of(settings, address)
    roles = HOSTED["worker"]
    prepare(brokers, settings, network.partitions, roles)
    metrics = Metrics()

    def ground() -> Ground:
        return Ground(network=network, settings=settings, metrics=metrics, typical=typical_of(settings, network))

    async def run() -> None:
        stop = asyncio.Event()
        stop_on_signals(stop)
        production = bool(elsewhere(settings, address))
        hosts = [StageHost(role, ground, brokers, production=production) for role in roles]
        lookout = Lookout(brokers, lambda: hosts, metrics, wall_clock=not demo_of(settings).feed_clock)
        answers = Answers(metrics, lookout.parts, lookout.stages, lookout.not_ready)
        async with operations(Ops(ops_host, ops_port), answers):
            computing = [asyncio.create_task(host.run(), name=host.role) for host in hosts]
            stopping = asyncio.create_task(stop.wait())
            telling = asyncio.create_task(tell_of_broker(brokers))
            lookout.start()
            click.echo(f"{settings.name}: computing, Kafka at {brokers} (Ctrl-C stops it)")
            try:
                done, _ = await asyncio.wait({*computing, stopping}, return_when=asyncio.FIRST_COMPLETED)
                for task in done & set(computing):
                    task.result()
            finally:
                for task in (*computing, telling, stopping):
                    task.cancel()
                looking = asyncio.to_thread(lookout.stop)
                await asyncio.gather(*computing, telling, looking, return_exceptions=True)

    run_program(run())
