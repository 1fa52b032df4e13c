"""``citybrain calibrate``: a city and what its detectors counted in, or how slow its peak is to be; a demand out."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from citybrain.cityfile import load_city, load_network
from citybrain.errors import ConfigError
from citybrain.network import Network
from citybrain.settings import CitySettings, SimulatedFeed

if TYPE_CHECKING:
    from simulators.calibration import Calibration, Fit
    from simulators.level import DayLevel

FILE = "demand.json"
WORST = 10


@click.command()
@click.argument("city", type=click.Path(path_type=Path))
@click.option(
    "--counts",
    "counted",
    multiple=True,
    type=click.Path(path_type=Path),
    help="What was counted: CSV or Parquet, or a run's folder of readings; several become one mean day.",
)
@click.option("--hour", "hours", multiple=True, type=click.IntRange(0, 23), help="Only these civil hours; all.")
@click.option("--tti", type=float, help="Without counts: find the trips at which the slowest half hour has this index.")
@click.option("--day", default="2026-03-10", show_default=True, help="The day that is run, for counts of such days.")
@click.option("--rounds", default=4, show_default=True, type=click.IntRange(1, 20), help="Runs beside the first.")
@click.option("--trips", type=click.IntRange(1), help="Trips to begin with, instead of the city's.")
@click.option("--out", type=click.Path(path_type=Path), help=f"File for the factors; {FILE} in the city's folder.")
def calibrate(
    city: Path,
    counted: tuple[Path, ...],
    hours: tuple[int, ...],
    tti: float | None,
    day: str,
    rounds: int,
    trips: int | None,
    out: Path | None,
) -> None:
    """Bring the simulated city's demand to what detectors counted, or its peak to a travel time index.

    \b
    citybrain calibrate cities/porto                        how slow its weekday is now
    citybrain calibrate cities/porto --tti 1.8              how many trips make the peak that slow
    citybrain calibrate cities/mine --counts march.csv --hour 7 --hour 8

    A count is met where its GEH is below 5. The factors are written to a file that `calibration` of the city's
    simulated feed names.
    """  # noqa: D301
    from cli.logs import configure_logs

    configure_logs(verbose=False, form="auto")
    settings = load_city(city)
    network = load_network(settings)
    feed = settings.simulated[0] if settings.simulated else SimulatedFeed()
    at = _date(day)
    if counted and tti is not None:
        raise ConfigError("--counts and --tti seen, one of them allowed")
    if counted:
        path = out or settings.folder / FILE
        _to_counts(settings, network, feed, at, counted, hours, rounds, trips or feed.trips, path)
    else:
        _to_index(settings, network, feed, at, tti, trips or feed.trips)


def _to_counts(
    settings: CitySettings,
    network: Network,
    feed: SimulatedFeed,
    day: date,
    counted: tuple[Path, ...],
    hours: tuple[int, ...],
    rounds: int,
    trips: int,
    out: Path,
) -> None:
    from dataclasses import replace

    from simulators.calibration import calibrate as calibrated
    from simulators.counts import read_counts
    from simulators.factorfile import save_factors, zone_places_km
    from simulators.level import city_with
    from simulators.zones import node_positions_km

    counts = read_counts(counted, network, settings.timezone)
    if hours:
        counts = counts.of_hours(hours)
    if not len(counts):
        raise ConfigError(f"--hour {', '.join(map(str, hours))}: no count of these hours seen, at least one needed")
    plain = replace(feed, calibration="")
    model = city_with(network, plain, settings.timezone, trips)
    found = calibrated(model, day, counts, rounds=rounds, told=_tell_round)
    places = zone_places_km(model.zones, node_positions_km(network, model.roads))
    about = {"network": network.version, "day": day.isoformat(), "seed": feed.seed, "trips": trips, **_summary(found)}
    save_factors(out, found.factors, model.zones, places, about)
    _tell(found, network)
    click.echo(f'{out} written; name it in the simulated feed of city.toml: calibration = "{out.name}"')


def _to_index(
    settings: CitySettings, network: Network, feed: SimulatedFeed, day: date, tti: float | None, trips: int
) -> None:
    from simulators.level import city_with, level_of, trips_for

    levels: dict[int, DayLevel] = {}

    def index_at(number: int) -> float:
        levels[number] = level_of(city_with(network, feed, settings.timezone, number), day)
        click.echo(f"{number:,} trips: {_level(levels[number])}")
        return max(levels[number].morning, levels[number].evening)

    if tti is None:
        index_at(trips)
        return
    number, index = trips_for(index_at, tti, trips)
    click.echo(f"trips = {number:_}  # the slowest half hour has an index of {index:.2f}")


def _level(level: DayLevel) -> str:
    return (
        f"travel time index of the network {level.morning:.2f} in the morning's slowest half hour, "
        f"{level.mean(11, 14):.2f} at noon, {level.evening:.2f} in the evening's, {level.mean(0, 4):.2f} at night; "
        f"at most {level.on_road.max():,.0f} vehicles on the road, {level.locked.max():.0f} segments locked"
    )


def _tell_round(number: int, fit: Fit) -> None:
    mean = float(np.mean(fit.geh))
    click.echo(f"run {number}: GEH < 5 at {fit.met:.0%} of {len(fit.counts)} counts, mean {mean:.1f}", err=True)


def _tell(found: Calibration, network: Network) -> None:
    before, after = found.before, found.after
    click.echo("hour  counts  GEH < 5 before  after")
    for hour in sorted(set(after.counts.hour.tolist())):
        part = after.of_hour(hour)
        click.echo(f"{hour:4}  {len(part.counts):6}  {before.of_hour(hour).met:14.0%}  {part.met:5.0%}")
    click.echo(f" all  {len(after.counts):6}  {before.met:14.0%}  {after.met:5.0%}")
    worst = np.argsort(-after.geh, kind="stable")[:WORST]
    click.echo("least met: segment, hour, counted, model, GEH")
    for at in worst.tolist():
        name, hour = network.segments.id[after.counts.segment[at]], after.counts.hour[at]
        click.echo(
            f"  {name}  {hour}  {after.counts.vph[at]:,.0f}  {after.model_vph[at]:,.0f} veh/h  {after.geh[at]:.1f}"
        )


def _summary(found: Calibration) -> dict[str, object]:
    return {
        "counts": len(found.after.counts),
        "geh_below_5_before": round(found.before.met, 4),
        "geh_below_5_after": round(found.after.met, 4),
        "mean_geh_before": round(float(found.before.geh.mean()), 3),
        "mean_geh_after": round(float(found.after.geh.mean()), 3),
    }


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"--day {text!r} seen, a date such as 2026-03-10 allowed") from error
