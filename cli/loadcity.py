"""The city of a load test: a number of detectors in, a city folder that a worker can run on out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from citybrain.cityfile import CITY_FILE, load_city, load_network
from citybrain.errors import ConfigError
from citybrain.network import Network
from citybrain.settings import CitySettings
from ingest.maps.build import BuildOptions, network_of
from ingest.maps.synthetic import grid_links, loops_on, repeated, segments_for

TIMEZONE = "Europe/Lisbon"
SMALL, PARTITIONS_SMALL, PARTITIONS = 100_000, 4, 16


@dataclass(frozen=True, slots=True)
class LoadCity:
    """What a load test is run on.

    Attributes
    ----------
    settings, network
        The city, as its folder has it.
    made
        Whether the folder was made just now.
    """

    settings: CitySettings
    network: Network
    made: bool


def load_city_of(
    city: Path | None, folder: Path | None, detectors: int | None, *, segments: int | None, partitions: int | None
) -> LoadCity:
    """Return the city of a load test; its folder is made where it is not there yet.

    Parameters
    ----------
    city
        A city whose roads are taken; None makes a grid town.
    folder
        Where the city of the test is, or is made; by its number of detectors in the working folder where not given.
    detectors
        How many report; None takes those of ``city``, in its own folder.
    segments, partitions
        Size of a grid town; for a city's own roads they are what they are.

    Raises
    ------
    ConfigError
        If the folder holds another city, or what is asked for fits none.
    """
    if city is not None and (segments or partitions):
        raise ConfigError("--segments or --partitions with --city seen: a city's roads and partitions are its own")
    if city is not None:
        settings = load_city(city)
        network = load_network(settings)
        if detectors is None or (detectors == _reporting(network) and folder is None):
            return LoadCity(settings, network, made=False)
    elif detectors is None:
        raise ConfigError("neither --detectors nor --city seen, a number of detectors or a city that has some allowed")
    where = folder or Path(f"load-{detectors}" if city is None else f"load-{settings.folder.name}-{detectors}")
    if (where / CITY_FILE).exists():
        return _there(where, detectors)
    if city is not None:
        return _written(where, settings.name, settings.timezone, repeated(network, detectors))
    return _written(where, "Loadtown", TIMEZONE, grid_town(detectors, segments, partitions))


def grid_town(detectors: int, segments: int | None = None, partitions: int | None = None) -> Network:
    """Return a grid town with exactly so many loops."""
    links = grid_links(segments or segments_for(detectors))
    parts = partitions or (PARTITIONS if detectors > SMALL else PARTITIONS_SMALL)
    return network_of(links, BuildOptions("Loadtown", parts, partial(loops_on, count=detectors)))


def _reporting(network: Network) -> int:
    return int(np.sum(network.detectors.kind != "camera"))


def _there(folder: Path, detectors: int) -> LoadCity:
    settings = load_city(folder)
    network = load_network(settings)
    if (seen := _reporting(network)) != detectors:
        raise ConfigError(
            f"{folder}: a city with {seen:,} detectors seen, one with {detectors:,} allowed: name another --folder"
        )
    return LoadCity(settings, network, made=False)


def _written(folder: Path, name: str, timezone: str, network: Network) -> LoadCity:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        network.save(folder / "network.arrow")
        text = f"name = {json.dumps(name, ensure_ascii=False)}\ntimezone = {json.dumps(timezone)}\n"
        # A load may come from the past, where Kafka would delete by time what it has just been given.
        (folder / CITY_FILE).write_text(f'# Made by `citybrain load`.\n{text}retention = "size"\n', "utf-8")
    except OSError as error:
        raise ConfigError(f"{folder}: the city of the load test cannot be written ({error.strerror})") from error
    return LoadCity(load_city(folder), network, made=True)
