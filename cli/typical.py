"""``citybrain typical``: days of the simulated city through the real stages, offline, to a typical week."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from cli.options import open_city

FIRST_DAY = date(2026, 3, 2)
"""A Monday without holidays near; never the days that a demo shows."""


@click.command()
@click.argument("city", type=click.Path(path_type=Path))
@click.option("--days", default=7, show_default=True, type=click.IntRange(1, 366), help="Days to simulate.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File; default: the one city.toml names.")
def typical(city: Path, days: int, out: Path | None) -> None:
    """Make the typical week that ships with a simulated CITY: run its simulator through the real stages.

    The week says that it is simulated, and fades as the store fills with what was observed. The result is the same in
    every run.

    \b
    citybrain typical cities/porto
    """  # noqa: D301
    from dataclasses import replace
    from tempfile import TemporaryDirectory

    from rich.progress import Progress

    from citybrain.cityfile import load_network
    from citybrain.clock import epoch_ms
    from citybrain.errors import ConfigError
    from citybrain.records import AreaIndices, Passages, SegmentStates, decode
    from citybrain.wire import Message
    from ingest.publish import messages
    from models.weekly import WeekOfStates
    from simulators.city import SimulatedCity
    from streams.aggregate import Aggregate
    from streams.offline import Offline
    from streams.rollup import Rollup

    with TemporaryDirectory() as scratch:
        settings = open_city(city, Path(scratch))
    if not settings.simulated:
        raise ConfigError(f"{settings.folder}: no simulated feed in city.toml, one needed")
    target = out or settings.folder / (settings.typical_file or "typical.arrow")
    network = load_network(settings)
    week = WeekOfStates(network, settings.timezone, "simulated")

    def take(message: Message) -> None:
        if message.topic == "segment-states":
            week.add_states(decode(SegmentStates, message.value))
        elif message.topic == "area-indices":
            week.add_areas(decode(AreaIndices, message.value))

    # What happens every day would become typical: a drill would no longer be one. Detectors that lie teach nothing.
    feed = replace(settings.simulated[0], scripted=(), faulty_share=0.0)
    simulated = SimulatedCity(network, feed, settings.timezone)
    offline = Offline([Aggregate.of(network, settings), Rollup.of(network, settings)], take)
    zone = ZoneInfo(settings.timezone)
    start = datetime.combine(FIRST_DAY, datetime.min.time(), zone)
    end_ms = epoch_ms(start + timedelta(days=days))
    with Progress(transient=True) as progress:
        task = progress.add_task(f"{days} days of {settings.name}", total=end_ms - epoch_ms(start))
        for batch in simulated.batches(epoch_ms(start)):
            if batch.received_ms >= end_ms:
                break
            if isinstance(batch, Passages):
                continue
            for output in messages(network, batch):
                offline.put(output, batch.received_ms)
            progress.update(task, completed=batch.received_ms - epoch_ms(start))
    offline.finish()
    made = week.typical()
    made.save(target)
    click.echo(f"{target}: typical week {made.version}, {target.stat().st_size / 2**20:.1f} MB, of {days} days")
