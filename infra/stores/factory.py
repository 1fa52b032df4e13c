"""Which store a city has: settings in, an open store out."""

from __future__ import annotations

from citybrain.network import Network
from citybrain.settings import CitySettings
from infra.stores.protocol import Store


def open_store(city: CitySettings, network: Network, *, kind: str = "") -> Store:
    """Open the store of a city; ``kind`` is another one than its settings name.

    Raises
    ------
    StoreError
        If it cannot be opened, such as when another process holds the DuckDB file. InfluxDB need not be there.
    ConfigError
        If InfluxDB's token cannot be read.
    """
    if (kind or city.store.kind) == "influxdb":
        return _influx(city, network)
    from infra.stores.duckdb import DuckStore

    return DuckStore(city.store_path, network, pane_ms=city.time.pane_ms, level_breaks=city.thresholds.level_breaks)


def check_store(city: CitySettings) -> None:
    """Make sure that the store's server lets us write and read; DuckDB has none.

    Raises
    ------
    ConfigError
        If it never will with these settings.
    StoreError
        If it does not answer for now.
    """
    if city.store.kind == "influxdb":
        from infra.stores.influxsetup import check

        check(city)


def _influx(city: CitySettings, network: Network) -> Store:
    from infra.stores.influx import InfluxStore
    from infra.stores.influxserver import InfluxServer
    from infra.stores.influxsetup import expires, token_of

    store = city.store
    return InfluxStore(
        InfluxServer(store.url, store.org, token_of(store)),
        store.bucket,
        network,
        pane_ms=city.time.pane_ms,
        level_breaks=city.thresholds.level_breaks,
        expires=expires(city),
    )


__all__ = ["Store", "check_store", "open_store"]
