"""Tables of the operational database: a URL in, an engine whose tables are there and of this version out.

Portable SQL: SQLite by default, PostgreSQL by URL. Times are ms UTC: in the outbox the machine's, in alerts the
feed's.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from citybrain.errors import ConfigError
from infra.database.connect import engine_on, shown
from infra.database.transaction import said

SCHEMA_VERSION = 2
ROWS_A_STATEMENT = 500
_TABLES_LOCK = 0x0C17_B4A1
"""Number of the lock under which one process at a time makes or changes the tables (PostgreSQL)."""
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
    Column("leased_by", String(100), nullable=False, server_default=""),
    Column("ended_ms", BigInteger),
    Column("outcome", Text, nullable=False),
    UniqueConstraint("endpoint", "message_id"),
    Index("outbox_pending", "state", "next_ms"),
    Index("outbox_line", "endpoint", "alert_id", "state", "place"),
)
"""Messages to deliver; ``place`` is the order within an alert, ``state`` pending, delivered or dead.

Who has a lease (``leased_by``) alone may say what became of it.
"""

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


_REFUSES = """
CREATE OR REPLACE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$
"""
_GUARDS = """
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()
"""
_GUARDS_SQLITE = """
CREATE TRIGGER audit_no_{verb} BEFORE {verb} ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END
"""
APPEND_ONLY = {
    "sqlite": tuple(_GUARDS_SQLITE.format(verb=verb) for verb in ("update", "delete")),
    "postgresql": (_REFUSES, _GUARDS),
}
"""How a database itself refuses changes of the audit log."""

LEASED_BY = "ALTER TABLE outbox ADD COLUMN leased_by VARCHAR(100) NOT NULL DEFAULT ''"
MIGRATIONS: dict[int, dict[str, tuple[str, ...]]] = {
    1: {"sqlite": (LEASED_BY,), "postgresql": (LEASED_BY, *APPEND_ONLY["postgresql"])},
}
"""What makes tables of a version those of the next. It only ever adds: a process of the version before goes on."""


def open_database(url: str, password_file: str = "") -> Engine:
    """Return an engine on the database; tables are made where there are none, and older ones brought up to date.

    Raises
    ------
    ConfigError
        If the URL is wrong, no database answers there or takes us in, or it has tables of a later version.
    """
    engine = engine_on(url, password_file)
    try:
        if engine.dialect.name == "sqlite" and engine.url.database:
            Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)
        with engine.execution_options(write=True).begin() as connection:
            _make_tables(connection)
    except ConfigError:
        engine.dispose()
        raise
    except (SQLAlchemyError, OSError) as error:
        engine.dispose()
        raise ConfigError(f"{shown(engine)}: no database seen that can be used ({said(error)})") from error
    return engine


def add_once(
    connection: Connection, table: Table, rows: Sequence[dict[str, Any]], told: Sequence[Column[Any]]
) -> set[tuple[Any, ...]]:
    """Add rows unless one of their key is there; return of those that were added the columns ``told``."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    added: set[tuple[Any, ...]] = set()
    for at in range(0, len(rows), ROWS_A_STATEMENT):
        statement = dialect.insert(table).values(rows[at : at + ROWS_A_STATEMENT]).on_conflict_do_nothing()
        added |= {tuple(row) for row in connection.execute(statement.returning(*told))}
    return added


def _make_tables(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _TABLES_LOCK})
        encoding = connection.execute(text("SHOW server_encoding")).scalar()
        if encoding != "UTF8":
            raise ConfigError(f"{shown(connection.engine)}: encoding {encoding} seen, UTF8 allowed")
    if not inspect(connection).has_table(schema_version.name):
        metadata.create_all(connection)
        for statement in APPEND_ONLY[connection.dialect.name]:
            connection.exec_driver_sql(statement)
        connection.execute(schema_version.insert().values(version=SCHEMA_VERSION))
        return
    version = connection.execute(select(schema_version.c.version)).scalar()
    if not isinstance(version, int) or not 1 <= version <= SCHEMA_VERSION:
        raise ConfigError(
            f"{shown(connection.engine)}: tables of version {version} seen, 1 to {SCHEMA_VERSION} allowed:"
            " run the newer program that made them, or give this one a database of its own"
        )
    for before in range(version, SCHEMA_VERSION):
        for statement in MIGRATIONS[before][connection.dialect.name]:
            connection.exec_driver_sql(statement)
        connection.execute(update(schema_version).values(version=before + 1))
