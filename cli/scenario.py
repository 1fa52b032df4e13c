"""``citybrain scenario``: the ready scenarios and one's own: listed, shown, checked against a city, and drawn."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click
from click.formatting import wrap_text

from citybrain.clock import utc
from citybrain.errors import ConfigError
from citybrain.settings import SimulatedFeed

if TYPE_CHECKING:
    from citybrain.network import Network
    from citybrain.settings import CitySettings
    from simulators.city import SimulatedCity
    from simulators.scenariofile import ScenarioFile

_city = click.option("--city", "folder", type=click.Path(path_type=Path), help="City folder; default: the scenario's.")


@click.group()
def scenario() -> None:
    """List, show, check and draw scenarios of the simulated city; `citybrain simulate` runs them.

    SCENARIO is the name of a ready one or the path of a TOML file; docs/simulation.md says what it may contain.
    """


@scenario.command("list")
def list_() -> None:
    """List the ready scenarios."""
    from simulators.scenariofile import read_scenario, ready_names

    for name in ready_names():
        found = read_scenario(name).scenario
        days = "1 day" if found.days == 1 else f"{found.days} days"
        click.echo(f"{name:<19} {found.title} ({found.first:%a %Y-%m-%d}, {days})")


@scenario.command()
@click.argument("name", metavar="SCENARIO")
@click.option("--text", is_flag=True, help="The file itself, to begin one's own with.")
def show(name: str, text: bool) -> None:
    """Say what a scenario is."""
    from simulators.scenariofile import read_scenario

    file = read_scenario(name)
    if text:
        click.echo(file.text, nl=False)
        return
    found = file.scenario
    click.echo(f"{found.title}\n\n{wrap_text(found.description.strip(), 100, preserve_paragraphs=True)}\n")
    for line in _parts(file):
        click.echo(line)


@scenario.command()
@click.argument("name", metavar="SCENARIO")
@_city
def check(name: str, folder: Path | None) -> None:
    """Say everything that is wrong with a scenario, and where its places are in the city.

    \b
    citybrain scenario check storm --city cities/porto
    citybrain scenario check my/scenario.toml
    """  # noqa: D301
    from simulators.calendar import on

    file, settings, network = opened(name, folder)
    if settings is None or network is None:
        click.echo(f"{file.path}: nothing wrong; its places were looked for in no city (--city)")
        return
    city = city_of(file, settings, network)
    road = dict(zip(network.segments.id.tolist(), network.segments.road.tolist(), strict=True))
    for number in range(file.scenario.days):
        day = on(file.scenario.first + timedelta(days=number), settings.timezone)
        for mark in city.happenings(day).marks:
            where = ", ".join(f"{segment} {road[segment]}".strip() for segment in mark.segments)
            span = _span(mark.onset_ms, mark.end_ms, settings.timezone)
            click.echo(f"{span}  {mark.kind} {mark.name}  {where}".rstrip())
    click.echo(f"{file.path}: nothing wrong, for {settings.name}")


@scenario.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
def picture(run: Path, out: Path) -> None:
    """Draw what happened in a RUN of `citybrain simulate`: vehicles on the road and travel time index, as SVG."""
    from simulators.picture import picture_of

    out.write_text(picture_of(run), encoding="utf-8")
    click.echo(f"{out} written")


@scenario.command("network")
@click.argument("name", metavar="SCENARIO")
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@_city
def network_(name: str, out: Path, folder: Path | None) -> None:
    """Write the city's network with the sensors that a SCENARIO plans, for a city folder that is to hear of them.

    A run to files has it in its folder; a run to Kafka needs a platform that knows it.

    \b
    citybrain scenario network well-observed cities/mine/network.arrow --city cities/porto
    """  # noqa: D301
    file, settings, network = opened(name, folder)
    if settings is None or network is None:
        raise ConfigError(f"scenario {name!r} names no city: --city CITY needed")
    placed = city_of(file, settings, network).network
    placed.save(out)
    more = len(placed.detectors) - len(network.detectors)
    click.echo(f"{out}: network {placed.version}, {len(placed.detectors):,} detectors, {more:,} of them the scenario's")


def opened(name: str, folder: Path | None) -> tuple[ScenarioFile, CitySettings | None, Network | None]:
    """Return a scenario that was checked against its city, with the city; without one where none is named.

    Raises
    ------
    ConfigError
        If anything is wrong: all errors of the file at once.
    """
    from citybrain.cityfile import load_city, load_network
    from simulators.city import SimulatedCity
    from simulators.scenariofile import City, named_city, read_scenario

    folder = folder or named_city(name)
    if folder is None:
        return read_scenario(name), None, None
    settings = load_city(folder)
    network = load_network(settings)
    ordinary = cache(lambda: SimulatedCity(network, feed_of(settings), settings.timezone))
    return read_scenario(name, City(network, lambda: ordinary().demand.morning_vps)), settings, network


def feed_of(settings: CitySettings) -> SimulatedFeed:
    """Return the city's simulated feed, or one with the defaults, without what a scenario says in its place."""
    feed = settings.simulated[0] if settings.simulated else SimulatedFeed()
    return replace(feed, scenario="")


def city_of(file: ScenarioFile, settings: CitySettings, network: Network, seed: int | None = None) -> SimulatedCity:
    """Return the city in which a scenario happens, with the sensors that it plans; no incident of the settings does."""
    from simulators.city import SimulatedCity, with_sensors

    scenario = file.scenario if seed is None else replace(file.scenario, seed=seed)
    feed = replace(feed_of(settings), scripted=())
    return SimulatedCity(with_sensors(network, feed, scenario), feed, settings.timezone, scenario=scenario)


def _parts(file: ScenarioFile) -> list[str]:
    """Return what a scenario says, a line a part."""
    found = file.scenario
    lines = [f"{'days':<12} {found.days} from {found.first:%A, %Y-%m-%d}, seed {found.seed}"]
    lines += [f"{'holiday':<12} {day}" for day in found.holidays]
    parts: tuple[Any, ...] = (*found.weather, *found.works, *found.closures, *found.events)
    lines += [f"{type(part).__name__.lower():<12} {part.begin} to {part.end} {_which(part)}" for part in parts]
    lines += [f"{'incident':<12} {plan.at} {_which(plan)}" for plan in found.incidents.planned]
    lines += [f"{'evacuation':<12} {order.at} {_which(order)}" for order in found.evacuations]
    lines += [
        f"{'fault':<12} {fault.begin} to {fault.end} {fault.detector} {fault.kind}" for fault in found.sensors.faults
    ]
    return lines


def _which(part: Any) -> str:
    """Return what tells a part from another of its kind."""
    said = [f"{name}={value}" for name, value in _changed(part) if name not in ("begin", "end", "at", "place")]
    if hasattr(part, "place"):
        said.append("at " + ", ".join(f"{name}={value}" for name, value in _changed(part.place)))
    return " ".join(said)


def _changed(record: Any) -> list[tuple[str, Any]]:
    """Return the fields of a record that are not what they are by default."""
    return [(f.name, getattr(record, f.name)) for f in fields(record) if getattr(record, f.name) != f.default]


def _span(onset_ms: int, end_ms: int, timezone: str) -> str:
    begin, end = (utc(at).astimezone(ZoneInfo(timezone)) for at in (onset_ms, end_ms))
    return f"{begin:%a %H:%M} to {end:%H:%M}"
