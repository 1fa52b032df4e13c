"""Webhooks against a real receiver: order, signatures, retries, endpoints that are down, gone, slow or elsewhere.

Retries move a clock by hand; nothing sleeps through a schedule.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import standardwebhooks
from prometheus_client import generate_latest
from sqlalchemy import Engine

from citybrain.clock import ManualClock, SystemClock
from citybrain.errors import ConfigError
from citybrain.messages import AlertEvent
from citybrain.metrics import Metrics
from citybrain.settings import Webhook
from infra.database.alerts import SqlAlertDesk
from infra.database.outbox import Outbox
from infra.database.payload import Sender
from infra.database.tables import open_database
from infra.webhooks import (
    LEASE_MS,
    PATIENT_MS,
    PAUSE_MS,
    TRIPS_AFTER,
    URGENT_MS,
    Dispatcher,
    ensure_secret,
    forbidden,
    resolve,
    secrets_of,
)
from tests.conftest import ROOT
from tests.fakes import alert_event, grid_network
from tests.infra.postgres import database_url, postgres
from tests.infra.receiver import Receiver, receiving

__all__ = ["database_url", "postgres"]

NETWORK = grid_network()
NOW_MS = 1_800_000_000_000
MIN = 60_000


@dataclass
class Office:
    """A database, a secret and a clock."""

    folder: Path
    url: str
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW_MS))
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.engine: Engine = open_database(self.url)
        self.outbox = Outbox(self.engine)
        self.secret_file = self.folder / "secret"
        self.secret = ensure_secret(self.secret_file)

    def endpoint(self, url: str, name: str = "unit") -> Webhook:
        return Webhook(name, url, str(self.secret_file))

    def tell(self, events: Sequence[AlertEvent], *endpoints: Webhook) -> SqlAlertDesk:
        desk = SqlAlertDesk(self.engine, NETWORK, endpoints, self.clock, Sender("Gridtown"))
        desk.apply(events)
        return desk

    @asynccontextmanager
    async def dispatching(self, *endpoints: Webhook) -> AsyncIterator[Dispatcher]:
        dispatcher = Dispatcher(self.outbox, endpoints, self.clock, self.metrics, np.random.default_rng(1))
        try:
            yield dispatcher
        finally:
            await dispatcher.close()

    def counted(self, outcome: str) -> float:
        text = generate_latest(self.metrics.registry).decode()
        lines = [line for line in text.splitlines() if f'outcome="{outcome}"' in line and "_total{" in line]
        return sum(float(line.split()[-1]) for line in lines)


@pytest.fixture
def office(tmp_path: Path, database_url: str) -> Iterator[Office]:
    office = Office(tmp_path, database_url)
    yield office
    office.engine.dispose()


def life(alert_id: str = "a1", severity: str = "major") -> list[AlertEvent]:
    opened = alert_event(NETWORK, alert_id=alert_id, severity=severity)  # type: ignore[arg-type]
    kinds = ("alert.opened", "alert.updated", "alert.resolved")
    return [
        alert_event(NETWORK, alert_id=alert_id, sequence=at + 1, type=kind, severity=opened.severity)  # type: ignore[arg-type]
        for at, kind in enumerate(kinds)
    ]


LIFE = ["alert.opened", "alert.updated", "alert.resolved"]


async def until_idle(dispatcher: Dispatcher) -> int:
    """Deliver what is due without the clock moving on; return the number of attempts."""
    attempts = 0
    while done := await dispatcher.step():
        attempts += done
    return attempts


def test_an_alert_arrives_in_order_and_signed_through_a_time_in_which_the_receiver_was_down(office: Office) -> None:
    with receiving() as before:
        endpoint = office.endpoint(before.url)
        opened, updated, resolved = life()

        async def deliver() -> list[Receiver]:
            async with office.dispatching(endpoint) as dispatcher:
                office.tell([opened], endpoint)
                await until_idle(dispatcher)
                return [before]

        asyncio.run(deliver())
    assert [got.type for got in before.got] == ["alert.opened"]

    async def down() -> None:
        async with office.dispatching(endpoint) as dispatcher:
            office.tell([updated, resolved], endpoint)
            for _ in range(10):
                await until_idle(dispatcher)
                office.clock.at_ms += MIN

    asyncio.run(down())
    assert office.counted("failed") > 3
    with receiving(port=before.port) as after:

        async def back() -> None:
            async with office.dispatching(endpoint) as dispatcher:
                for _ in range(40):
                    await until_idle(dispatcher)
                    office.clock.at_ms += MIN

        asyncio.run(back())
    assert [got.type for got in before.got + after.got] == LIFE
    assert [got.id for got in before.got + after.got] == ["a1.1", "a1.2", "a1.3"]
    assert all(got.signed_by(office.secret) for got in before.got + after.got)
    assert not before.got[0].signed_by("whsec_" + "A" * 44)
    assert office.outbox.counts() == {("unit", "delivered"): 3}


def test_a_signature_is_what_the_public_library_expects(office: Office) -> None:
    office.clock.at_ms = SystemClock().now_ms()
    with receiving() as receiver:
        endpoint = office.endpoint(receiver.url)
        office.tell(life()[:1], endpoint)

        async def deliver() -> None:
            async with office.dispatching(endpoint) as dispatcher:
                await until_idle(dispatcher)

        asyncio.run(deliver())
    (got,) = receiver.got
    headers = {"webhook-id": got.id, "webhook-timestamp": str(got.timestamp), "webhook-signature": got.signatures}
    body = standardwebhooks.Webhook(office.secret).verify(got.body, headers)
    assert body["data"]["alert_id"] == "a1"
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(office.secret).verify(got.body.replace("major", "minor"), headers)


def test_during_a_rotation_both_secrets_sign(office: Office, tmp_path: Path) -> None:
    second = ensure_secret(tmp_path / "second")
    office.secret_file.write_text(f"{office.secret}\n{second}\n")
    with receiving() as receiver:
        endpoint = office.endpoint(receiver.url)
        office.tell(life()[:1], endpoint)

        async def deliver() -> None:
            async with office.dispatching(endpoint) as dispatcher:
                await until_idle(dispatcher)

        asyncio.run(deliver())
    assert receiver.got[0].signed_by(office.secret)
    assert receiver.got[0].signed_by(second)


@pytest.mark.parametrize(("severity", "schedule"), [("critical", URGENT_MS), ("minor", PATIENT_MS)])
def test_a_message_is_tried_by_the_schedule_of_its_severity_and_then_given_up(
    office: Office, severity: str, schedule: tuple[int, ...]
) -> None:
    with receiving(lambda number: (500, {})) as receiver:
        endpoint = office.endpoint(receiver.url)
        office.tell(life(severity=severity)[:1], endpoint)

        async def deliver() -> None:
            async with office.dispatching(endpoint) as dispatcher:
                for wait_ms in schedule:
                    office.clock.at_ms += max(wait_ms - 1, 0)
                    if wait_ms:
                        assert await dispatcher.step() == 0, "too early"
                    office.clock.at_ms += int(0.2 * wait_ms) + max(PAUSE_MS) + 1
                    assert await dispatcher.step() == 1
                office.clock.at_ms += 10 * max(schedule)
                assert await dispatcher.step() == 0

        asyncio.run(deliver())
    assert len(receiver.got) == len(schedule)
    assert {got.id for got in receiver.got} == {"a1.1"}
    assert len({got.timestamp for got in receiver.got}) == len(schedule)
    assert office.outbox.counts() == {("unit", "dead"): 1}
    assert office.counted("dead") == 1


def test_the_next_message_of_an_alert_goes_when_the_one_before_it_was_given_up(office: Office) -> None:
    with receiving(lambda number: (500 if number < len(URGENT_MS) else 204, {})) as receiver:
        endpoint = office.endpoint(receiver.url)
        office.tell(life(), endpoint)

        async def deliver() -> None:
            async with office.dispatching(endpoint) as dispatcher:
                for _ in range(len(URGENT_MS) + 3):
                    await until_idle(dispatcher)
                    office.clock.at_ms += 10 * 3_600_000

        asyncio.run(deliver())
    assert [got.id for got in receiver.got] == [*["a1.1"] * len(URGENT_MS), "a1.2", "a1.3"]


def test_a_failing_alert_does_not_hold_up_another(office: Office) -> None:
    with receiving(lambda number: (500 if number % 2 == 0 else 200, {})) as receiver:
        endpoint = office.endpoint(receiver.url)
        office.tell([*life("a1"), *life("a2"), *life("a3")], endpoint)

        async def deliver() -> None:
            async with office.dispatching(endpoint) as dispatcher:
                for _ in range(60):
                    await until_idle(dispatcher)
                    office.clock.at_ms += MIN

        asyncio.run(deliver())
    for alert in ("a1", "a2", "a3"):
        taken = [got.type for got in receiver.taken() if got.id.startswith(alert)]
        assert taken == LIFE


@pytest.mark.parametrize(
    ("status", "header", "wait_ms"),
    [
        (429, "120", 120_000),
        (503, "7", 7_000),
        (503, "999999", 3_600_000),
        (502, "Fri, 15 Jan 2027 08:02:00 GMT", 120_000),
        (504, "soon", 5_000),
        (500, "120", 5_000),
    ],
)
def test_an_endpoint_that_asks_to_be_left_for_a_while_is(
    office: Office, status: int, header: str, wait_ms: int
) -> None:
    with receiving(lambda number: (status if number == 0 else 204, {"Retry-After": header})) as receiver:
        endpoint = office.endpoint(receiver.url)
        office.tell(life()[:1], endpoint)

        async def deliver() -> None:
            async with office.dispatching(endpoint) as dispatcher:
                assert await dispatcher.step() == 1
                office.clock.at_ms += wait_ms - 1
                assert await dispatcher.step() == 0
                office.clock.at_ms += 1_001
                assert await dispatcher.step() == 1

        asyncio.run(deliver())
    assert [got.status for got in receiver.got] == [status, 204]


def test_an_endpoint_that_is_gone_gets_nothing_more_until_it_is_enabled(office: Office) -> None:
    with receiving(lambda number: (410 if number == 0 else 204, {})) as receiver:
        endpoint = office.endpoint(receiver.url)
        office.tell(life(), endpoint)

        async def deliver() -> None:
            async with office.dispatching(endpoint) as dispatcher:
                await until_idle(dispatcher)
                office.clock.at_ms += 3_600_000
                await until_idle(dispatcher)
                assert len(receiver.got) == 1
                assert list(office.outbox.disabled()) == [("unit", endpoint.url)]
                office.outbox.enable("unit")
                await until_idle(dispatcher)

        asyncio.run(deliver())
    assert [got.type for got in receiver.taken()] == LIFE
    assert office.counted("gone") == 1


def test_a_redirect_is_a_failure_and_is_not_followed(office: Office) -> None:
    with receiving() as elsewhere, receiving(lambda number: (307, {"Location": elsewhere.url})) as receiver:
        endpoint = office.endpoint(receiver.url)
        office.tell(life()[:1], endpoint)

        async def deliver() -> None:
            async with office.dispatching(endpoint) as dispatcher:
                await dispatcher.step()

        asyncio.run(deliver())
    assert len(receiver.got) == 1
    assert elsewhere.got == []
    assert office.outbox.counts() == {("unit", "pending"): 1}


def test_a_name_that_leads_to_metadata_addresses_is_never_connected_to(office: Office) -> None:
    asked = []

    async def poisoned(host: str, port: int) -> Sequence[str]:
        asked.append((host, port))
        return ["127.0.0.1", "169.254.169.254"]

    with receiving() as receiver:
        endpoint = office.endpoint(f"http://metadata.example:{receiver.port}/")
        office.tell(life()[:1], endpoint)

        async def deliver() -> None:
            dispatcher = Dispatcher(
                office.outbox, [endpoint], office.clock, office.metrics, np.random.default_rng(1), resolve=poisoned
            )
            assert await dispatcher.step() == 1
            await dispatcher.close()

        asyncio.run(deliver())
    assert asked == [("metadata.example", receiver.port)]
    assert receiver.got == []
    assert office.counted("failed") == 1


def test_the_address_that_was_checked_is_connected_to_under_the_hosts_name(office: Office) -> None:
    async def found(host: str, port: int) -> Sequence[str]:
        return ["::1", "127.0.0.1"]  # nobody listens on the first

    with receiving() as receiver:
        endpoint = office.endpoint(f"http://unit.example:{receiver.port}/hook")
        office.tell(life()[:1], endpoint)

        async def deliver() -> None:
            dispatcher = Dispatcher(
                office.outbox, [endpoint], office.clock, office.metrics, np.random.default_rng(1), resolve=found
            )
            await dispatcher.step()
            await dispatcher.close()

        asyncio.run(deliver())
    assert [got.host for got in receiver.got] == [f"unit.example:{receiver.port}"]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
@pytest.mark.parametrize(("name", "taken"), [("unit.example", 1), ("other.example", 0)])
def test_a_certificate_must_be_of_the_host_not_of_its_address(office: Office, name: str, taken: int) -> None:
    key, certificate = office.folder / "key.pem", office.folder / "certificate.pem"
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subject = ["-subj", "/CN=unit", "-addext", "subjectAltName=DNS:unit.example", "-days", "2"]
    subprocess.run([*request, *subject, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    trusting = ssl.create_default_context(cafile=str(certificate))

    async def found(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    with receiving(tls=server) as receiver:
        endpoint = office.endpoint(f"https://{name}:{receiver.port}/hook")
        office.tell(life()[:1], endpoint)

        async def deliver() -> None:
            rng = np.random.default_rng(1)
            dispatcher = Dispatcher(
                office.outbox, [endpoint], office.clock, office.metrics, rng, resolve=found, tls=trusting
            )
            assert await dispatcher.step() == 1
            await dispatcher.close()

        asyncio.run(deliver())
    assert len(receiver.got) == taken


@pytest.mark.parametrize(
    ("address", "never"),
    [
        ("169.254.169.254", True),
        ("fe80::1%eth0", True),
        ("::ffff:169.254.0.1", True),
        ("0.0.0.0", True),
        ("224.0.0.1", True),
        ("100.100.100.200", True),
        ("10.1.2.3", False),
        ("192.168.1.9", False),
        ("127.0.0.1", False),
        ("::1", False),
        ("93.184.216.34", False),
    ],
)
def test_link_local_and_metadata_addresses_are_forbidden_and_private_ones_are_not(address: str, never: bool) -> None:
    assert forbidden(address) is never


def test_localhost_is_resolved() -> None:
    assert "127.0.0.1" in asyncio.run(resolve("localhost", 80))


def test_an_endpoint_that_fails_is_left_alone_and_tried_with_one_message(office: Office) -> None:
    with receiving(lambda number: (500 if number < 20 else 204, {})) as receiver:
        endpoint = office.endpoint(receiver.url)
        office.tell([event for at in range(30) for event in life(f"a{at:02}")[:1]], endpoint)

        async def deliver() -> None:
            async with office.dispatching(endpoint) as dispatcher:
                while len(receiver.got) < TRIPS_AFTER:
                    await dispatcher.step()
                made = len(receiver.got)
                assert await dispatcher.step() == 0
                office.clock.at_ms += PAUSE_MS[1]
                assert await dispatcher.step() == 1
                assert await dispatcher.step() == 0
                assert len(receiver.got) == made + 1
                while len(receiver.got) < 21:
                    office.clock.at_ms += PAUSE_MS[1]
                    await dispatcher.step()
                # It is back: everything goes at once, whatever its schedule said.
                await until_idle(dispatcher)

        asyncio.run(deliver())
    assert len({got.id for got in receiver.taken()}) == 30


def test_a_slow_endpoint_does_not_hold_up_another(office: Office) -> None:
    def slow(number: int) -> tuple[int, dict[str, str]]:
        time.sleep(0.3)
        return 204, {}

    with receiving(slow) as tardy, receiving() as prompt:
        endpoints = office.endpoint(tardy.url, "tardy"), office.endpoint(prompt.url, "prompt")
        office.tell(life(), *endpoints)

        async def deliver() -> None:
            stop = asyncio.Event()
            async with office.dispatching(*endpoints) as dispatcher:
                running = asyncio.create_task(dispatcher.run(stop))
                while len(tardy.got) < 3:
                    await asyncio.sleep(0.01)
                    if len(prompt.got) < 3:
                        assert len(tardy.got) < 3
                stop.set()
                await running

        asyncio.run(deliver())
    assert [got.type for got in prompt.got] == LIFE
    assert [got.type for got in tardy.got] == LIFE


def test_an_endpoint_without_a_readable_secret_fails_without_sending(office: Office) -> None:
    with receiving() as receiver:
        endpoint = replace(office.endpoint(receiver.url), secret_file=str(office.folder / "nowhere"))
        office.tell(life()[:1], endpoint)

        async def deliver() -> None:
            async with office.dispatching(endpoint) as dispatcher:
                assert await dispatcher.step() == 1

        asyncio.run(deliver())
    assert receiver.got == []
    assert office.outbox.counts() == {("unit", "pending"): 1}


def test_a_message_can_be_sent_again_by_hand(office: Office) -> None:
    with receiving() as receiver:
        endpoint = office.endpoint(receiver.url)
        office.tell(life()[:1], endpoint)

        async def deliver() -> None:
            async with office.dispatching(endpoint) as dispatcher:
                await until_idle(dispatcher)
                assert office.outbox.redeliver("a1.1", "unit", office.clock.now_ms())
                assert not office.outbox.redeliver("a1.9", "unit", office.clock.now_ms())
                await until_idle(dispatcher)

        asyncio.run(deliver())
    assert [got.id for got in receiver.got] == ["a1.1", "a1.1"]


def test_old_messages_are_deleted_and_pending_ones_are_not(office: Office) -> None:
    with receiving(lambda number: (204 if number == 0 else 500, {})) as receiver:
        endpoint = office.endpoint(receiver.url)
        office.tell(life()[:2], endpoint)

        async def deliver() -> None:
            async with office.dispatching(endpoint) as dispatcher:
                await until_idle(dispatcher)

        asyncio.run(deliver())
    office.outbox.retain(NOW_MS + 31 * 86_400_000)
    assert office.outbox.counts() == {("unit", "pending"): 1}


DISPATCHER_PROCESS = """
import asyncio, sys, numpy as np
from citybrain.clock import SystemClock
from citybrain.metrics import Metrics
from citybrain.settings import Webhook
from infra.database.outbox import Outbox
from infra.database.tables import open_database
from infra.webhooks import Dispatcher

