"""The alert desk on SQL: alert events and operators' actions in, alerts and outbox rows out, one transaction each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, Row, bindparam, delete, func, select, update

from citybrain.clock import Clock
from citybrain.messages import AlertEvent, AlertState
from citybrain.network import Network
from citybrain.settings import Webhook
from citybrain.topics import DAY_MS
from infra.database.outbox import Entry, add
from infra.database.payload import Acknowledgement, Sender, body_of, districts_of
from infra.database.protocol import Alert, StaleVersion
from infra.database.tables import add_once, alert_steps, alerts, audit
from infra.database.transaction import transaction


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
        By every method, when the database fails for now; `StoreRefused` when it never takes such values.
    """

    def __init__(
        self, engine: Engine, network: Network, endpoints: Sequence[Webhook], clock: Clock, sender: Sender
    ) -> None:
        self._engine, self._network, self._endpoints = engine, network, tuple(endpoints)
        self._clock, self._sender = clock, sender

    def _transaction(self, *, writes: bool) -> AbstractContextManager[Connection]:
        return transaction(self._engine, writes=writes)

    def apply(self, events: Sequence[AlertEvent], *, run: str = "") -> None:
        """Take events in log order; a repeat (same alert and sequence) changes nothing."""
        if not events:
            return
        with self._transaction(writes=True) as connection:
            new = _new_steps(connection, events, run)
            if new:
                self._apply(connection, new, run)

    def _apply(self, connection: Connection, events: Sequence[AlertEvent], run: str) -> None:
        """Bring the alerts up to date; a handful of statements, however many events."""
        ids = sorted({event.alert_id for event in events})
        mine = select(alerts).where(alerts.c.run == run, alerts.c.alert_id.in_(ids)).order_by(alerts.c.alert_id)
        known = {row.alert_id: dict(row._mapping) for row in connection.execute(mine.with_for_update())}
        standing, told = dict(known), []
        for event in events:
            before = standing.get(event.alert_id)
            seen = _seen(before)
            standing[event.alert_id] = _after(before, event, run)
            if not run:
                told += self._told(event, seen, of_seen=False)
        added = [row for alert_id, row in standing.items() if alert_id not in known]
        changed = [{f"new_{name}": value for name, value in standing[alert_id].items()} for alert_id in known]
        if added:
            connection.execute(alerts.insert(), added)
        if changed:
            connection.execute(_UPDATE, changed)
        add(connection, told, self._clock.now_ms())

    def _told(self, event: AlertEvent, seen: Acknowledgement | None, *, of_seen: bool) -> list[tuple[Entry, list[str]]]:
        """Return the message about an event and the endpoints that hear of it; nothing where none does."""
        kind = "alert.acknowledged" if of_seen else event.type
        districts = districts_of(event, self._network)
        hearing = [
            endpoint.name
            for endpoint in self._endpoints
            if (not endpoint.types or kind in endpoint.types)
            and (not endpoint.districts or districts.intersection(endpoint.districts))
        ]
        if not hearing:
            return []
        entry = Entry(
            alert_id=event.alert_id,
            place=2 * event.sequence + of_seen,
            message_id=f"{event.alert_id}.{'acknowledged' if of_seen else event.sequence}",
            type=kind,
            severity=event.severity,
            body=body_of(event, self._network, self._sender, seen=seen, of_seen=of_seen),
        )
        return [(entry, hearing)]

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
            add(connection, self._told(event, Acknowledgement(by, at_ms), of_seen=True), self._clock.now_ms())
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

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()

    def _row(self, connection: Connection, alert_id: str, run: str, *, lock: bool = False) -> Row[Any] | None:
        query = select(alerts).where(alerts.c.run == run, alerts.c.alert_id == alert_id)
        return connection.execute(query.with_for_update() if lock else query).first()


_UPDATE = (
    update(alerts)
    .where(alerts.c.run == bindparam("new_run"), alerts.c.alert_id == bindparam("new_alert_id"))
    .values({c.name: bindparam(f"new_{c.name}") for c in alerts.columns if not c.primary_key})
)


def _new_steps(connection: Connection, events: Sequence[AlertEvent], run: str) -> list[AlertEvent]:
    """Add the steps that are not there yet; return their events, in log order."""
    by_place: dict[tuple[str, int], AlertEvent] = {}
    for event in events:
        by_place.setdefault((event.alert_id, event.sequence), event)
    rows = [
        {
            "run": run, "alert_id": event.alert_id, "sequence": event.sequence, "updated_ms": event.updated_ms,
            "event": msgspec.json.encode(event).decode(),
        }
        for event in by_place.values()
    ]  # fmt: skip
    added = add_once(connection, alert_steps, rows, (alert_steps.c.alert_id, alert_steps.c.sequence))
    return [event for place, event in by_place.items() if place in added]


def _seen(row: Mapping[str, Any] | None) -> Acknowledgement | None:
    if row is None or row["acknowledged_ms"] is None:
        return None
    return Acknowledgement(row["acknowledged_by"], row["acknowledged_ms"])


def _after(row: Mapping[str, Any] | None, event: AlertEvent, run: str) -> dict[str, Any]:
    """Return an alert's row after an event."""
    over = event.type == "alert.resolved"
    values: dict[str, Any] = {
        "network": event.network,
        "sequence": event.sequence,
        "state": "resolved" if over else "open" if _seen(row) is None else "acknowledged",
        "detected_ms": event.detected_ms,
        "updated_ms": event.updated_ms,
        "event": msgspec.json.encode(event).decode(),
    }
    if row is None:
        new = {"run": run, "alert_id": event.alert_id, "version": 1, "acknowledged_by": "", "acknowledged_ms": None}
        return {**new, **values}
    # A step that comes late is kept, but the newest says how the alert stands.
    newest = values if event.sequence > row["sequence"] else {}
    return {**row, **newest, "version": row["version"] + 1}


def _this_alert(alert_id: str, run: str) -> Any:
    return update(alerts).where(alerts.c.run == run, alerts.c.alert_id == alert_id)


def _alert(row: Row[Any]) -> Alert:
    event = msgspec.json.decode(row.event, type=AlertEvent)
    return Alert(event, row.state, row.version, row.acknowledged_by, row.acknowledged_ms)
