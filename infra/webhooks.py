"""Webhooks: messages of the outbox in, signed HTTP requests out (Standard Webhooks 1.0), at least once, in order.

Addresses come from the administrator's ``city.toml``, so private ones and loopback are allowed (enforcement units sit
on private nets); link-local ones, where clouds keep their metadata, never are, and redirects are not followed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import email.utils
import ipaddress
import os
import secrets
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import certifi
import httpx
import numpy as np
import standardwebhooks
import structlog

from citybrain import __version__
from citybrain.clock import Clock, epoch_ms, utc
from citybrain.errors import ConfigError, StoreError
from citybrain.messages import Severity
from citybrain.metrics import Metrics
from citybrain.settings import Webhook
from infra.database.outbox import Delivery, Outbox

S, MIN, H = 1000, 60_000, 3_600_000
URGENT_MS = (0, 5 * S, 15 * S, 30 * S, MIN, 2 * MIN, 5 * MIN, 15 * MIN, 30 * MIN, H, 2 * H, 4 * H, 8 * H)
"""Waits before each attempt of a critical or major alert: a jam does not wait five minutes for the third one."""
PATIENT_MS = (0, 5 * S, 5 * MIN, 30 * MIN, 2 * H, 5 * H, 10 * H, 14 * H, 20 * H, 24 * H)
"""The same of a minor alert: as Standard Webhooks proposes."""
SCHEDULE_MS: Mapping[Severity, tuple[int, ...]] = {"critical": URGENT_MS, "major": URGENT_MS, "minor": PATIENT_MS}
JITTER = 0.2
TIMEOUT_S = 15.0
LEASE_MS = 30 * S
AT_ONCE = 4
"""Requests to one endpoint at a time."""
TRIPS_AFTER = 5
"""Failures in a row after which an endpoint is asked with one message at a time, and after a pause."""
PAUSE_MS = (5 * S, MIN)
RETRY_AFTER_MOST_MS = H
LARGEST_ANSWER_BYTES = 64 * 1024
POLL_S = 0.25
AWAY_POLL_S = 2.0
"""How often a database that is away is asked."""
WRITE_AGAIN_S = 1.0

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
log = structlog.get_logger()


def ensure_secret(path: Path) -> str:
    """Return the secret in a file, made with mode 0600 where there is none.

    Raises
    ------
    ConfigError
        If the file holds no ``whsec_`` secret or cannot be read or made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return secrets_of(path)[0]
    except OSError as error:
        raise ConfigError(f"{path}: no secret can be made there ({error.strerror})") from error
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")
    return secret


def secrets_of(path: Path) -> list[str]:
    """Return the secrets in a file, one a line: two during a rotation, and both sign."""
    try:
        lines = path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: no readable secret seen ({error})") from error
    if not lines or not all(_is_secret(line) for line in lines):
        raise ConfigError(f"{path}: no secret seen, 'whsec_' and 24 to 64 bytes in base64 allowed, one a line")
    return lines


def _is_secret(text: str) -> bool:
    try:
        return text.startswith("whsec_") and 24 <= len(base64.b64decode(text[6:], validate=True)) <= 64
    except binascii.Error:
        return False


def signed_headers(delivery: Delivery, signing: Sequence[str], now_ms: int) -> dict[str, str]:
    """Return the headers of one attempt: the id stays over retries, the timestamp is the attempt's."""
    # standardwebhooks 1.1 replaces the zone instead of converting it: anything but aware UTC is signed wrongly.
    moment = utc(now_ms)
    signatures = [standardwebhooks.Webhook(key).sign(delivery.message_id, moment, delivery.body) for key in signing]
    return {
        "webhook-id": delivery.message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(signatures),
        "content-type": "application/json",
        "user-agent": f"citybrain/{__version__}",
    }


async def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def trusted() -> ssl.SSLContext:
    """Return what is trusted: the machine's certificates, an agency's own among them, and certifi's."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def forbidden(address: str) -> bool:
    """Return True for addresses that no webhook may reach: link-local (metadata of clouds), multicast, unspecified.

    Examples
    --------
    >>> forbidden("169.254.169.254"), forbidden("::ffff:169.254.169.254"), forbidden("10.0.0.5"), forbidden("127.0.0.1")
    (True, True, False, False)
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return ip.is_link_local or ip.is_multicast or ip.is_unspecified or str(ip) in _METADATA


