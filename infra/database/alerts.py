"""The alert desk on SQL: alert events and operators' actions in, alerts and outbox rows out, one transaction each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, Row, delete, func, select, update
from sqlalchemy.exc import DBAPIError

from citybrain.clock import Clock
from citybrain.errors import StoreError
from citybrain.messages import AlertEvent, AlertState
from citybrain.network import Network
from citybrain.settings import Webhook
from citybrain.topics import DAY_MS
from infra.database.outbox import Entry, add
from infra.database.payload import Acknowledgement, Sender, body_of, districts_of
from infra.database.protocol import Alert, StaleVersion
from infra.database.tables import alert_steps, alerts, audit


class SqlAlertDesk:
    """Alerts of one city in a SQL database. Thread-safe.

    Alerts of an earlier network are kept but not shown: their segments mean other roads.

    Parameters
    ----------
    engine
        From `infra.database.tables.open_database`.
    network
        Names and places for what endpoints are told.
    endpoints
        Who hears of alerts.
    clock
        The machine's clock: deliveries happen in real time, whatever time the feed is in.
    sender
        Whose alerts these are.

    Raises
    ------
    StoreError
        By every method, when the database fails for now.
    """

    def __init__(
        self, engine: Engine, network: Network, endpoints: Sequence[Webhook], clock: Clock, sender: Sender
    ) -> None:
        self._engine, self._network, self._endpoints = engine, network, tuple(endpoints)
        self._clock, self._sender = clock, sender

    @contextmanager
    def _transaction(self, *, writes: bool) -> Iterator[Connection]:
        try:
            with self._engine.execution_options(write=writes).begin() as connection:
                yield connection
        except DBAPIError as error:
            raise StoreError(f"database: {str(error).splitlines()[0]}") from error

    def apply(self, events: Sequence[AlertEvent], *, run: str = "") -> None:
        """Take events in log order; a repeat (same alert and sequence) changes nothing."""
        if not events:
            return
        with self._transaction(writes=True) as connection:
            for event in events:
                self._apply(connection, event, run)

    def _apply(self, connection: Connection, event: AlertEvent, run: str) -> None:
        key = {"run": run, "alert_id": event.alert_id}
        place = (alert_steps.c.run == run, alert_steps.c.alert_id == event.alert_id)
        step = select(alert_steps.c.sequence).where(*place, alert_steps.c.sequence == event.sequence)
        if connection.execute(step).first() is not None:
            return
        text = msgspec.json.encode(event).decode()
        connection.execute(
            alert_steps.insert().values(**key, sequence=event.sequence, updated_ms=event.updated_ms, event=text)
        )
        known = self._row(connection, event.alert_id, run)
        seen = None
        if known is not None and known.acknowledged_ms is not None:
            seen = Acknowledgement(known.acknowledged_by, known.acknowledged_ms)
        values: dict[str, Any] = {
            "network": event.network,
            "sequence": event.sequence,
            "state": "resolved" if event.type == "alert.resolved" else "acknowledged" if seen else "open",
            "detected_ms": event.detected_ms,
            "updated_ms": event.updated_ms,
            "event": text,
        }
        if known is None:
            connection.execute(alerts.insert().values(**key, **values, version=1, acknowledged_by=""))
        else:
            # A step that comes late is kept, but the newest says how the alert stands.
            newest = values if event.sequence > known.sequence else {}
            connection.execute(_this_alert(event.alert_id, run).values(version=known.version + 1, **newest))
        if not run:
            self._tell(connection, event, seen, of_seen=False)

    def _tell(self, connection: Connection, event: AlertEvent, seen: Acknowledgement | None, *, of_seen: bool) -> None:
        """Add an outbox row for every endpoint that hears of it."""
        kind = "alert.acknowledged" if of_seen else event.type
        districts = districts_of(event, self._network)
        hearing = [
            endpoint.name
            for endpoint in self._endpoints
            if (not endpoint.types or kind in endpoint.types)
            and (not endpoint.districts or districts.intersection(endpoint.districts))
        ]
        if not hearing:
            return
        entry = Entry(
            alert_id=event.alert_id,
            place=2 * event.sequence + of_seen,
            message_id=f"{event.alert_id}.{'acknowledged' if of_seen else event.sequence}",
            type=kind,
            severity=event.severity,
            body=body_of(event, self._network, self._sender, seen=seen, of_seen=of_seen),
        )
        add(connection, entry, hearing, self._clock.now_ms())

    def alerts(self, *, states: Sequence[AlertState] = (), limit: int = 200, run: str = "") -> list[Alert]:
        """Return alerts, newest detection first; empty ``states`` is all."""
        query = select(alerts).where(alerts.c.run == run, alerts.c.network == self._network.version)
        if states:
            query = query.where(alerts.c.state.in_(states))
        query = query.order_by(alerts.c.detected_ms.desc(), alerts.c.alert_id).limit(limit)
        with self._transaction(writes=False) as connection:
            return [_alert(row) for row in connection.execute(query)]

    def alert(self, alert_id: str, *, run: str = "") -> Alert | None:
        """Return one alert."""
        with self._transaction(writes=False) as connection:
            row = self._row(connection, alert_id, run)
            return None if row is None or row.network != self._network.version else _alert(row)

    def history(self, alert_id: str, *, run: str = "") -> list[AlertEvent]:
        """Return the steps of one alert, in order."""
        query = select(alert_steps.c.event).where(alert_steps.c.run == run, alert_steps.c.alert_id == alert_id)
        with self._transaction(writes=False) as connection:
            rows = connection.execute(query.order_by(alert_steps.c.sequence))
            return [msgspec.json.decode(text, type=AlertEvent) for (text,) in rows]

    def acknowledge(self, alert_id: str, *, by: str, at_ms: int, version: int | None = None) -> Alert:
        """Mark an open alert as seen by someone, and tell the endpoints: see `infra.database.protocol`.

        An alert that is acknowledged or resolved already stays as it is.
        """
        with self._transaction(writes=True) as connection:
            row = self._row(connection, alert_id, "", lock=True)
            if row is None or row.network != self._network.version:
                raise KeyError(alert_id)
            if version is not None and version != row.version:
                raise StaleVersion(f"alert {alert_id}: version {version} seen, {row.version} allowed")
            if row.state != "open":
                return _alert(row)
            values = {"state": "acknowledged", "acknowledged_by": by, "acknowledged_ms": at_ms}
            connection.execute(_this_alert(alert_id, "").values(version=row.version + 1, **values))
            self._record(connection, by, at_ms, "acknowledge", alert_id, f"version {row.version}")
            event = msgspec.json.decode(row.event, type=AlertEvent)
            self._tell(connection, event, Acknowledgement(by, at_ms), of_seen=True)
            return Alert(event, "acknowledged", row.version + 1, by, at_ms)

    def _record(self, connection: Connection, actor: str, at_ms: int, action: str, subject: str, detail: str) -> None:
        values = {"actor": actor, "action": action, "subject": subject, "detail": detail}
        connection.execute(audit.insert().values(recorded_ms=self._clock.now_ms(), at_ms=at_ms, **values))

    def actions(self, subject: str = "") -> list[tuple[int, str, str, str]]:
        """Return who did what and when, in order: at_ms, actor, action, subject."""
        query = select(audit.c.at_ms, audit.c.actor, audit.c.action, audit.c.subject).order_by(audit.c.id)
        if subject:
            query = query.where(audit.c.subject == subject)
        with self._transaction(writes=False) as connection:
            return [tuple(row) for row in connection.execute(query)]

    def delete_run(self, run: str) -> None:
        """Forget the alerts of a replay run."""
        if run:
            with self._transaction(writes=True) as connection:
                connection.execute(delete(alerts).where(alerts.c.run == run))
                connection.execute(delete(alert_steps).where(alert_steps.c.run == run))

    def retain(self, days: int) -> None:
        """Delete live alerts that were resolved ``days`` before the newest step of any; the audit log stays."""
        with self._transaction(writes=True) as connection:
            newest = connection.execute(select(func.max(alerts.c.updated_ms)).where(alerts.c.run == "")).scalar()
            old = (
                alerts.c.run == "",
                alerts.c.state == "resolved",
                alerts.c.updated_ms < (newest or 0) - days * DAY_MS,
            )
            ids = select(alerts.c.alert_id).where(*old)
            connection.execute(delete(alert_steps).where(alert_steps.c.run == "", alert_steps.c.alert_id.in_(ids)))
            connection.execute(delete(alerts).where(*old))

    def _row(self, connection: Connection, alert_id: str, run: str, *, lock: bool = False) -> Row[Any] | None:
        query = select(alerts).where(alerts.c.run == run, alerts.c.alert_id == alert_id)
        return connection.execute(query.with_for_update() if lock else query).first()


def _this_alert(alert_id: str, run: str) -> Any:
    return update(alerts).where(alerts.c.run == run, alerts.c.alert_id == alert_id)


def _alert(row: Row[Any]) -> Alert:
    event = msgspec.json.decode(row.event, type=AlertEvent)
    return Alert(event, row.state, row.version, row.acknowledged_by, row.acknowledged_ms)
