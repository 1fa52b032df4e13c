"""A receiver of webhooks on 127.0.0.1: it answers as told and writes down what it got. Not a mock: a real server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, Mapping[str, str]]
Reply = Callable[[int], Answer]
"""Number of the request, from 0, in; status and headers out."""


def is_signed(text: str, secret: str, signatures: str) -> bool:
    """Check by hand, as a receiver in any language would; ``text`` is id, time and body with dots between."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, text.encode(), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}" in signatures.split()


@dataclass(frozen=True)
class Got:
    """One request."""

    id: str
    timestamp: int
    signatures: str
    host: str
    body: str
    status: int

    @property
    def type(self) -> str:
        return str(json.loads(self.body)["type"])

    def signed_by(self, secret: str) -> bool:
        return is_signed(f"{self.id}.{self.timestamp}.{self.body}", secret, self.signatures)


@dataclass
class Receiver:
    port: int
    got: list[Got] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def taken(self) -> list[Got]:
        return [got for got in self.got if got.status < 300]


@contextmanager
def receiving(
    reply: Reply = lambda number: (204, {}), *, port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    """Serve until the block ends; then the port refuses connections."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            with lock:
                status, headers = reply(len(receiver.got))
                receiver.got.append(
                    Got(
                        self.headers["webhook-id"],
                        int(self.headers["webhook-timestamp"]),
                        self.headers["webhook-signature"],
                        self.headers["host"],
                        body,
                        status,
                    )
                )
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    receiver = Receiver(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
