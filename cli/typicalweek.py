"""Which typical week a city uses: the one learnt from the store, or the one that ships with it; and learning it."""

from __future__ import annotations

from pathlib import Path

import structlog

from citybrain.errors import CityBrainError, ModelError
from citybrain.network import Network
from citybrain.settings import CitySettings
from citybrain.typical import Typical
from infra.stores.protocol import Store
from models.typical import blend, learn

log = structlog.get_logger()


def shipped_typical(city: CitySettings, network: Network) -> Typical | None:
    """Return the typical week that comes with the city; None where there is none that fits the network."""
    return _load(city.folder / city.typical_file, network) if city.typical_file else None


def typical_of(city: CitySettings, network: Network) -> Typical | None:
    """Return the typical week to use: learnt where there is one, else shipped, else None."""
    learnt = city.learnt_typical_path
    found = _load(learnt, network) if learnt.exists() else None
    return found or shipped_typical(city, network)


def _load(path: Path, network: Network) -> Typical | None:
    try:
        typical = Typical.load(path)
    except ModelError as error:
        log.warning("typical_week_left_out", reason=str(error))
        return None
    if typical.network != network.version:
        log.warning("typical_week_left_out", file=str(path), seen=typical.network, allowed=network.version)
        return None
    return typical


def learn_typical(city: CitySettings, network: Network, store: Store, *, before_ms: int) -> Typical | None:
    """Learn the typical week from the store, blended with the shipped one; None where the store holds nothing.

    It is saved where `typical_of` finds it.
    """
    try:
        segments = store.typical(timezone=city.timezone, before_ms=before_ms)
        areas = store.typical_areas(timezone=city.timezone, before_ms=before_ms)
    except CityBrainError as error:
        log.warning("typical_week_not_learnt", reason=str(error))
        return None
    if not len(segments):
        return None
    learnt = learn(segments, areas, network, "simulated" if city.simulated else "observed")
    shipped = shipped_typical(city, network)
    typical = blend(shipped, learnt) if shipped else learnt
    typical.save(city.learnt_typical_path)
    log.info("typical_week_learnt", version=typical.version)
    return typical
