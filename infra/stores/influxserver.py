"""One InfluxDB 2 server: lines and InfluxQL in, tables of columns out, errors as plain sentences.

It knows no measurements of ours (`infra.stores.influxschema`). Writes go through influxdb-client, synchronously: its
batching mode drops points in an outage. Nothing is tried again here; the store stage does that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

import httpx
import msgspec
import urllib3
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException

from citybrain.clock import SystemClock
from citybrain.errors import StoreBusy, StoreError, StoreRefused

LINES_A_WRITE = 5000
BUSY = (429, 503)
BUSY_S = 1.0
"""Wait where the server says that it is busy, but not for how long."""
EXCERPT = 200


class _Series(msgspec.Struct):
    columns: list[str]
    tags: dict[str, str] = {}
    values: list[list[Any]] = []


class _Result(msgspec.Struct):
    series: list[_Series] = []
    error: str = ""


class _Answer(msgspec.Struct):
    results: list[_Result] = []
    error: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of an answer as columns; ``time`` is ms UTC, missing is None. Without rows there are no columns."""

    columns: dict[str, list[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.columns.get("time", ()))


class InfluxServer:
    """A server, an organisation and a token. Thread-safe.

    Parameters
    ----------
    url, org
        Where it is; whose buckets are meant.
    token
        What it lets us do.
    timeout_s
        An answer that takes longer is an error.
    """

    def __init__(self, url: str, org: str, token: str, *, timeout_s: float = 30.0) -> None:
        self.url, self.org = url.rstrip("/"), org
        self._client = InfluxDBClient(self.url, token, org=org, enable_gzip=True, timeout=round(timeout_s * 1000))
        self._writing = self._client.write_api(write_options=SYNCHRONOUS)
        self._http = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Token {token}"}, timeout=timeout_s, trust_env=False
        )

    def write(self, bucket: str, lines: Sequence[str]) -> None:
        """Write lines (times in ms), `LINES_A_WRITE` a request; each request is on the disk when it returns.

        Raises
        ------
        StoreRefused
            A line cannot be stored: it does not parse, a field has another type, or it is older than the retention.
            The other lines of a request are stored or not.
        StoreError
            The server cannot be reached or does not let us for now; `StoreBusy` says for how long.
        """
        for first in range(0, len(lines), LINES_A_WRITE):
            self._write(bucket, lines[first : first + LINES_A_WRITE])

    def _write(self, bucket: str, lines: Sequence[str]) -> None:
        try:
            self._send(bucket, lines)
        except _Unreadable as error:
            bad = self._unreadable_line(bucket, lines)
            raise StoreRefused(f"InfluxDB cannot read {bad[:EXCERPT]!r}: {error}") from error

    def _unreadable_line(self, bucket: str, lines: Sequence[str]) -> str:
        """Halve lines of which one does not parse until it is found; the server refuses them all for it."""
        while len(lines) > 1:
            half = lines[: len(lines) // 2]
            try:
                self._send(bucket, half)
                lines = lines[len(half) :]
            except _Unreadable:
                lines = half
        return lines[0]

    def _send(self, bucket: str, lines: Sequence[str]) -> None:
        try:
            self._writing.write(bucket, record="\n".join(lines), write_precision=WritePrecision.MS)  # type: ignore[arg-type]
        except ApiException as error:
            headers = dict(error.headers or {})
            self._raise(int(error.status or 0), _message(error.body or error.reason), headers, bucket, "write")
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise StoreError(f"InfluxDB at {self.url} does not answer a write: {_short(error)}") from error

    def query(self, bucket: str, influxql: str) -> Table:
        """Return the rows of one InfluxQL statement; tags that it groups by are columns.

        Raises
        ------
        StoreError
            The server cannot be reached, or answers with an error.
        """
        text = self._ask("POST", "/query", bucket, data={"db": bucket, "epoch": "ms", "q": influxql}).content
        try:
            answer = msgspec.json.decode(text, type=_Answer)
        except msgspec.DecodeError as error:
            raise StoreError(f"InfluxDB at {self.url} answers what is no answer: {text[:EXCERPT]!r}") from error
        failed = answer.error or next((result.error for result in answer.results if result.error), "")
        if "database not found" in failed:
            raise StoreError(
                f"InfluxDB at {self.url}: bucket {bucket!r} is not there, or the token may not read it"
                " (`citybrain store init` says which)"
            )
        if failed:  # an error comes with status 200, too
            raise StoreError(f"InfluxDB at {self.url}: {failed}")
        return _table([series for result in answer.results for series in result.series])

    def delete(self, bucket: str, predicate: str, *, from_ms: int = 0, to_ms: int | None = None) -> None:
        """Delete points whose tags fit, in [from, to)."""
        bounds = {"start": _rfc3339(from_ms), "stop": _rfc3339(to_ms)}
        self._ask(
            "POST",
            "/api/v2/delete",
            bucket,
            params={"org": self.org, "bucket": bucket},
            json={**bounds, "predicate": predicate},
        )

    def ask(self, method: str, path: str, **what: Any) -> tuple[int, dict[str, Any]]:
        """Return status and answer of a call to the management API; errors of the server are for the caller to judge.

        Raises
        ------
        StoreError
            The server cannot be reached.
        """
        try:
            answer = self._http.request(method, path, **what)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise StoreError(f"InfluxDB at {self.url} does not answer: {_short(error)}") from error
        try:
            found = answer.json()
        except ValueError:
            found = {}
        return answer.status_code, found if isinstance(found, dict) else {}

    def _ask(self, method: str, path: str, bucket: str, **what: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **what)
        except httpx.HTTPError as error:
            raise StoreError(f"InfluxDB at {self.url} does not answer: {_short(error)}") from error
        if answer.is_error:
            verb = "delete in" if "delete" in path else "read"
            self._raise(answer.status_code, _message(answer.text), dict(answer.headers), bucket, verb)
        return answer

    def _raise(self, status: int, message: str, headers: dict[str, str], bucket: str, verb: str) -> NoReturn:
        where = f"InfluxDB at {self.url}"
        if status in BUSY:
            after_s = _retry_after_s(headers)
            raise StoreBusy(f"{where} is busy ({status}): {message}; again in {after_s:.0f} s", after_s)
        if status == 401:
            raise StoreError(f"{where} does not know the token (401): see token_file in [store]")
        if status == 403:
            raise StoreError(f"{where}: the token may not {verb} bucket {bucket!r} (403)")
        if status == 404:
            raise StoreError(f"{where}: {message} (404): `citybrain store init` makes what is missing")
        if status == 400 and verb == "write":
            raise _Unreadable(message)
        if status == 422 and verb == "write":
            raise StoreRefused(f"{where} refuses rows for bucket {bucket!r}: {message}")
        raise StoreError(f"{where} answers {status}: {message}")

    def close(self) -> None:
        """Let go of the connections."""
        self._writing.close()  # type: ignore[no-untyped-call]
        self._client.close()  # type: ignore[no-untyped-call]
        self._http.close()


class _Unreadable(Exception):
    """A line does not parse: the whole request is refused."""


def _table(series: Sequence[_Series]) -> Table:
    if not series:
        return Table()
    names = [*series[0].columns, *series[0].tags]
    rows = (
        [row + list(one.tags.values()) for one in series for row in one.values] if series[0].tags else series[0].values
    )
    return Table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


def _message(text: object) -> str:
    try:
        said = json.loads(str(text))
        return str(said.get("message") or said.get("error"))
    except (ValueError, AttributeError):
        return str(text)[:EXCERPT]


def _short(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:EXCERPT] or type(error).__name__


def _retry_after_s(headers: dict[str, str]) -> float:
    told = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    try:
        return max(0.0, float(told))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(told).timestamp() - SystemClock().now_ms() / 1000)
    except ValueError:
        return BUSY_S


def _rfc3339(at_ms: int | None) -> str:
    if at_ms is None:
        return "2262-01-01T00:00:00Z"
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).isoformat()
