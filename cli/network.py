"""``citybrain network``: a map or a table in, a city folder out; and what is wrong with a city."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import click
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from citybrain.cityfile import CITY_FILE, load_city, parse_city
from citybrain.errors import ConfigError
from citybrain.landuse import LANDUSE_FILE
from citybrain.network import ROAD_CLASSES, Detectors, Network, RoadClass
from citybrain.settings import CitySettings
from ingest.citycheck import findings
from ingest.maps import geojson as geojson_map
from ingest.maps import osm as osm_map
from ingest.maps import stations as station_table
from ingest.maps import sumo as sumo_map
from ingest.maps.areas import Division, by_compass, by_places, by_polygons
from ingest.maps.build import BuildOptions, Places, network_of
from ingest.maps.defaults import DEFAULTS
from ingest.maps.detectors import no_detectors, placed, read_list, snapped
from ingest.maps.landuse import land_use
from ingest.maps.links import Link
from ingest.maps.links import Progress as Hears

F = TypeVar("F", bound=Callable[..., Any])
_PATH = click.Path(path_type=Path)


@click.group()
def network() -> None:
    """Make a city from a map or a table of detectors, and check one.

    \b
    citybrain network import osm porto.osm.pbf cities/porto --name Porto --timezone Europe/Lisbon
    citybrain network check cities/porto
    """  # noqa: D301


@network.group("import")
def import_() -> None:
    """Make or renew the road network of a city folder; an existing city.toml is kept as it is."""


def _city_options(command: F) -> F:
    for option in (
        click.option(
            "--partitions", type=click.IntRange(1, 256), default=4, show_default=True, help="Kafka partitions."
        ),
        click.option("--timezone", help="IANA time zone of a new city, such as Europe/Lisbon."),
        click.option("--name", help="Name of a new city."),
    ):
        command = option(command)
    return command


def _map_options(command: F) -> F:
    for option in (
        click.option("--seed", default=1, show_default=True, help="Seed of where detectors are placed."),
        click.option("--cameras", default=0, show_default=True, help="Cameras along two motorways (with by-class)."),
        click.option(
            "--detectors",
            default="none",
            show_default=True,
            metavar="none|by-class|FILE",
            help="none; loops on most main segments, for a simulated city; a CSV with columns id,lon,lat "
            "(and bearing, lanes, kind); or the .sumocfg of a simulation of the same roads.",
        ),
    ):
        command = option(command)
    return _area_options(command)


def _area_options(command: F) -> F:
    for option in (
        click.option("--places", type=_PATH, help="Districts around named places: CSV with columns name,lon,lat."),
        click.option("--polygons", type=_PATH, help="Districts: GeoJSON polygons with a property name."),
        click.option("--attribution", help="Whom the map is owed to."),
    ):
        command = option(command)
    return command


@import_.command("osm")
@click.argument("file", type=_PATH)
@click.argument("city", type=_PATH)
@_city_options
@click.option("--bounds", metavar="W,S,E,N", help="Only what lies within, degrees.")
@click.option(
    "--classes",
    default=",".join(osm_map.MAIN_CLASSES),
    show_default=True,
    help="Classes of roads, each with its ramps (highway=* of OpenStreetMap).",
)
@_map_options
def import_osm(file: Path, city: Path, classes: str, bounds: str | None, **options: Any) -> None:
    """Make a city from an OpenStreetMap file (.osm.pbf, .osm); keeps its land use, too, where the file has any.

    \b
    citybrain network import osm porto.osm.pbf cities/mine --name Mine --timezone Europe/Lisbon \\
        --bounds -8.72,41.105,-8.54,41.215 --detectors by-class
    """  # noqa: D301
    settings = _settings(city, options)
    wanted = _classes(classes)
    options["attribution"] = options["attribution"] or osm_map.ATTRIBUTION
    with _bar() as progress:
        links = osm_map.imported(file, classes=wanted, bounds=_bounds(bounds), progress=progress)
    _finish(settings, network_of(links, _build(settings, options)))
    land = land_use(file, _bounds(bounds))
    if len(land):
        land.save(settings.folder / LANDUSE_FILE, options["attribution"])
        click.echo(f"land use in {len(land):,} cells, for the simulated city: {settings.folder / LANDUSE_FILE}")


@import_.command("geojson")
@click.argument("file", type=_PATH)
@click.argument("city", type=_PATH)
@_city_options
@click.option("--default-class", default="primary", show_default=True, help="Class of a line without highway.")
@click.option("--connected/--all", default=True, show_default=True, help="Keep only the largest connected part.")
@_map_options
def import_geojson(file: Path, city: Path, default_class: str, connected: bool, **options: Any) -> None:
    """Make a city from GeoJSON LineStrings; properties as in OpenStreetMap (name, highway, oneway, lanes, maxspeed).

    \b
    citybrain network import geojson roads.geojson cities/mine --name Mine --timezone Asia/Shanghai
    """  # noqa: D301
    settings = _settings(city, options)
    _refuse_unknown_class(default_class)
    links = geojson_map.imported(file, default_class=default_class, connected=connected)
    _finish(settings, network_of(links, _build(settings, options)))


@import_.command("stations")
@click.argument("file", type=_PATH)
@click.argument("city", type=_PATH)
@_city_options
@click.option("--road", required=True, help="Name of the road.")
@click.option("--road-class", type=click.Choice(ROAD_CLASSES), default="motorway", show_default=True)
@click.option("--id-column", "id", default="station_id", show_default=True)
@click.option("--position-column", "position", default="x_km", show_default=True, help="Grows in driving direction.")
@click.option("--length-column", "length", default="length_km", show_default=True, help="'' takes half-way points.")
@click.option("--lanes-column", "lanes", default="lanes", show_default=True)
@click.option("--free-flow-column", "free_flow", default="free_speed_kmh", show_default=True)
@click.option("--capacity-column", "capacity", default="capacity_vph", show_default=True, help="'' where unknown.")
@click.option("--lon-column", "lon", default="", help="Longitude, where the table has it.")
@click.option("--lat-column", "lat", default="", help="Latitude, where the table has it.")
@click.option("--distance", type=click.Choice(["km", "mile"]), default="km", show_default=True, help="Unit.")
@click.option("--speed", type=click.Choice(["km/h", "mph"]), default="km/h", show_default=True, help="Unit.")
@click.option("--attribution", default="", help="Whom the table is owed to.")
def import_stations(file: Path, city: Path, road: str, road_class: str, attribution: str, **options: Any) -> None:
    """Make a corridor city from a table (CSV) of stations along one direction of a road, one segment a station.

    \b
    citybrain network import stations stations.csv cities/i5 --name "I-5 North" --timezone America/Los_Angeles \\
        --road "I-5 N" --partitions 2
    """  # noqa: D301
    settings = _settings(city, options)
    partitions = options.pop("partitions")
    columns = station_table.StationColumns(**options)
    corridor = station_table.read_stations(file, columns)
    for note in corridor.notes:
        click.echo(f"note: {note}", err=True)
    links = station_table.links_of(corridor.stations, road, cast(RoadClass, road_class))
    build = BuildOptions(settings.name, partitions, station_table.detectors_of, attribution=attribution)
    _finish(settings, network_of(links, build, station_table.along_km(corridor.stations)))


@import_.command("sumo")
@click.argument("file", type=_PATH)
@click.argument("city", type=_PATH)
@_city_options
@click.option("--default-class", default="primary", show_default=True, help="Class of an edge whose type names none.")
@click.option("--probes/--no-probes", default=True, show_default=True, help="Vehicles tell where they are, too.")
@_area_options
def import_sumo(file: Path, city: Path, default_class: str, probes: bool, **options: Any) -> None:
    """Make a city from a simulation of SUMO (.sumocfg) or its network (.net.xml): a segment is an edge.

    Its E1 and E2 detectors become those of the city, by their ids; [[sumo]] in city.toml then drives it, or reads
    what it wrote.

    \b
    citybrain network import sumo town.sumocfg cities/town --name Town --timezone Europe/Berlin
    """  # noqa: D301
    settings = _settings(city, options)
    _refuse_unknown_class(default_class)
    net_file, more = sumo_map.files_of_config(file)
    net, found = sumo_map.read_net(net_file), sumo_map.read_detectors(more)
    if not net.georeferenced:
        click.echo("note: the network has no projection: it is drawn around 0° N, 0° E", err=True)

    def detect(links: Sequence[Link]) -> Detectors:
        return _told(sumo_map.detectors_on(links, found, probes=probes))

    links = sumo_map.links_of(net, default_class=default_class)
    _finish(settings, network_of(links, replace(_build(settings, options | {"detectors": "none"}), detect=detect)))


def _refuse_unknown_class(default_class: str) -> None:
    if default_class not in DEFAULTS:
        raise ConfigError(f"--default-class {default_class!r} seen, one of {', '.join(DEFAULTS)} allowed")


@network.command("check")
@click.argument("city", type=_PATH)
@click.option("--data", type=_PATH, help="What {data} stands for in table feeds.")
def check(city: Path, data: Path | None) -> None:
    """Say what is wrong with a city, in plain words; exit code 1 where something will not work.

    \b
    citybrain network check cities/porto
    """  # noqa: D301
    settings = load_city(city)
    loaded = Network.load(settings.network_path)
    found = findings(settings, loaded, data)
    click.echo(_summary(settings, loaded))
    for finding in found:
        click.echo(f"{finding.severity}: {finding.text}")
    errors = sum(finding.severity == "error" for finding in found)
    click.echo(f"{errors} errors, {sum(finding.severity == 'warning' for finding in found)} warnings")
    if errors:
        sys.exit(1)


def _settings(folder: Path, options: dict[str, Any]) -> CitySettings:
    """Return the settings of the city, or of the new one that `_finish` will write."""
    name, timezone = options.pop("name"), options.pop("timezone")
    if (folder / CITY_FILE).exists():
        return load_city(folder)
    if not name or not timezone:
        raise ConfigError(f"{folder / CITY_FILE} is not there yet: a new city needs --name and --timezone")
    return parse_city(_new_city(name, timezone), folder)


def _new_city(name: str, timezone: str) -> str:
    return f"name = {_quoted(name)}\ntimezone = {_quoted(timezone)}\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _build(settings: CitySettings, options: dict[str, Any]) -> BuildOptions:
    if options["places"] and options["polygons"]:
        raise ConfigError("--places and --polygons seen, one of them allowed")
    divide: Callable[[Places], Division] = by_compass
    if options["polygons"]:
        divide = partial(by_polygons, options["polygons"])
    elif options["places"]:
        divide = partial(by_places, options["places"])
    return BuildOptions(
        city=settings.name,
        partitions=options["partitions"],
        detect=_detect(options),
        divide=divide,
        attribution=options["attribution"] or "",
    )


def _detect(options: dict[str, Any]) -> Callable[[Sequence[Link]], Detectors]:
    rule = options["detectors"]
    if rule == "none":
        return lambda links: no_detectors()
    if rule == "by-class":
        return partial(placed, rng=np.random.default_rng(options["seed"]), cameras=options["cameras"])
    return partial(_snapped, Path(rule))


def _snapped(path: Path, links: Sequence[Link]) -> Detectors:
    if path.suffix != ".sumocfg":
        return _told(snapped(read_list(path), links))
    net_file, more = sumo_map.files_of_config(path)
    net = sumo_map.read_net(net_file)
    return _told(snapped(sumo_map.listed(net, sumo_map.read_detectors(more), probes=True), links))


def _told(found: tuple[Detectors, list[str]]) -> Detectors:
    """Return the detectors; say which are left out."""
    for note in found[1]:
        click.echo(f"note: {note}", err=True)
    return found[0]


def _classes(text: str) -> list[str]:
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    known = [name for name in DEFAULTS if not name.endswith("_link")]
    if unknown := [name for name in wanted if name not in known]:
        raise ConfigError(f"--classes: {unknown[0]!r} seen, {', '.join(known)} allowed")
    return wanted


def _bounds(text: str | None) -> osm_map.Bounds | None:
    if text is None:
        return None
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--bounds {text!r} seen, four numbers W,S,E,N allowed") from error
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise ConfigError(f"--bounds {text!r} seen, west < east and south < north in degrees allowed")
    return west, south, east, north


def _finish(settings: CitySettings, made: Network) -> None:
    settings.folder.mkdir(parents=True, exist_ok=True)
    made.save(settings.network_path)
    file = settings.folder / CITY_FILE
    if not file.exists():
        file.write_text(_new_city(settings.name, settings.timezone), encoding="utf-8")
    click.echo(_summary(settings, made))
    for finding in findings(settings, made):
        if finding.severity != "note":
            click.echo(f"{finding.severity}: {finding.text}", err=True)


def _summary(settings: CitySettings, made: Network) -> str:
    length = made.segments.length_km.sum()
    return (
        f"{settings.name}: {len(made.segments)} segments, {length:.0f} km, {len(made.detectors)} detectors, "
        f"{int(np.sum(made.areas.level == 1))} districts, {made.partitions} partitions, network {made.version}"
    )


@contextmanager
def _bar() -> Iterator[Hears]:
    """Show a bar on a terminal, nothing elsewhere."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        tasks: dict[str, Any] = {}

        def hear(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(step, total=total or None)
            bar.update(tasks[step], completed=done, total=total or None)

        yield hear
