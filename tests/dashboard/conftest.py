"""A small city with its real store, alert desk and web server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from citybrain.clock import ManualClock
from citybrain.metrics import Metrics
from citybrain.network import Network
from citybrain.settings import CitySettings
from citybrain.typical import Typical
from dashboard.context import Context
from dashboard.live import Demo, Live
from dashboard.live.notices import Broker
from infra.database.alerts import SqlAlertDesk
from infra.database.payload import Sender
from infra.database.protocol import AlertDesk
from infra.database.tables import open_database
from infra.stores.factory import open_store
from infra.stores.protocol import Store
from tests.fakes import city_settings, grid_network, typical_week

MIN = 60_000
TUESDAY_8H = 1_795_507_200_000
"""2026-11-24 08:00 UTC, a Tuesday; Lisbon has the same hour in winter."""


@dataclass
class World:
    """Everything a live view needs, and what it was told to send."""

    network: Network
    settings: CitySettings
    store: Store
    typical: Typical
    desk: AlertDesk
    clock: ManualClock
    metrics: Metrics = field(default_factory=Metrics)
    sent: list[bytes] = field(default_factory=list)
    broker: Broker = "ok"

    def live(self, demo: Demo | None = None, run: str = "") -> Live:
        return Live(
            self.network,
            self.settings,
            typical=self.typical,
            store=self.store,
            desk=self.desk,
            clock=self.clock,
            metrics=self.metrics,
            demo=demo,
            broker=lambda: self.broker,
            run=run,
        )

    def context(self, live: Live | None = None) -> Context:
        return Context(
            city=self.settings,
            network=self.network,
            store=self.store,
            desk=self.desk,
            live=live or self.live(),
            clock=self.clock,
            metrics=self.metrics,
            submit_readings=self.sent.extend,
            submit_event=self.sent.append,
        )


@contextmanager
def new_world(folder: Path) -> Iterator[World]:
    """Make a city in an empty folder."""
    settings = city_settings(folder)
    settings.data_folder.mkdir()
    network, clock = grid_network(), ManualClock(TUESDAY_8H)
    store, engine = open_store(settings, network), open_database(settings.database_address)
    desk = SqlAlertDesk(engine, network, (), clock, Sender(settings.name))
    try:
        yield World(network, settings, store, typical_week(network), desk, clock)
    finally:
        store.close()
        engine.dispose()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A city of one test's own."""
    with new_world(tmp_path) as made:
        yield made
