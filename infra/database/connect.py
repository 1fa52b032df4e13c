"""Connections: a database URL and a password file in, an engine out, SQLite (write-ahead log) or PostgreSQL (psycopg).

A password is read for each new connection and never becomes part of the engine's URL, so that no log shows it and a
changed one needs no restart. No call waits for ever: PostgreSQL ends slow statements, and a server that does not answer
at all is hung up on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from citybrain.errors import ConfigError

T = TypeVar("T")

LOCKED_FOR_MOST_MS = 10_000
CONNECT_S = 5
STATEMENT_MS, LOCK_MS, IDLE_MS = 10_000, 5_000, 10_000
"""PostgreSQL ends a statement, a wait for a row, and a transaction in which nothing happens after so long."""
ANSWER_S = 15.0
"""A server that has said nothing for so long hangs: longer than any statement of ours may take."""
CONNECTIONS, MORE_AT_PEAK, FREE_WITHIN_S = 5, 10, 5.0
RENEW_S = 1800
KEEPALIVE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}


def engine_on(address: str, password_file: str = "") -> Engine:
    """Return an engine; nothing is connected yet.

    Raises
    ------
    ConfigError
        If the URL names no database that there is a driver for, or holds a password beside the file.
    """
    try:
        url = make_url(address)
        if url.drivername in {"postgresql", "postgres"}:
            url = url.set(drivername="postgresql+psycopg")
        if url.get_backend_name() not in ("sqlite", "postgresql"):
            raise ConfigError(f"database_url: {url.get_backend_name()} seen, sqlite or postgresql allowed")
        if password_file and url.password is not None:
            raise ConfigError("database_url: a password seen beside database_password_file, one of them allowed")
        engine = _postgres(url, password_file) if url.get_backend_name() == "postgresql" else create_engine(url)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        # What SQLAlchemy says of a URL may hold all of it.
        seen = without_password(address)
        raise ConfigError(f"database_url: {seen!r} seen, a SQLAlchemy URL with an installed driver allowed") from error
    if engine.dialect.name == "sqlite":
        _set_up_sqlite(engine)
    return engine


def shown(engine: Engine) -> str:
    """Return where the database is, without a password."""
    return engine.url.render_as_string(hide_password=True)


def without_password(address: str) -> str:
    """Return a URL, well formed or not, without what may be its password.

    Examples
    --------
    >>> without_password("postgresql://city:hush@host/base")
    'postgresql://city:***@host/base'
    """
    return re.sub(r"(://[^:/@]*):[^/]*@", r"\1:***@", address)


class PatientConnection(psycopg.Connection[Any]):
    """A connection that is given up when its server says nothing for `ANSWER_S`: stopped, or behind a dead network."""

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:
        """Drive one exchange with the server to its end."""
        return super().wait(self._until_silent(gen), *args, **options)

    def _until_silent(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        silent_since = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                now = time.monotonic()
                if ready:
                    silent_since = now
                elif now - silent_since > ANSWER_S:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"the server said nothing for {ANSWER_S:g} s")
                wanted = gen.send(ready)
        except StopIteration as done:
            value: T = done.value
            return value


def _postgres(url: URL, password_file: str) -> Engine:
    engine = create_engine(
        url,
        pool_pre_ping=True,
        pool_size=CONNECTIONS,
        max_overflow=MORE_AT_PEAK,
        pool_timeout=FREE_WITHIN_S,
        pool_recycle=RENEW_S,
    )
    limits = {
        "statement_timeout": STATEMENT_MS,
        "lock_timeout": LOCK_MS,
        "idle_in_transaction_session_timeout": IDLE_MS,
    }
    said = " ".join(f"-c {name}={value}" for name, value in limits.items())

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, positional: list[Any], options: dict[str, Any]) -> Any:
        mine = {"connect_timeout": CONNECT_S, "application_name": "citybrain", **KEEPALIVE, **options}
        mine["options"] = f"{said} {options.get('options', '')}".strip()
        if password_file:
            mine["password"] = password_in(Path(password_file))
        return PatientConnection.connect(*positional, **mine)

    return engine


def password_in(path: Path) -> str:
    """Return the password in a file.

    Raises
    ------
    ConfigError
        If there is none that can be read.
    """
    try:
        password = path.read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise ConfigError(f"database_password_file: {path} cannot be read ({reason})") from error
    if not password or "\n" in password:
        raise ConfigError(f"database_password_file: {path} holds {len(password.split())} lines, one password allowed")
    return password


def _set_up_sqlite(engine: Engine) -> None:
    """Use the write-ahead log; a transaction says at its beginning that it writes, so that it is not refused later."""

    @event.listens_for(engine, "connect")
    def connected(connection: Any, record: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions by itself
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {LOCKED_FOR_MOST_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
