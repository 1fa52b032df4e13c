"""The outbox: messages to endpoints in, the ones that are due out; what became of each is kept.

Within an alert and endpoint only the first pending message is ever due: order is kept through failures. Times are the
machine's.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, delete, exists, func, select, update

from citybrain.messages import AlertEventType, Severity
from citybrain.topics import DAY_MS
from infra.database.tables import endpoints, outbox
from infra.database.transaction import transaction


@dataclass(frozen=True, slots=True)
class Entry:
    """A message for one or more endpoints; ``place`` is its order within the alert."""

    alert_id: str
    place: int
    message_id: str
    type: AlertEventType
    severity: Severity
    body: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message leased to be sent to one endpoint; ``attempts`` counts this one too.

    After ``leased_until_ms`` somebody else may send it.
    """

    id: int
    endpoint: str
    message_id: str
    severity: Severity
    attempts: int
    body: str
    leased_until_ms: int


def add(connection: Connection, told: Sequence[tuple[Entry, Sequence[str]]], now_ms: int) -> None:
    """Add a row for each message and endpoint, in the caller's transaction; one that is there stays as it is."""
    if not told:
        return
    ids = [entry.message_id for entry, _ in told]
    query = select(outbox.c.endpoint, outbox.c.message_id).where(outbox.c.message_id.in_(ids))
    there = {tuple(row) for row in connection.execute(query)}
    rows = [
        {
            "endpoint": name, "alert_id": entry.alert_id, "place": entry.place, "message_id": entry.message_id,
            "type": entry.type, "severity": entry.severity, "body": entry.body, "state": "pending", "attempts": 0,
            "created_ms": now_ms, "next_ms": now_ms, "leased_until_ms": 0, "leased_by": "", "outcome": "",
        }
        for entry, hearing in told
        for name in hearing
        if (name, entry.message_id) not in there
    ]  # fmt: skip
    if rows:
        connection.execute(outbox.insert(), rows)


