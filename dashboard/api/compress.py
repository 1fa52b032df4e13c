"""Answers compressed with gzip: text and geometry are sent small, files that never change are compressed once.

Pure ASGI: a middleware that wraps requests in tasks sits badly with sockets that stay open.
"""

from __future__ import annotations

import asyncio
import gzip

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LEAST_BYTES = 1000
LEVEL = 6
IN_A_THREAD = 100_000
"""Longer answers are compressed beside the event loop."""
KEPT_BYTES = 32_000_000
FILES = ("/_dash-component-suites/", "/assets/")
"""Addresses whose answers are kept compressed, by their entity tag."""
COMPRESSIBLE = (
    "text/",
    "application/json",
    "application/javascript",
    "application/geo+json",
    "application/problem+json",
)


class Compress:
    """Compresses answers for those who accept gzip; an answer that is encoded already passes through."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._kept: dict[tuple[str, str], bytes] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; what comes back goes out compressed where that helps."""
        if scope["type"] != "http" or "gzip" not in Headers(scope=scope).get("accept-encoding", ""):
            await self._app(scope, receive, send)
            return
        await self._app(scope, receive, _Answer(self, scope["path"], send))

    async def smaller(self, path: str, tag: str, body: bytes) -> bytes:
        """Return the body compressed, from memory where it was before."""
        key = (path, tag)
        if key in self._kept:
            return self._kept[key]
        slow = len(body) > IN_A_THREAD
        small = await asyncio.to_thread(_gzip, body) if slow else _gzip(body)
        if tag and path.startswith(FILES) and sum(map(len, self._kept.values())) + len(small) < KEPT_BYTES:
            self._kept[key] = small
        return small


class _Answer:
    """One answer: held until it is whole, then sent."""

    def __init__(self, compress: Compress, path: str, send: Send) -> None:
        self._compress, self._path, self._send = compress, path, send
        self._start: Message | None = None
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if _suits(message):
                self._start = message
                return
        elif self._start is not None and message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._finish(self._start)
            return
        await self._send(message)

    async def _finish(self, start: Message) -> None:
        headers = MutableHeaders(scope=start)
        body = bytes(self._body)
        headers.add_vary_header("Accept-Encoding")
        if len(body) >= LEAST_BYTES:
            tag = headers.get("etag", "")
            body = await self._compress.smaller(self._path, tag, body)
            headers["content-encoding"] = "gzip"
            headers["content-length"] = str(len(body))
            if tag and not tag.startswith("W/"):
                headers["etag"] = f"W/{tag}"
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})


def _suits(start: Message) -> bool:
    headers = Headers(raw=start["headers"])
    kind = headers.get("content-type", "")
    # An endless stream must not be held back until it is whole.
    endless = kind.startswith("text/event-stream")
    plain = "content-encoding" not in headers and "content-range" not in headers
    return plain and not endless and start["status"] != 304 and kind.startswith(COMPRESSIBLE)


def _gzip(body: bytes) -> bytes:
    return gzip.compress(body, LEVEL, mtime=0)
