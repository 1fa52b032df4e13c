"""Making and checking the buckets of a city on InfluxDB: settings in, sentences out.

What is wrong with the settings (server of another version, unknown organisation, a token without rights) is a
`ConfigError`; a server that is away is a `StoreError`, since it may come back.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from citybrain.errors import ConfigError, StoreError
from citybrain.settings import CitySettings, StoreSettings
from infra.stores.influxread import Buckets
from infra.stores.influxserver import InfluxServer

VERSION = "2"
FOREVER = timedelta(0)


def token_of(settings: StoreSettings) -> str:
    """Return the token.

    Raises
    ------
    ConfigError
        If the file cannot be read or is empty.
    """
    try:
        token = Path(settings.token_file).read_text().strip()
    except OSError as error:
        raise ConfigError(f"[store] token_file: {settings.token_file} cannot be read ({error.strerror})") from error
    if not token or not token.isprintable():
        raise ConfigError(f"[store] token_file: {settings.token_file} holds no token, one line of text allowed")
    return token


def expires(city: CitySettings) -> bool:
    """Return whether the server may let go of rows by its own clock: only where the feeds' clock is the machine's."""
    return city.retention == "time"


def retentions(city: CitySettings) -> dict[str, timedelta]:
    """Return how long each bucket keeps its rows; `FOREVER` has no limit."""
    buckets, store = Buckets(city.store.bucket), city.store
    limited = expires(city)
    return {
        buckets.states: store.keep if limited else FOREVER,
        buckets.rollups: store.keep_rollups if limited else FOREVER,
        buckets.runs: FOREVER,
    }


def init(city: CitySettings, tell: Callable[[str], None]) -> None:
    """Make organisation, buckets and their mappings for InfluxQL where they are missing, then `check`.

    Raises
    ------
    ConfigError
        If something cannot be made with this token, or is wrong after all.
    StoreError
        If the server does not answer.
    """
    server = _server(city)
    try:
        _require_version(server)
        _require_user(server)
        for name, keep in retentions(city).items():
            _make_bucket(server, name, keep, tell)
    finally:
        server.close()
    check(city)


def check(city: CitySettings) -> None:
    """Make sure that the server, the buckets and the token's rights are as they must be; changes nothing.

    Raises
    ------
    ConfigError
        If not; one sentence.
    StoreError
        If the server does not answer.
    """
    server = _server(city)
    try:
        _require_version(server)
        for bucket in retentions(city):
            _require_write(server, bucket)
            _require_read(server, bucket)
    finally:
        server.close()


def _server(city: CitySettings) -> InfluxServer:
    store = city.store
    return InfluxServer(store.url, store.org, token_of(store), timeout_s=10.0)


def _require_version(server: InfluxServer) -> None:
    status, found = server.ask("GET", "/health")
    version = str(found.get("version", "")).lstrip("v")
    if found.get("name") != "influxdb" or version.split(".")[0] != VERSION:
        seen = f"InfluxDB {version}" if version else f"an answer {status} that is not InfluxDB 2's"
        raise ConfigError(f"[store] url: {server.url}: {seen} seen, InfluxDB 2.7 allowed")


def _require_user(server: InfluxServer) -> None:
    _, setup = server.ask("GET", "/api/v2/setup")
    if setup.get("allowed"):
        raise ConfigError(
            f"InfluxDB at {server.url} has no user yet: `influx setup` makes one, with its organisation and token"
        )


def _organisation(server: InfluxServer, tell: Callable[[str], None]) -> str:
    status, found = server.ask("GET", "/api/v2/orgs", params={"org": server.org})
    if status == 401:
        raise ConfigError(_unknown_token(server))
    if status == 200 and found.get("orgs"):
        return str(found["orgs"][0]["id"])
    made, answer = server.ask("POST", "/api/v2/orgs", json={"name": server.org})
    if made != 201:
        raise ConfigError(
            f"[store] org: {server.org!r} is unknown to InfluxDB at {server.url}, and the token may not make it"
            f" ({_said(answer)}): use an operator's token for `citybrain store init`"
        )
    tell(f"organisation {server.org} made")
    return str(answer["id"])


def _make_bucket(server: InfluxServer, name: str, keep: timedelta, tell: Callable[[str], None]) -> None:
    rules = [{"type": "expire", "everySeconds": round(keep.total_seconds())}] if keep else []
    kept = f"keeps {keep.days} days" if keep else "keeps all"
    status, found = server.ask("GET", "/api/v2/buckets", params={"name": name, "org": server.org})
    if status == 401:
        raise ConfigError(_unknown_token(server))
    if status == 200 and found.get("buckets"):
        bucket = found["buckets"][0]
        if _seconds(bucket) == round(keep.total_seconds()):
            tell(f"bucket {name} is there, {kept}")
        else:
            status, answer = server.ask("PATCH", f"/api/v2/buckets/{bucket['id']}", json={"retentionRules": rules})
            _require_made(status == 200, f"change how long bucket {name!r} keeps", server, answer)
            tell(f"bucket {name} changed: {kept}")
    else:
        body = {
            "orgID": _organisation(server, tell),
            "name": name,
            "retentionRules": rules,
            "description": "City Brain",
        }
        status, bucket = server.ask("POST", "/api/v2/buckets", json=body)
        _require_made(status == 201, f"make bucket {name!r}", server, bucket)
        tell(f"bucket {name} made, {kept}")
    _map(server, bucket["orgID"], bucket["id"], name)


def _map(server: InfluxServer, org_id: str, bucket_id: str, name: str) -> None:
    """InfluxQL speaks of databases; 2.7 maps a bucket's name to it by itself, unless another mapping has the name."""
    status, found = server.ask("GET", "/api/v2/dbrps", params={"orgID": org_id, "db": name})
    mapped = [each for each in found.get("content", []) if each.get("default")]
    if status != 200 or any(each["bucketID"] == bucket_id for each in mapped):
        return
    if mapped:
        raise ConfigError(
            f"InfluxDB at {server.url}: database {name!r} is mapped to bucket {mapped[0]['bucketID']},"
            f" {bucket_id} is needed: `influx v1 dbrp delete` lets go of it"
        )
    body = {"orgID": org_id, "bucketID": bucket_id, "database": name, "retention_policy": "autogen", "default": True}
    status, answer = server.ask("POST", "/api/v2/dbrps", json=body)
    _require_made(status == 201, f"map database {name!r}", server, answer)


