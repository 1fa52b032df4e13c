"""What the screen and the API are given: one frozen record, made by the composition root."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from citybrain.clock import Clock
from citybrain.metrics import Metrics
from citybrain.network import Network
from citybrain.settings import CitySettings
from citybrain.typical import Typical
from dashboard.live import Live
from infra.database.protocol import AlertDesk
from infra.stores.protocol import Store


def _no_parts() -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the screen and the API are given.

    Attributes
    ----------
    city, network
        Settings and road network.
    store, desk
        Time series; alerts.
    live
        The live view, fed by the reader of the log.
    clock, metrics
        The wall clock; what ``/metrics`` shows.
    submit_readings
        Sends JSON readings (each a `citybrain.messages.JsonReading`) to ``readings-json``; None where the JSON edge is
        closed. May block; raises `BrokerUnavailable`.
    submit_event
        Sends one `citybrain.messages.Event` to ``events``; None where that is closed. May block like the other.
    parts
        State of the process's parts by name, for ``/health``; ``ok`` is well, anything else says what is wrong.
    """

    city: CitySettings
    network: Network
    store: Store
    desk: AlertDesk
    live: Live
    clock: Clock
    metrics: Metrics
    submit_readings: Callable[[list[bytes]], None] | None = None
    submit_event: Callable[[bytes], None] | None = None
    parts: Callable[[], Mapping[str, str]] = _no_parts

    @property
    def typical(self) -> Typical | None:
        """The typical week that is compared with now; None where there is none."""
        return self.live.city.typical