url, hook, secret = sys.argv[1:]
dispatcher = Dispatcher(
    Outbox(open_database(url)), [Webhook("unit", hook, secret)], SystemClock(), Metrics(), np.random.default_rng(1)
)
asyncio.run(dispatcher.run(asyncio.Event()))
"""


def test_killing_the_dispatcher_in_mid_send_loses_nothing(office: Office) -> None:
    alerts = [f"a{at}" for at in range(6)]

    def slow(number: int) -> tuple[int, dict[str, str]]:
        time.sleep(0.05)
        return 204, {}

    with receiving(slow) as receiver:
        office.clock.at_ms = SystemClock().now_ms() - 1
        endpoint = office.endpoint(receiver.url)
        office.tell([event for alert in alerts for event in life(alert)], endpoint)
        process = subprocess.Popen(
            [sys.executable, "-c", DISPATCHER_PROCESS, office.url, receiver.url, str(office.secret_file)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        try:
            while len(receiver.got) < 5 and process.poll() is None:
                time.sleep(0.002)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert len(receiver.got) >= 5
        office.clock.at_ms = SystemClock().now_ms() + LEASE_MS

        async def deliver() -> None:
            async with office.dispatching(endpoint) as dispatcher:
                await until_idle(dispatcher)

        asyncio.run(deliver())
    assert office.outbox.counts() == {("unit", "delivered"): 18}
    for alert in alerts:
        ids = [got.id for got in receiver.got if got.id.startswith(alert)]
        assert list(dict.fromkeys(ids)) == [f"{alert}.{sequence}" for sequence in (1, 2, 3)]


def test_a_secret_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "unit"
    secret = ensure_secret(path)
    assert secret.startswith("whsec_")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ensure_secret(path) == secret
    assert ensure_secret(tmp_path / "other") != secret


@pytest.mark.parametrize("text", ["", "hush", "whsec_", "whsec_c2hvcnQ=", "whsec_ not base64"])
def test_a_file_that_holds_no_secret_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secret"
    path.write_text(text)
    with pytest.raises(ConfigError, match="whsec_"):
        secrets_of(path)
