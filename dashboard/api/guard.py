"""The door: requests by another host name or from another site are refused, and answers carry security headers.

Pure ASGI. There is no access control yet, hence only names of this machine are served, and the one of ``public_url``,
under which a proxy on this machine answers: a page elsewhere whose name is made to point here (DNS rebinding) sends its
own name, and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.api.problems import problem_response

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
SAME_SITE = frozenset({"same-origin", "none"})
POLICY_VIOLATION = 1008
"""Close code of a WebSocket that may not be opened."""
HEADERS = {
    "x-content-type-options": "nosniff",
    # Not no-referrer: a form of our own would then send "Origin: null" and be refused.
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def names_of(public_url: str) -> frozenset[str]:
    """Return the host names that are served: this machine's, and that of ``public_url`` where there is one.

    Examples
    --------
    >>> sorted(names_of("https://Traffic.example.org:8443") - LOOPBACK_NAMES)
    ['traffic.example.org']
    """
    return LOOPBACK_NAMES | ({_name(urlsplit(public_url).netloc)} if public_url else set())


class Guard:
    """Refuses what comes from elsewhere.

    Parameters
    ----------
    app
        What stands behind the door.
    page_policy
        Gives the Content-Security-Policy of HTML pages.
    names
        Host names that are served.
    """

    def __init__(self, app: ASGIApp, page_policy: Callable[[], str], names: Collection[str] = LOOPBACK_NAMES) -> None:
        self._app, self._page_policy, self._names = app, page_policy, frozenset(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, self._with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": refusal[1][:120]})
        else:
            await problem_response(*refusal)(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if _name(host) not in self._names:
            return 421, f"Host {host!r} seen, {', '.join(sorted(self._names))} allowed"
        changes = scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS
        if not changes:
            return None
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return 403, f"Origin {origin!r} seen, only pages of this server may change anything"
        site = headers.get("sec-fetch-site")
        if site is not None and site not in SAME_SITE:
            return 403, f"Sec-Fetch-Site {site!r} seen, only pages of this server may change anything"
        return None

    def _with_headers(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if headers.get("content-type", "").startswith("text/html"):
                    headers["content-security-policy"] = self._page_policy()
            await send(message)

        return sending


def _name(host: str) -> str:
    """Return the name of a Host header, without port and brackets; empty where it is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
