"""The receiver of webhooks: every request as it came, with the endpoint; it fails now and then, and can be a trap."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.infra.receiver import is_signed

FAILS_EVERY = 23
"""One request in so many is answered by 503; never the repeat of one."""


@dataclass(frozen=True, slots=True)
class Got:
    """One request and how it was answered."""

    endpoint: str
    id: str
    timestamp: str
    signatures: str
    body: str
    status: int

    @property
    def alert(self) -> str:
        return str(json.loads(self.body)["data"]["alert_id"])

    @property
    def sequence(self) -> int:
        return int(json.loads(self.body)["data"]["sequence"])

    @property
    def type(self) -> str:
        return str(json.loads(self.body)["type"])

    def signed_by(self, secret: str) -> bool:
        return is_signed(f"{self.id}.{self.timestamp}.{self.body}", secret, self.signatures)


class _Server(ThreadingHTTPServer):
    """A server whose clients may be killed."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that is gone in the middle of a request."""


class Receiver:
    """A server on 127.0.0.1 until the block ends."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self._trap: Callable[[], None] | None = None
        self._failed: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                wanted = int(self.headers["content-length"])
                read = self.rfile.read(wanted)
                if len(read) < wanted:
                    self.close_connection = True
                    return  # the sender died in the middle of it: nothing was received
                body = read.decode()
                endpoint = self.path.rsplit("/", 1)[-1]
                status = receiver.take(endpoint, self.headers, body)
                try:
                    self.send_response(status)
                    self.send_header("content-length", "0")
                    self.end_headers()
                except OSError:
                    return  # the sender is dead

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
                """Keep quiet."""

        self._server = _Server(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def take(self, endpoint: str, headers: Any, body: str) -> int:
        """Write down one request and return the status to answer with."""
        with self._lock:
            key = endpoint, str(headers["webhook-id"])
            status = 204
            if len(self.got) % FAILS_EVERY == FAILS_EVERY - 1 and key not in self._failed:
                self._failed.add(key)
                status = 503
            stamp, signatures = str(headers["webhook-timestamp"]), str(headers["webhook-signature"])
            self.got.append(Got(*key, stamp, signatures, body, status))
            trap, self._trap = self._trap, None
        if trap is not None:
            trap()
        return status

    def set_trap(self, trap: Callable[[], None]) -> None:
        """Do this at the next request, after it was taken and before it is answered."""
        with self._lock:
            self._trap = trap

    def spring(self) -> bool:
        """Take an unused trap away and return whether there was one."""
        with self._lock:
            unused, self._trap = self._trap is not None, None
            return unused

    def taken(self) -> list[Got]:
        """Return what was answered by 2xx."""
        with self._lock:
            return [got for got in self.got if got.status < 300]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
