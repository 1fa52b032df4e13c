"""A small city with its real store, alert desk and web server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from citybrain.clock import ManualClock
from citybrain.messages import AlertEvent, AlertState
from citybrain.metrics import Metrics
from citybrain.network import Network
from citybrain.settings import CitySettings
from citybrain.typical import Typical
from dashboard.context import Context
from dashboard.live import Demo, Live
from dashboard.live.notices import Broker
from infra.database.protocol import Alert, StaleVersion
from infra.stores.factory import open_store
from infra.stores.protocol import Store
from tests.fakes import city_settings, grid_network, typical_week

MIN = 60_000
TUESDAY_8H = 1_795_507_200_000
"""2026-11-24 08:00 UTC, a Tuesday; Lisbon has the same hour in winter."""


class ListDesk:
    """An alert desk in memory."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Alert] = {}

    def apply(self, events: Sequence[AlertEvent], *, run: str = "") -> None:
        for event in events:
            old = self.rows.get((run, event.alert_id))
            if old is not None and event.sequence <= old.event.sequence:
                continue
            state: AlertState = "resolved" if event.type == "alert.resolved" else (old.state if old else "open")
            alert = replace(old, event=event, state=state, version=old.version + 1) if old else Alert(event, state, 1)
            self.rows[run, event.alert_id] = alert

    def alerts(self, *, states: Sequence[AlertState] = (), limit: int = 200, run: str = "") -> list[Alert]:
        found = [a for (of, _), a in self.rows.items() if of == run and (not states or a.state in states)]
        return sorted(found, key=lambda a: -a.event.detected_ms)[:limit]

    def alert(self, alert_id: str, *, run: str = "") -> Alert | None:
        return self.rows.get((run, alert_id))

    def acknowledge(self, alert_id: str, *, by: str, at_ms: int, version: int | None = None) -> Alert:
        old = self.rows["", alert_id]
        if version is not None and version != old.version:
            raise StaleVersion
        new = replace(old, state="acknowledged", version=old.version + 1, acknowledged_by=by, acknowledged_ms=at_ms)
        self.rows["", alert_id] = new
        return new


@dataclass
class World:
    """Everything a live view needs, and what it was told to send."""

    network: Network
    settings: CitySettings
    store: Store
    typical: Typical
    clock: ManualClock = field(default_factory=lambda: ManualClock(TUESDAY_8H))
    metrics: Metrics = field(default_factory=Metrics)
    desk: ListDesk = field(default_factory=ListDesk)
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


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    settings = city_settings(tmp_path)
    settings.data_folder.mkdir()
    network = grid_network()
    store = open_store(settings, network)
    yield World(network, settings, store, typical_week(network))
    store.close()