def _seconds(bucket: dict[str, Any]) -> int:
    return sum(int(rule.get("everySeconds", 0)) for rule in bucket.get("retentionRules", []))


def _require_made(made: bool, what: str, server: InfluxServer, answer: dict[str, Any]) -> None:
    if not made:
        raise ConfigError(f"InfluxDB at {server.url}: the token may not {what} ({_said(answer)})")


def _require_write(server: InfluxServer, bucket: str) -> None:
    """An empty write is judged like any other, and writes nothing."""
    params = {"org": server.org, "bucket": bucket, "precision": "ms"}
    status, answer = server.ask("POST", "/api/v2/write", params=params, content=b"")
    if status == 401:
        raise ConfigError(_unknown_token(server))
    if status == 403:
        raise ConfigError(f"InfluxDB at {server.url}: the token may not write bucket {bucket!r}, write and read needed")
    if status == 404:
        raise ConfigError(f"InfluxDB at {server.url}: {_said(answer)}: `citybrain store init` makes what is missing")
    if status >= 500 or status == 429:
        raise StoreError(f"InfluxDB at {server.url} answers {status}: {_said(answer)}")


def _require_read(server: InfluxServer, bucket: str) -> None:
    status, answer = server.ask("POST", "/query", data={"db": bucket, "q": 'SELECT * FROM "about" LIMIT 1'})
    # A bucket that the token may not read is answered as one that is not there, with status 200.
    failed = str(answer.get("error") or next((r["error"] for r in answer.get("results", []) if "error" in r), ""))
    if status in {401, 403} or "not found" in failed:
        raise ConfigError(
            f"InfluxDB at {server.url}: the token may not read bucket {bucket!r}; one of organisation {server.org!r}"
            " with the rights to write and read is needed"
        )
    if status != 200 or failed:
        raise StoreError(f"InfluxDB at {server.url} answers {status}: {failed}")


def _unknown_token(server: InfluxServer) -> str:
    return f"InfluxDB at {server.url} does not know the token of [store] token_file (401)"


def _said(answer: dict[str, Any]) -> str:
    return str(answer.get("message") or answer.get("error") or "no reason given")