class Outbox:
    """What is to be delivered. Thread-safe; every method is one transaction and raises `StoreError` on failure."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._me = f"{socket.gethostname()[:60]}/{os.getpid()}/{secrets.token_hex(4)}"

    def _transaction(self, *, writes: bool) -> AbstractContextManager[Connection]:
        return transaction(self._engine, writes=writes)

    def lease(self, endpoint: str, now_ms: int, *, limit: int, lease_ms: int) -> list[Delivery]:
        """Return messages that are due at an endpoint, each the first of its alert, and count an attempt of each.

        Nobody else gets them for ``lease_ms``: rows that another process is leasing at this moment are passed over.
        Who dies with a lease leaves the message pending: it is due again after that, and may arrive twice, under the
        same id. Who comes back later has lost the lease, and changes nothing any more.
        """
        earlier = outbox.alias()
        blocked = exists().where(
            earlier.c.endpoint == outbox.c.endpoint,
            earlier.c.alert_id == outbox.c.alert_id,
            earlier.c.state == "pending",
            earlier.c.place < outbox.c.place,
        )
        due = (
            select(outbox.c.id, outbox.c.message_id, outbox.c.severity, outbox.c.attempts, outbox.c.body)
            .where(outbox.c.endpoint == endpoint, outbox.c.state == "pending", outbox.c.next_ms <= now_ms)
            .where(outbox.c.leased_until_ms <= now_ms, ~blocked)
            .order_by(outbox.c.next_ms, outbox.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        until_ms = now_ms + lease_ms
        with self._transaction(writes=True) as connection:
            rows = connection.execute(due).all()
            if rows:
                connection.execute(
                    update(outbox)
                    .where(outbox.c.id.in_([row.id for row in rows]))
                    .values(leased_until_ms=until_ms, leased_by=self._me, attempts=outbox.c.attempts + 1)
                )
        return [
            Delivery(row.id, endpoint, row.message_id, row.severity, row.attempts + 1, row.body, until_ms)
            for row in rows
        ]

    def anything_due(self, now_ms: int) -> set[str]:
        """Return the endpoints for which something may be due; cheap, and without a lock."""
        query = select(outbox.c.endpoint).where(
            outbox.c.state == "pending", outbox.c.next_ms <= now_ms, outbox.c.leased_until_ms <= now_ms
        )
        with self._transaction(writes=False) as connection:
            return set(connection.execute(query.distinct()).scalars())

    def delivered(self, delivery: Delivery, now_ms: int, outcome: str) -> None:
        """Mark a message as delivered."""
        self._end(delivery, now_ms, "delivered", outcome)

    def dead(self, delivery: Delivery, now_ms: int, outcome: str) -> None:
        """Give a message up; the next one of its alert takes its place."""
        self._end(delivery, now_ms, "dead", outcome)

    def failed(self, delivery: Delivery, next_ms: int, outcome: str, *, counted: bool = True) -> None:
        """Put a message off; ``counted`` False takes the attempt back."""
        values = {"next_ms": next_ms, "leased_until_ms": 0, "outcome": outcome}
        if not counted:
            values["attempts"] = delivery.attempts - 1
        self._update(delivery, values)

    def _end(self, delivery: Delivery, now_ms: int, state: str, outcome: str) -> None:
        self._update(delivery, {"state": state, "ended_ms": now_ms, "leased_until_ms": 0, "outcome": outcome})

    def _update(self, delivery: Delivery, values: dict[str, object]) -> None:
        mine = (
            outbox.c.id == delivery.id,
            outbox.c.state == "pending",
            outbox.c.leased_by == self._me,
            outbox.c.attempts == delivery.attempts,
        )
        with self._transaction(writes=True) as connection:
            connection.execute(update(outbox).where(*mine).values(leased_by="", **values))

    def hurry(self, endpoint: str, now_ms: int) -> None:
        """Make everything that waits for an endpoint due: it is back."""
        with self._transaction(writes=True) as connection:
            connection.execute(
                update(outbox)
                .where(outbox.c.endpoint == endpoint, outbox.c.state == "pending", outbox.c.next_ms > now_ms)
                .values(next_ms=now_ms)
            )

    def redeliver(self, message_id: str, endpoint: str, now_ms: int) -> bool:
        """Make a message that was delivered or given up due again, from the first attempt; False if there is none."""
        with self._transaction(writes=True) as connection:
            done = connection.execute(
                update(outbox)
                .where(outbox.c.message_id == message_id, outbox.c.endpoint == endpoint, outbox.c.state != "pending")
                .values(state="pending", attempts=0, next_ms=now_ms, ended_ms=None, outcome="", leased_by="")
            )
            return done.rowcount > 0

    def disable(self, name: str, url: str, now_ms: int, reason: str) -> None:
        """Send nothing more to an endpoint at this address."""
        with self._transaction(writes=True) as connection:
            connection.execute(delete(endpoints).where(endpoints.c.name == name))
            connection.execute(endpoints.insert().values(name=name, url=url, disabled_ms=now_ms, reason=reason))

    def enable(self, name: str) -> None:
        """Send to an endpoint again."""
        with self._transaction(writes=True) as connection:
            connection.execute(delete(endpoints).where(endpoints.c.name == name))

    def disabled(self) -> dict[tuple[str, str], str]:
        """Return name and address of the endpoints that get nothing, and why."""
        with self._transaction(writes=False) as connection:
            rows = connection.execute(select(endpoints.c.name, endpoints.c.url, endpoints.c.reason))
            return {(row.name, row.url): row.reason for row in rows}

    def counts(self) -> dict[tuple[str, str], int]:
        """Return the number of messages by endpoint and state."""
        query = select(outbox.c.endpoint, outbox.c.state, func.count()).group_by(outbox.c.endpoint, outbox.c.state)
        with self._transaction(writes=False) as connection:
            return {(row[0], row[1]): row[2] for row in connection.execute(query)}

    def retain(self, now_ms: int, *, days: int = 30) -> None:
        """Delete messages that were delivered or given up so long ago."""
        with self._transaction(writes=True) as connection:
            connection.execute(
                delete(outbox).where(outbox.c.state != "pending", outbox.c.ended_ms < now_ms - days * DAY_MS)
            )
