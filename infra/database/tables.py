"""Tables of the operational database: a URL in, an engine whose tables are there and of this version out.

Portable SQL: SQLite (WAL) by default, PostgreSQL by URL. Times are ms UTC: in the outbox the machine's, in alerts the
feed's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    inspect,
    select,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from citybrain.errors import ConfigError

SCHEMA_VERSION = 1
_LOCKED_FOR_MOST_MS = 10_000
metadata = MetaData()
_Key = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER counts up by itself in SQLite

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

alerts = Table(
    "alerts",
    metadata,
    Column("run", String(100), primary_key=True),
    Column("alert_id", String(100), primary_key=True),
    Column("network", String(40), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("state", String(20), nullable=False),
    Column("version", Integer, nullable=False),
    Column("detected_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("acknowledged_by", Text, nullable=False),
    Column("acknowledged_ms", BigInteger),
    Column("event", Text, nullable=False),
    Index("alerts_by_detection", "run", "detected_ms"),
)
"""An alert as it stands; ``event`` is the JSON of its newest step."""

alert_steps = Table(
    "alert_steps",
    metadata,
    Column("run", String(100), primary_key=True),
    Column("alert_id", String(100), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("updated_ms", BigInteger, nullable=False),
    Column("event", Text, nullable=False),
)
"""Every step of an alert: its history, and what makes a repeat change nothing."""

outbox = Table(
    "outbox",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("endpoint", String(100), nullable=False),
    Column("alert_id", String(100), nullable=False),
    Column("place", Integer, nullable=False),
    Column("message_id", String(120), nullable=False),
    Column("type", String(40), nullable=False),
    Column("severity", String(20), nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(20), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("next_ms", BigInteger, nullable=False),
    Column("leased_until_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
    Column("outcome", Text, nullable=False),
    UniqueConstraint("endpoint", "message_id"),
    Index("outbox_pending", "state", "next_ms"),
    Index("outbox_line", "endpoint", "alert_id", "state", "place"),
)
"""Messages to deliver; ``place`` is the order within an alert, ``state`` pending, delivered or dead."""

endpoints = Table(
    "endpoints",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("url", Text, nullable=False),
    Column("disabled_ms", BigInteger),
    Column("reason", Text, nullable=False),
)
"""Endpoints that said they are gone (410), by name and address: another address is another endpoint."""

audit = Table(
    "audit",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("recorded_ms", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", String(40), nullable=False),
    Column("subject", String(100), nullable=False),
    Column("detail", Text, nullable=False),
)
"""What operators did: rows are added, never changed."""


@event.listens_for(audit, "after_create")
def _guard_audit(table: Table, connection: Connection, **kwargs: object) -> None:
    """Let the database itself refuse changes, where its dialect has such a short way to say so."""
    for verb in ("UPDATE", "DELETE") if connection.dialect.name == "sqlite" else ():
        connection.exec_driver_sql(
            f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit"
            " BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
        )


def open_database(url: str) -> Engine:
    """Return an engine on the database, with its tables made where there are none.

    Raises
    ------
    ConfigError
        If the URL is wrong, no database answers there, or it has tables of another version.
    """
    try:
        engine = create_engine(url)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise ConfigError(
            f"database_url: {url!r} seen, a SQLAlchemy URL with an installed driver allowed ({error})"
        ) from error
    if engine.dialect.name == "sqlite":
        _set_up_sqlite(engine)
    try:
        if engine.dialect.name == "sqlite" and engine.url.database:
            Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)
        with engine.execution_options(write=True).begin() as connection:
            _make_tables(connection)
    except (SQLAlchemyError, OSError) as error:
        shown = make_url(url).render_as_string(hide_password=True)
        raise ConfigError(f"{shown}: no database seen that can be used ({_first_line(error)})") from error
    return engine


def _make_tables(connection: Connection) -> None:
    if not inspect(connection).has_table(schema_version.name):
        metadata.create_all(connection)
        connection.execute(schema_version.insert().values(version=SCHEMA_VERSION))
        return
    version = connection.execute(select(schema_version.c.version)).scalar()
    if version != SCHEMA_VERSION:
        shown = connection.engine.url.render_as_string(hide_password=True)
        raise ConfigError(f"{shown}: tables of version {version} seen, {SCHEMA_VERSION} allowed")


def _set_up_sqlite(engine: Engine) -> None:
    """Use the write-ahead log; a transaction says at its beginning that it writes, so that it is not refused later."""

    @event.listens_for(engine, "connect")
    def connected(connection: Any, record: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions by itself
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {_LOCKED_FOR_MOST_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
