"""A simulated run's files: its folder in, the messages its feeds would have sent out, in their order and time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from citybrain.cityfile import load_network
from citybrain.errors import ConfigError
from citybrain.network import Network
from citybrain.records import Passages, Readings, encode
from citybrain.settings import CitySettings
from citybrain.typical import Typical
from citybrain.wire import Output
from cli.typicalweek import shipped_typical
from ingest.publish import messages
from simulators.happenings import Mark
from simulators.runfolder import NETWORK_FILE

_SCALARS = ("str", "int")


def about_run(folder: Path, network: Network) -> dict[str, Any]:
    """Return what ``run.json`` says.

    Raises
    ------
    ConfigError
        If it cannot be read, or the run is of another network.
    """
    about = _about(folder)
    if about.get("network") != network.version:
        seen = f"{folder / 'run.json'}: network {about.get('network')!r} seen"
        raise ConfigError(f"{seen}, {network.version!r} of the city allowed")
    return about


def city_of(folder: Path) -> Path:
    """Return the folder of the city that a run says it is of.

    Raises
    ------
    ConfigError
        If it says none, or there is none any more.
    """
    named = _about(folder).get("city_folder", "")
    if not named or not (Path(named) / "city.toml").exists():
        raise ConfigError(
            f"{folder / 'run.json'}: city_folder {named!r} seen, a folder with a city.toml needed: --city CITY"
        )
    return Path(named)


def network_of(folder: Path, settings: CitySettings) -> Network:
    """Return the network that a run was on: its own, where the scenario planned sensors, or the city's."""
    own = folder / NETWORK_FILE
    return Network.load(own) if own.exists() else load_network(settings)


def typical_on(settings: CitySettings, network: Network) -> Typical | None:
    """Return the typical week that ships with the city, for its network or one with the same roads and more sensors."""
    city = load_network(settings)
    typical = shipped_typical(settings, city)
    if typical is None or network.version == city.version:
        return typical
    same = np.array_equal(network.segments.id, city.segments.id)
    return replace(typical, network=network.version) if same else None


def marks_of(about: dict[str, Any]) -> list[Mark]:
    """Return what a run's description says a scenario did, by time; nothing of a run that has none."""
    found = [mark for day in about.get("days", []) for mark in day.get("happenings", [])]
    return [
        Mark(mark["kind"], mark["name"], mark["onset_ms"], mark["end_ms"], tuple(mark["segments"]))
        for mark in found
        if mark.keys() >= {"kind", "name", "onset_ms", "end_ms", "segments"}
    ]


def _about(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: the folder of a run of `citybrain simulate` needed ({error})") from error
    if not isinstance(about, dict):
        raise ConfigError(f"{path}: {about!r} seen, the description of a run of `citybrain simulate` needed")
    return about


def outputs_of(folder: Path, network: Network) -> Iterator[Output]:
    """Yield the messages of a run's readings and passages, each with its record time."""
    hours = sorted({path.name for kind in ("readings", "passages") for path in (folder / kind).glob("*.parquet")})
    if not hours:
        raise ConfigError(f"{folder}: no readings/*.parquet seen, a run of `citybrain simulate` needed")
    for hour in hours:
        readings = list(_batches(folder / "readings" / hour, Readings, network))
        passages = list(_batches(folder / "passages" / hour, Passages, network))
        # An interval's passages follow its readings.
        for batch in sorted([*readings, *passages], key=lambda one: (one.received_ms, isinstance(one, Passages))):
            if isinstance(batch, Readings):
                yield from messages(network, batch)
            else:
                yield Output("passages", 0, batch.source.encode(), encode(batch), batch.received_ms)


def _batches(path: Path, kind: type[Any], network: Network) -> Iterator[Any]:
    """Yield an hour's records, cut where the time of receipt or the source changes."""
    if not path.exists():
        return
    names = [f.name for f in fields(kind) if str(f.type) not in _SCALARS]
    table = pq.read_table(path)
    if not table.num_rows:
        return
    received, watermark = (table.column(name).to_numpy() for name in ("received_ms", "watermark_ms"))
    source = _codes(table.column("source"))
    columns = {name: table.column(name).to_numpy() for name in names}
    changed = (np.diff(received) != 0) | (np.diff(source[0]) != 0)
    bounds = [0, *(np.flatnonzero(changed) + 1).tolist(), table.num_rows]
    for begin, end in pairwise(bounds):
        yield kind(
            network=network.version,
            source=source[1][source[0][begin]],
            received_ms=int(received[begin]),
            watermark_ms=int(watermark[begin]),
            **{name: values[begin:end] for name, values in columns.items()},
        )


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray[Any, Any], list[str]]:
    """Return texts as numbers and what they stand for."""
    whole = column.unify_dictionaries().combine_chunks()
    coded = whole if isinstance(whole, pa.DictionaryArray) else whole.dictionary_encode()
    return coded.indices.to_numpy(), coded.dictionary.to_pylist()
