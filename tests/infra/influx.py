"""A real InfluxDB 2.7 on a free port of this machine, for tests; skipped with the reason where there is none."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from citybrain.network import Network
from citybrain.settings import CitySettings, StoreSettings
from infra.stores.factory import open_store
from infra.stores.influxsetup import init
from infra.stores.protocol import Store
from tests.fakes import city_settings

TOKEN = "tests-token"  # of a server that lives as long as the tests
ORG = "citybrain"
STARTS_S = 60.0


def influxd_path() -> Path | None:
    """Return the server's program: on the PATH, or in the cache where CI builds it."""
    found = shutil.which("influxd")
    built = Path(os.environ.get("CITYBRAIN_INFLUXD", Path.home() / ".cache/influxd-2.7.12/bin/influxd"))
    return Path(found) if found else built if built.exists() else None


class InfluxProcess:
    """The server as a child process on a folder; it can be killed and started again."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program, self._folder = program, folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        folder = self._folder
        self._process = subprocess.Popen(
            [
                str(self._program),
                *("--http-bind-address", f"127.0.0.1:{self.port}", "--reporting-disabled", "--log-level", "error"),
                *("--bolt-path", str(folder / "influxd.bolt"), "--sqlite-path", str(folder / "influxd.sqlite")),
                *("--engine-path", str(folder / "engine")),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        ends_s = time.monotonic() + STARTS_S
        while not self._answers():
            assert time.monotonic() < ends_s, f"InfluxDB did not start in {STARTS_S:.0f} s"
            assert self._process.poll() is None, f"InfluxDB ended with {self._process.returncode}"
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=2.0).status_code == 200
        except httpx.HTTPError:
            return False

    def set_up(self) -> None:
        """Make the first user, the organisation and the operator's token."""
        body = {"username": "tests", "password": "tests-password", "org": ORG, "bucket": "first", "token": TOKEN}
        assert httpx.post(f"{self.url}/api/v2/setup", json=body, timeout=30.0).status_code == 201

    def kill(self) -> None:
        """End it as a power cut does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(timeout=30)

    def ask(self, method: str, path: str, **what: object) -> dict[str, object]:
        """Call the management API as the operator."""
        answer = httpx.request(
            method,
            f"{self.url}{path}",
            headers={"Authorization": f"Token {TOKEN}"},
            timeout=30.0,
            **what,  # type: ignore[arg-type]
        )
        answer.raise_for_status()
        return dict(answer.json()) if answer.content else {}

    def token(self, rights: list[tuple[str, str]]) -> str:
        """Return a new token that may do these ``(action, bucket)``."""
        org_id = str(self.ask("GET", "/api/v2/orgs", params={"org": ORG})["orgs"][0]["id"])  # type: ignore[index]
        permissions = []
        for action, bucket in rights:
            found = self.ask("GET", "/api/v2/buckets", params={"name": bucket, "orgID": org_id})
            of = {"type": "buckets", "id": found["buckets"][0]["id"], "orgID": org_id}  # type: ignore[index]
            permissions.append({"action": action, "resource": of})
        made = self.ask(
            "POST", "/api/v2/authorizations", content=json.dumps({"orgID": org_id, "permissions": permissions})
        )
        return str(made["token"])


def started(folder: Path) -> InfluxProcess:
    """Return a new server that is set up, or skip with the reason."""
    program = influxd_path()
    if program is None:
        pytest.skip("needs influxd: none on the PATH, and none was built in ~/.cache/influxd-2.7.12")
    server = InfluxProcess(program, folder)
    server.start()
    server.set_up()
    return server


@pytest.fixture(scope="session")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxProcess]:
    """Return the session's server. Tests tell their buckets apart by `influx_city`."""
    server = started(tmp_path_factory.mktemp("influx"))
    yield server
    server.stop()


def influx_city(server: InfluxProcess, folder: Path, *, token: str = TOKEN) -> CitySettings:
    """Return a city in this folder with a bucket of its own, none of whose rows grows old."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "token").write_text(token + "\n")
    store = StoreSettings(
        kind="influxdb",
        url=server.url,
        org=ORG,
        bucket="t" + sha256(str(folder).encode()).hexdigest()[:12],
        token_file=str(folder / "token"),
    )
    return replace(city_settings(folder), store=store, retention="size")


def influx_store(server: InfluxProcess, folder: Path, network: Network) -> Store:
    """Return the open store of a city in this folder; its buckets are made at the first time."""
    city = influx_city(server, folder)
    init(city, lambda _: None)
    return open_store(city, network)
