"""Fixtures for tests on a real PostgreSQL: one server a test session, on 127.0.0.1, and a database for each test.

Debian's package `postgresql` is enough; without it these tests are skipped.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy.engine import URL

SUPERUSER, PASSWORD = "city", "hush-hush-5"
FAST = ("fsync=off", "full_page_writes=off", "max_wal_size=256MB", "shared_buffers=32MB")


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, the newest version first; None without one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
    if found:
        return found[0]
    initdb = shutil.which("initdb")
    return None if initdb is None else Path(initdb).parent


def _user() -> str | None:
    """Return who runs the server: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    return "nobody"


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class PostgresServer:
    """A server of its own below a folder; `stop` and `start` keep what it holds."""

    bin: Path
    folder: Path
    port: int
    options: tuple[str, ...] = FAST
    process: subprocess.Popen[bytes] | None = None

    def _run(self, *command: str | Path) -> None:
        subprocess.run(command, check=True, capture_output=True, user=_user(), cwd=self.folder, env=self._env())

    def _env(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "TZ": "UTC"}

    def make(self) -> None:
        """Make the server's files: users prove themselves with a password."""
        password = self.folder / "password"
        password.write_text(PASSWORD)
        if (user := _user()) is not None:
            shutil.chown(self.folder, user)
            shutil.chown(password, user)
        options = ["-U", SUPERUSER, "-A", "scram-sha-256", "--pwfile", str(password), "-E", "UTF8", "--no-sync"]
        self._run(self.bin / "initdb", "-D", self.folder / "data", *options)

    def start(self) -> None:
        """Start it, and return when it answers."""
        said = [
            f"-c{option}"
            for option in (*self.options, "listen_addresses=127.0.0.1", f"unix_socket_directories={self.folder}")
        ]
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            [self.bin / "postgres", "-D", self.folder / "data", "-p", str(self.port), *said],
            stdout=log, stderr=log, user=_user(), cwd=self.folder, env=self._env(),
        )  # fmt: skip
        log.close()
        until = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self._told("postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < until, "the server does not answer"
                time.sleep(0.05)

    def stop(self, sign: int = signal.SIGQUIT) -> None:
        """End it; by default at once, as in a crash. Connections break."""
        assert self.process is not None
        self.process.send_signal(sign)
        self.process.wait(30)

    def pause(self, *, on: bool) -> None:
        """Stop every process of the server (SIGSTOP), or let them go on: it hangs, and its connections with it."""
        assert self.process is not None
        main = psutil.Process(self.process.pid)
        for process in (main, *main.children(recursive=True)):
            process.suspend() if on else process.resume()

    def _told(self, name: str) -> str:
        return f"host=127.0.0.1 port={self.port} user={SUPERUSER} password={PASSWORD} dbname={name}"

    def run(self, statement: str, name: str = "postgres") -> None:
        """Run one statement outside of a transaction."""
        with psycopg.connect(self._told(name), autocommit=True) as connection:
            connection.execute(statement)

    def url(self, name: str, *, password: str | None = PASSWORD, options: str = "") -> str:
        """Return the SQLAlchemy URL of a database."""
        query = {"options": options} if options else {}
        url = URL.create("postgresql", SUPERUSER, password, "127.0.0.1", self.port, name, query)
        return url.render_as_string(hide_password=False)

    def new_database(self, *, password: str | None = PASSWORD) -> str:
        """Return the URL of a place without tables: a schema of its own, which is made faster than a database."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self.run(f"CREATE SCHEMA {name}")
        return self.url("postgres", password=password, options=f"-csearch_path={name}")


def _serving() -> Iterator[PostgresServer]:
    found = programs()
    if found is None:
        pytest.skip("no PostgreSQL here: Debian's package `postgresql` has it")
    folder = Path(tempfile.mkdtemp(prefix="citybrain-postgres-"))
    folder.chmod(0o755)
    server = PostgresServer(found, folder, free_port())
    try:
        server.make()
        server.start()
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.pause(on=False)
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Return the session's server; a test that stops it starts it again."""
    yield from _serving()


DATABASES = ("sqlite", pytest.param("postgresql", marks=pytest.mark.xdist_group("postgres")))
"""What the suites of alerts and webhooks are run on."""


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a database without tables, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'city.sqlite'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()