_METADATA = frozenset({"fd00:ec2::254", "100.100.100.200", "192.0.0.192"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one attempt: the HTTP status, 0 where there was none; how long the endpoint asks to be left."""

    status: int
    text: str
    retry_after_ms: int = 0

    @property
    def ok(self) -> bool:
        """True for 2xx: nothing else is success."""
        return 200 <= self.status < 300


@dataclass(slots=True)
class _Line:
    """One endpoint: what runs, and whether it is resting after failures."""

    endpoint: Webhook
    running: set[asyncio.Task[None]] = field(default_factory=set)
    failures: int = 0
    rests_until_ms: int = 0

    def room(self, now_ms: int) -> int:
        """Return how many requests may start: one to try it out after a rest."""
        if now_ms < self.rests_until_ms:
            return 0
        return (1 if self.failures >= TRIPS_AFTER else AT_ONCE) - len(self.running)


class Dispatcher:
    """Delivers the outbox. Several of them share a database: each message is leased by one of them at a time.

    Parameters
    ----------
    outbox
        Messages and what became of them.
    endpoints
        Where to; the secret file of each must be there (`ensure_secret`).
    clock
        The machine's clock.
    metrics
        Where it counts.
    rng
        Jitter of the retries.
    resolve
        Finds the addresses of a host.
    tls
        Which certificates to trust; by default those of the machine and those that come with Python's certifi.
    """

    def __init__(
        self,
        outbox: Outbox,
        endpoints: Sequence[Webhook],
        clock: Clock,
        metrics: Metrics,
        rng: np.random.Generator,
        *,
        resolve: Resolve = resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._outbox, self._clock, self._metrics, self._rng = outbox, clock, metrics, rng
        self._lines = {endpoint.name: _Line(endpoint) for endpoint in endpoints}
        self._resolve = resolve
        self._freed = asyncio.Event()
        self.state = "ok"
        """``ok``, or in plain words why nothing is delivered."""
        # No proxies or netrc from the environment: a request goes where city.toml says.
        self._client = httpx.AsyncClient(
            timeout=TIMEOUT_S, follow_redirects=False, trust_env=False, verify=tls or trusted()
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until told to stop; then wait for what is under way. While the database is away, wait for it."""
        try:
            while not stop.is_set():
                away = await self._begin_or_why_not()
                if away and self.state == "ok":
                    log.warning("outbox_unavailable", error=away, meaning="waiting for it; nothing is lost")
                elif not away and self.state != "ok":
                    log.warning("outbox_is_back")
                self.state = away or "ok"
                await self._pause(stop, AWAY_POLL_S if away else POLL_S)
        finally:
            await self.close()

    async def _pause(self, stop: asyncio.Event, seconds: float) -> None:
        """Wait so long, or until told to stop, or until a request has ended and made room for the next."""
        waiting = [asyncio.create_task(event.wait()) for event in (stop, self._freed)]
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        self._freed.clear()

    async def _begin_or_why_not(self) -> str:
        try:
            await self.begin()
        except StoreError as error:
            return str(error)
        return ""

    async def close(self) -> None:
        """Break off what is under way (it stays pending and comes again) and let go of the connections."""
        running = [task for line in self._lines.values() for task in line.running]
        if running:
            await asyncio.wait(running, timeout=2)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._client.aclose()

    async def step(self) -> int:
        """Deliver what is due now, wait for it, and return how many attempts were made."""
        started = await self.begin()
        await asyncio.gather(*started)
        return len(started)

    async def begin(self) -> list[asyncio.Task[None]]:
        """Start what is due now and has room."""
        now_ms = self._clock.now_ms()
        due = await asyncio.to_thread(self._outbox.anything_due, now_ms)
        if not due:
            return []
        disabled = await asyncio.to_thread(self._outbox.disabled)
        started = []
        for name in sorted(due & self._lines.keys()):
            line = self._lines[name]
            room = line.room(now_ms)
            if room <= 0 or (name, line.endpoint.url) in disabled:
                continue
            for delivery in await asyncio.to_thread(self._outbox.lease, name, now_ms, limit=room, lease_ms=LEASE_MS):
                task = asyncio.create_task(self._deliver(line, delivery))
                line.running.add(task)
                task.add_done_callback(line.running.discard)
                task.add_done_callback(lambda _: self._freed.set())
                started.append(task)
        return started

    async def _deliver(self, line: _Line, delivery: Delivery) -> None:
        if self._clock.now_ms() + TIMEOUT_S * S > delivery.leased_until_ms:
            # This process stood still meanwhile: somebody else may be sending it.
            log.warning("webhook_lease_lost", endpoint=line.endpoint.name, message=delivery.message_id)
            return
        answer = await self._attempt(line.endpoint, delivery)
        outcome, write = self._judge(line, delivery, answer)
        if await self._written(delivery, write):
            self._metrics.count("citybrain_webhook_attempts_total", line.endpoint.name, outcome)
        if not answer.ok:
            log.warning("webhook_failed", endpoint=line.endpoint.name, message=delivery.message_id, why=answer.text)

    async def _written(self, delivery: Delivery, write: Callable[[], None]) -> bool:
        """Write down what became of an attempt; a database that is away is asked again while the lease lasts.

        After that the message comes again, under the same id.
        """
        while True:
            try:
                await asyncio.to_thread(write)
            except StoreError as error:
                if self._clock.now_ms() + WRITE_AGAIN_S * S >= delivery.leased_until_ms:
                    log.warning("webhook_outcome_not_stored", message=delivery.message_id, error=str(error))
                    return False
                await asyncio.sleep(WRITE_AGAIN_S)
            else:
                return True

    async def _attempt(self, endpoint: Webhook, delivery: Delivery) -> Answer:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                signing = secrets_of(Path(endpoint.secret_file))
                return await self._send(endpoint, delivery, signing)
        except TimeoutError:
            return Answer(0, f"no answer within {TIMEOUT_S:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ConfigError, ValueError) as error:
            return Answer(0, f"{type(error).__name__}: {error}"[:300])

    async def _send(self, endpoint: Webhook, delivery: Delivery, signing: Sequence[str]) -> Answer:
        url = httpx.URL(endpoint.url)
        port = url.port or (443 if url.scheme == "https" else 80)
        addresses = await self._resolve(url.host, port)
        refused = [address for address in addresses if forbidden(address)]
        if refused or not addresses:
            return Answer(0, f"{url.host} is {refused or 'nowhere'}: link-local and metadata addresses are not allowed")
        for address in addresses[:-1]:
            try:
                return await self._post(url, address, delivery, signing)
            except httpx.ConnectError:
                continue  # such as ::1 of a name that listens on 127.0.0.1 only
        return await self._post(url, addresses[-1], delivery, signing)

    async def _post(self, url: httpx.URL, address: str, delivery: Delivery, signing: Sequence[str]) -> Answer:
        # The address that was checked is the one connected to; name and certificate stay the host's.
        request = self._client.build_request(
            "POST",
            url.copy_with(host=address),
            content=delivery.body.encode(),
            headers={**signed_headers(delivery, signing, self._clock.now_ms()), "host": url.netloc.decode()},
            extensions={"sni_hostname": url.host},
        )
        response = await self._client.send(request, stream=True)
        try:
            await _drain(response)
        finally:
            await response.aclose()
        return Answer(response.status_code, f"HTTP {response.status_code}", self._retry_after_ms(response))

    def _retry_after_ms(self, response: httpx.Response) -> int:
        if response.status_code not in {429, 502, 503, 504}:
            return 0
        text = response.headers.get("retry-after", "")
        try:
            asked = email.utils.parsedate_to_datetime
            wait_ms = int(text) * S if text.isdigit() else epoch_ms(asked(text)) - self._clock.now_ms()
        except ValueError:
            return 0
        return min(max(wait_ms, 0), RETRY_AFTER_MOST_MS)

    def _judge(self, line: _Line, delivery: Delivery, answer: Answer) -> tuple[str, Callable[[], None]]:
        """Return what became of an attempt, by its name in the metrics, and how that is written down."""
        now_ms, name, outbox = self._clock.now_ms(), line.endpoint.name, self._outbox
        if answer.ok:
            was_down, line.failures, line.rests_until_ms = line.failures >= TRIPS_AFTER, 0, 0
            return "delivered", lambda: self._delivered(delivery, now_ms, answer.text, hurry=was_down)
        if answer.status == 410:
            log.error("webhook_disabled", endpoint=name, url=line.endpoint.url)
            return "gone", lambda: self._gone(line.endpoint, delivery, now_ms, answer.text)
        line.failures += 1
        if line.failures >= TRIPS_AFTER:
            line.rests_until_ms = now_ms + min(PAUSE_MS[0] * 2 ** (line.failures - TRIPS_AFTER), PAUSE_MS[1])
        schedule = SCHEDULE_MS[delivery.severity]
        if delivery.attempts >= len(schedule):
            log.error("webhook_given_up", endpoint=name, message=delivery.message_id, attempts=delivery.attempts)
            return "dead", lambda: outbox.dead(delivery, now_ms, answer.text)
        wait_ms = schedule[delivery.attempts] * (1 + JITTER * self._rng.random())
        next_ms = now_ms + max(int(wait_ms), answer.retry_after_ms)
        return "failed", lambda: outbox.failed(delivery, next_ms, answer.text)

    def _delivered(self, delivery: Delivery, now_ms: int, text: str, *, hurry: bool) -> None:
        self._outbox.delivered(delivery, now_ms, text)
        if hurry:
            self._outbox.hurry(delivery.endpoint, now_ms)

    def _gone(self, endpoint: Webhook, delivery: Delivery, now_ms: int, text: str) -> None:
        self._outbox.disable(endpoint.name, endpoint.url, now_ms, "HTTP 410: the endpoint says that it is gone")
        self._outbox.failed(delivery, now_ms, text, counted=False)


async def _drain(response: httpx.Response) -> None:
    """Read the answer as far as it is reasonable, so that the connection can be used again."""
    size = 0
    async for part in response.aiter_raw():
        size += len(part)
        if size > LARGEST_ANSWER_BYTES:
            return
