"""``citybrain simulate``: a city and a time in, what its detectors would have reported and what was true, as files."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import time, timedelta
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from citybrain.cityfile import load_city, load_network
from citybrain.errors import ConfigError
from citybrain.settings import SimulatedFeed
from cli.options import instant_ms


@click.command()
@click.argument("city", type=click.Path(path_type=Path))
@click.option("--from", "begin", required=True, metavar="TIME", help="First instant, local, such as 2026-03-10T07:00.")
@click.option("--until", "end", required=True, metavar="TIME", help="Where it ends, local.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the files.")
@click.option("--seed", type=int, help="Another seed than the city's.")
@click.option("--trips", type=click.IntRange(1), help="Other trips of an ordinary weekday than the city's.")
@click.option("--incident", metavar="HH:MM", help="Besides the drawn ones, an incident on a busy main road, every day.")
@click.option("--truth/--no-truth", default=True, show_default=True, help="Write what really happened, too.")
def simulate(
    city: Path, begin: str, end: str, out: Path, seed: int | None, trips: int | None, incident: str | None, truth: bool
) -> None:
    """Run the simulated city without a broker and write its readings, passages and truth as Parquet.

    \b
    citybrain simulate cities/porto --from 2026-03-10T07:00 --until 2026-03-10T09:00 --out /tmp/tuesday
    """  # noqa: D301
    from simulators.city import SimulatedCity
    from simulators.files import write_batches
    from simulators.incidents import scripted_of

    settings = load_city(city)
    from_ms, until_ms = instant_ms(begin, settings.timezone), instant_ms(end, settings.timezone)
    if until_ms <= from_ms:
        raise ConfigError(f"--until {end} seen, a time after --from {begin} allowed")
    feed = settings.simulated[0] if settings.simulated else SimulatedFeed()
    feed = replace(feed, seed=feed.seed if seed is None else seed, trips=feed.trips if trips is None else trips)
    network = load_network(settings)
    truth_folder = out / "truth" if truth else None
    scripted = scripted_of(network, feed)
    simulated = SimulatedCity(network, feed, settings.timezone, truth_folder=truth_folder, scripted=scripted)
    if incident is not None:
        shown = simulated.shown_incident(_time(incident))
        simulated = SimulatedCity(
            network, feed, settings.timezone, truth_folder=truth_folder, scripted=(*scripted, shown)
        )
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("running the day up to the first interval", total=None)
        batches = simulated.batches(from_ms)
        rows = write_batches(
            batches,
            until_ms,
            out,
            lambda at: bar.update(task, description=settings.name, total=until_ms - from_ms, completed=at - from_ms),
        )
    batches.close()
    about = {"network": network.version, "from_ms": from_ms, "until_ms": until_ms, "rows": rows}
    (out / "run.json").write_text(json.dumps({**about, "feed": asdict(feed)}, indent=1, default=_plain) + "\n")
    click.echo(f"{rows['readings']:,} readings and {rows['passages']:,} passages in {out}")


def _time(text: str) -> time:
    try:
        return time.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"--incident {text!r} seen, a local time such as 07:05 allowed") from error


def _plain(value: object) -> float | str:
    return value.total_seconds() if isinstance(value, timedelta) else str(value)
