"""Which store a city has: settings in, an open store out."""

from __future__ import annotations

from citybrain.network import Network
from citybrain.settings import CitySettings
from infra.stores.duckdb import DuckStore
from infra.stores.protocol import Store


def open_store(city: CitySettings, network: Network) -> DuckStore:
    """Open the store of a city.

    Raises
    ------
    StoreError
        If it cannot be opened, such as when another process holds it.
    """
    return DuckStore(city.store_path, network, pane_ms=city.time.pane_ms, level_breaks=city.thresholds.level_breaks)


__all__ = ["Store", "open_store"]
