"""The alert desk: what an operator sees of alerts and does to them. Alert events in, rows out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from citybrain.messages import AlertEvent, AlertState


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert as it stands. ``event`` is its newest step; ``version`` counts every change (HTTP ETag)."""

    event: AlertEvent
    state: AlertState
    version: int
    acknowledged_by: str = ""
    acknowledged_ms: int | None = None


class AlertDesk(Protocol):
    """Alerts of one city. Thread-safe. ``run`` is empty for the live city."""

    def apply(self, events: Sequence[AlertEvent], *, run: str = "") -> None:
        """Take events in log order; a repeat (same alert and sequence) changes nothing.

        The alert's row and one outbox row an endpoint are written in the same transaction; a replay run writes no
        outbox.
        """
        ...

    def alerts(self, *, states: Sequence[AlertState] = (), limit: int = 200, run: str = "") -> list[Alert]:
        """Return alerts, newest detection first; empty ``states`` is all."""
        ...

    def alert(self, alert_id: str, *, run: str = "") -> Alert | None:
        """Return one alert."""
        ...

    def acknowledge(self, alert_id: str, *, by: str, at_ms: int, version: int | None = None) -> Alert:
        """Mark an open alert as seen by someone, and tell the endpoints (``alert.acknowledged``), in one transaction.

        Acknowledging twice changes nothing. Raises `KeyError` for an unknown alert, `StaleVersion` if ``version`` is
        not the newest (two operators at once).
        """
        ...


class StaleVersion(Exception):
    """Somebody else changed the alert meanwhile."""
