"""What only PostgreSQL can do: be elsewhere, away, stopped, hung, shared by processes, closed to a wrong password."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from citybrain.clock import SystemClock
from citybrain.errors import ConfigError, StoreError, StoreRefused
from citybrain.messages import AlertEvent, encode_json
from citybrain.metrics import Metrics
from citybrain.settings import Webhook
from citybrain.wire import Message
from dashboard.app import make_app
from infra.database import connect
from infra.database.alerts import SqlAlertDesk
from infra.database.outbox import Outbox
from infra.database.payload import Sender
from infra.database.tables import open_database
from infra.webhooks import Dispatcher, ensure_secret
from streams.outbox import OutboxStage
from tests.conftest import ROOT
from tests.dashboard.conftest import World, world
from tests.dashboard.server import served
from tests.fakes import alert_event, grid_network
from tests.infra.postgres import PASSWORD, PostgresServer, free_port, postgres
from tests.infra.receiver import Receiver, receiving

__all__ = ["postgres", "world"]

pytestmark = pytest.mark.xdist_group("postgres")

NETWORK = grid_network()
SHORT = {"LEASE_MS": 4_000, "TIMEOUT_S": 2.0, "AWAY_POLL_S": 0.1}
"""Leases of the tests' dispatchers, so that nobody waits half a minute for one that died."""

DISPATCHER = """
import asyncio, sys, numpy as np
import infra.webhooks as webhooks
from citybrain.clock import SystemClock
from citybrain.metrics import Metrics
from citybrain.settings import Webhook
from infra.database.outbox import Outbox
from infra.database.tables import open_database

url, hook, secret = sys.argv[1:4]
for pair in sys.argv[4:]:
    name, value = pair.split("=")
    setattr(webhooks, name, float(value) if "." in value else int(value))
dispatcher = webhooks.Dispatcher(
    Outbox(open_database(url)), [Webhook("unit", hook, secret)], SystemClock(), Metrics(), np.random.default_rng(1)
)
print("ready", flush=True)
asyncio.run(dispatcher.run(asyncio.Event()))
"""


def life(alert_id: str) -> list[AlertEvent]:
    kinds = ("alert.opened", "alert.updated", "alert.resolved")
    return [alert_event(NETWORK, alert_id=alert_id, sequence=at + 1, type=kind) for at, kind in enumerate(kinds)]  # type: ignore[arg-type]


def desk_on(url: str, *endpoints: Webhook) -> SqlAlertDesk:
    return SqlAlertDesk(open_database(url), NETWORK, endpoints, SystemClock(), Sender("Gridtown"))


@contextmanager
def dispatchers(
    count: int, url: str, hook: str, secret: Path, *, short: bool = True
) -> Iterator[list[subprocess.Popen[str]]]:
    said = [f"{name}={value}" for name, value in SHORT.items() if short]
    command = [sys.executable, "-c", DISPATCHER, url, hook, str(secret), *said]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = [subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def until(condition: object, timeout_s: float = 40.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"not so after {timeout_s} s"
        time.sleep(0.02)


def ids_in_order(receiver: Receiver, alert: str) -> list[str]:
    """Return the messages of an alert as a receiver that knows repeats by their id sees them."""
    return list(dict.fromkeys(got.id for got in receiver.got if got.id.startswith(f"{alert}.")))


def whole(alert: str) -> list[str]:
    return [f"{alert}.{sequence}" for sequence in (1, 2, 3)]


# Who may in.


def test_the_password_comes_from_its_file_and_is_read_again_for_each_connection(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    secret = tmp_path / "password"
    secret.write_text(f"{PASSWORD}\n")
    engine = open_database(postgres.new_database(password=None), str(secret))
    assert PASSWORD not in repr(engine)
    secret.write_text("changed meanwhile\n")
    engine.dispose()
    with pytest.raises(StoreError, match="password authentication failed"):
        Outbox(engine).counts()
    secret.write_text(PASSWORD)
    assert Outbox(engine).counts() == {}
    engine.dispose()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"password": "wrong-5"}, "password authentication failed"),
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
        ({"port": free_port()}, "refused"),
        ({"host": "nowhere.invalid"}, "no database seen"),
    ],
)
def test_a_database_that_does_not_let_us_in_is_one_sentence_without_the_password(
    postgres: PostgresServer, change: dict[str, object], told: str
) -> None:
    url = make_url(postgres.url("postgres")).set(**change)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=told) as caught:
        open_database(url.render_as_string(hide_password=False))
    said = str(caught.value)
    assert "\n" not in said
    assert PASSWORD not in said
    assert "wrong-5" not in said


@pytest.mark.parametrize(("content", "told"), [(None, "cannot be read"), ("", "0 lines"), ("a\nb\n", "2 lines")])
def test_a_password_file_without_a_password_is_told(tmp_path: Path, content: str | None, told: str) -> None:
    secret = tmp_path / "password"
    if content is not None:
        secret.write_text(content)
    with pytest.raises(ConfigError, match=told):
        open_database("postgresql://city@127.0.0.1:1/base", str(secret))
    with pytest.raises(ConfigError, match="a password seen beside"):
        open_database("postgresql://city:hush@127.0.0.1:1/base", str(secret))


def test_a_user_who_may_make_no_tables_and_a_database_of_another_encoding_are_told(postgres: PostgresServer) -> None:
    url = make_url(postgres.new_database())
    postgres.run("DROP ROLE IF EXISTS guest")
    postgres.run("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    with pytest.raises(ConfigError, match=r"permission denied for schema|no schema has been selected"):
        open_database(url.set(username="guest", password="guest").render_as_string(hide_password=False))
    postgres.run("DROP DATABASE IF EXISTS latin")
    postgres.run("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(ConfigError, match="encoding LATIN1 seen, UTF8 allowed"):
        open_database(postgres.url("latin"))


def test_processes_that_begin_at_once_make_the_tables_once(postgres: PostgresServer) -> None:
    url, errors = postgres.new_database(), []

    def begin() -> None:
        try:
            open_database(url).dispose()
        except ConfigError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_the_audit_log_cannot_be_emptied_either(postgres: PostgresServer) -> None:
    engine = open_database(postgres.new_database())
    with pytest.raises(Exception, match="append-only"), engine.begin() as connection:
        connection.execute(text("TRUNCATE audit"))
    engine.dispose()


def test_a_statement_that_takes_too_long_is_ended(postgres: PostgresServer) -> None:
    engine = open_database(postgres.new_database())
    with engine.begin() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar() == f"{connect.STATEMENT_MS // 1000}s"
        assert connection.execute(text("SHOW lock_timeout")).scalar() == f"{connect.LOCK_MS // 1000}s"
    engine.dispose()


# Values that it never takes.


def test_an_event_that_the_database_never_takes_goes_to_the_dead_letters_and_holds_up_nothing(
    postgres: PostgresServer,
) -> None:
    desk = desk_on(postgres.new_database())
    stage = OutboxStage(desk, NETWORK, Metrics())
    with pytest.raises(StoreRefused, match="too long"):
        desk.apply([alert_event(NETWORK, alert_id="x" * 101)])
    for offset, name in enumerate(("a1", "x" * 101, "a2")):
        event = alert_event(NETWORK, alert_id=name)
        stage.step(None, Message("alerts", 0, offset, 0, b"", encode_json(event)))
    results = asyncio.run(stage.durable())
    assert sorted(alert.event.alert_id for alert in desk.alerts()) == ["a1", "a2"]
    (letter,) = results.refused
    assert (letter.reason, letter.offset) == ("refused_by_store", 1)
    assert not asyncio.run(stage.durable()).refused
    desk.close()


# A server that goes away.


def test_a_server_that_hangs_is_given_up_in_time_and_used_again_when_it_goes_on(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "ANSWER_S", 0.5)
    monkeypatch.setattr(connect, "CONNECT_S", 2)
    desk = desk_on(postgres.new_database())
    desk.apply(life("a1")[:1])
    postgres.pause(on=True)
    try:
        began = time.monotonic()
        with pytest.raises(StoreError, match=r"said nothing for|timeout"):
            desk.alerts()
        assert time.monotonic() - began < 10
    finally:
        postgres.pause(on=False)
    until(lambda: _answers(desk))
    assert [alert.event.alert_id for alert in desk.alerts()] == ["a1"]
    desk.close()


def _answers(desk: SqlAlertDesk) -> bool:
    try:
        desk.alerts()
    except StoreError:
        return False
    return True


def test_the_api_says_503_while_the_server_is_away_and_goes_on_after(postgres: PostgresServer, world: World) -> None:
    engine = open_database(postgres.new_database())
    desk = SqlAlertDesk(engine, world.network, (), world.clock, Sender("Gridtown"))
    desk.apply([alert_event(world.network)])
    context = replace(world.context(), desk=desk)
    with served(make_app(context, with_page=False)) as address, httpx.Client(base_url=f"http://{address}") as client:
        assert client.get("/api/v1/alerts").status_code == 200
        postgres.stop()
        try:
            away = client.get("/api/v1/alerts")
            seen = client.post("/api/v1/alerts/a1/acknowledge", json={"by": "Ana"})
        finally:
            postgres.start()
        assert [r.status_code for r in (away, seen)] == [503, 503]
        assert away.headers["content-type"] == "application/problem+json"
        assert "database" in away.json()["detail"]
        assert PASSWORD not in away.text
        assert client.get("/api/v1/alerts").status_code == 200
        assert client.post("/api/v1/alerts/a1/acknowledge", json={"by": "Ana"}).status_code == 200
    engine.dispose()


def test_a_server_that_crashes_twice_under_load_loses_nothing_and_keeps_the_order(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SHORT.items():
        monkeypatch.setattr(f"infra.webhooks.{name}", value)
    secret, alerts = tmp_path / "secret", [f"a{at:03}" for at in range(120)]
    ensure_secret(secret)
    with receiving() as receiver:
        endpoint = Webhook("unit", receiver.url, str(secret))
        url = postgres.new_database()
        desk, outbox = desk_on(url, endpoint), Outbox(open_database(url))
        dispatcher = Dispatcher(outbox, [endpoint], SystemClock(), Metrics(), np.random.default_rng(1))
        states: set[str] = set()

        async def chain() -> None:
            async def shortly(seconds: float) -> None:
                states.add(stage.state)
                await asyncio.sleep(0.05)

            stop = asyncio.Event()
            stage = OutboxStage(desk, NETWORK, Metrics(), sleep=shortly)
            delivering = asyncio.create_task(dispatcher.run(stop))
            events = [event for alert in alerts for event in life(alert)]
            for at in range(0, len(events), 6):
                for offset, event in enumerate(events[at : at + 6], at):
                    stage.step(None, Message("alerts", 0, offset, 0, b"", encode_json(event)))
                if at in {60, 240}:
                    await asyncio.to_thread(postgres.stop)
                    back = asyncio.create_task(asyncio.to_thread(_start_later, postgres))
                    await stage.durable()
                    await back
                else:
                    await stage.durable()
            await asyncio.wait_for(_until_delivered(outbox, len(events)), 60)
            stop.set()
            await delivering

        asyncio.run(chain())
    assert any("waiting for the database" in state for state in states)
    assert outbox.counts() == {("unit", "delivered"): 3 * len(alerts)}
    for alert in alerts:
        assert ids_in_order(receiver, alert) == whole(alert)
        assert desk.history(alert) == life(alert)
    desk.close()
    outbox._engine.dispose()


def _start_later(server: PostgresServer) -> None:
    time.sleep(0.5)
    server.start()


async def _until_delivered(outbox: Outbox, count: int) -> None:
    while True:
        try:
            if (await asyncio.to_thread(outbox.counts)).get(("unit", "delivered")) == count:
                return
        except StoreError:
            pass
        await asyncio.sleep(0.05)


# Several serving processes.


def slowly(number: int) -> tuple[int, dict[str, str]]:
    time.sleep(0.03)
    return 204, {}


def test_two_dispatchers_deliver_each_message_once_and_in_order(postgres: PostgresServer, tmp_path: Path) -> None:
    secret, alerts = tmp_path / "secret", [f"a{at:03}" for at in range(60)]
    ensure_secret(secret)
    with receiving() as receiver:
        endpoint = Webhook("unit", receiver.url, str(secret))
        url = postgres.new_database()
        desk = desk_on(url, endpoint)
        outbox = Outbox(desk._engine)
        with dispatchers(2, url, receiver.url, secret, short=False):
            desk.apply([event for alert in alerts for event in life(alert)])
            until(lambda: outbox.counts() == {("unit", "delivered"): 3 * len(alerts)})
            again = _count(desk, "SELECT count(*) FROM outbox WHERE attempts <> 1")
    assert again == 0
    assert len(receiver.got) == 3 * len(alerts)
    for alert in alerts:
        assert [got.id for got in receiver.got if got.id.startswith(alert)] == whole(alert)
    desk.close()


def _count(desk: SqlAlertDesk, query: str) -> int:
    with desk._engine.begin() as connection:
        return int(connection.execute(text(query)).scalar() or 0)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
def test_one_of_two_dispatchers_dies_or_stands_still_in_mid_send_and_the_other_goes_on(
    postgres: PostgresServer, tmp_path: Path, sign: signal.Signals
) -> None:
    secret, alerts = tmp_path / "secret", [f"a{at:02}" for at in range(20)]
    ensure_secret(secret)
    with receiving(slowly) as receiver:
        endpoint = Webhook("unit", receiver.url, str(secret))
        url = postgres.new_database()
        desk = desk_on(url, endpoint)
        outbox = Outbox(desk._engine)
        with dispatchers(2, url, receiver.url, secret) as running:
            desk.apply([event for alert in alerts for event in life(alert)])
            until(lambda: len(receiver.got) >= 12)
            running[0].send_signal(sign)
            until(lambda: outbox.counts() == {("unit", "delivered"): 3 * len(alerts)})
            if sign == signal.SIGSTOP:
                known = len(receiver.got)
                running[0].send_signal(signal.SIGCONT)
                time.sleep(1.0)  # it comes back with leases that it has lost
                assert len(receiver.got) - known <= 4  # requests that were under way
                assert outbox.counts() == {("unit", "delivered"): 3 * len(alerts)}
    for alert in alerts:
        assert ids_in_order(receiver, alert) == whole(alert)
    assert len(receiver.got) <= 3 * len(alerts) + 4
    desk.close()


def test_who_has_lost_a_lease_changes_nothing_any_more(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    desk = desk_on(url, Webhook("unit", "http://127.0.0.1:9/", "secret"))
    desk.apply(life("a1"))
    now_ms = SystemClock().now_ms() + 1_000
    late, other = Outbox(desk._engine), Outbox(desk._engine)
    (lost,) = late.lease("unit", now_ms, limit=5, lease_ms=1_000)
    assert other.lease("unit", now_ms + 500, limit=5, lease_ms=1_000) == []
    (held,) = other.lease("unit", now_ms + 1_000, limit=5, lease_ms=1_000)
    assert (held.message_id, held.attempts) == (lost.message_id, 2)
    late.failed(lost, now_ms, "no answer")  # would make it due while the other sends it
    assert late.lease("unit", now_ms + 1_500, limit=5, lease_ms=1_000) == []
    other.delivered(held, now_ms + 1_600, "HTTP 204")
    late.dead(lost, now_ms + 1_700, "no answer")
    assert other.counts() == {("unit", "delivered"): 1, ("unit", "pending"): 2}
    desk.close()


def test_a_row_that_another_process_is_leasing_is_passed_over(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    desk = desk_on(url, Webhook("unit", "http://127.0.0.1:9/", "secret"))
    desk.apply([*life("a1"), *life("a2")])
    now_ms = SystemClock().now_ms() + 1_000
    raw = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(raw) as connection:
        connection.execute("SELECT id FROM outbox WHERE message_id = 'a1.1' FOR UPDATE")
        taken = Outbox(desk._engine).lease("unit", now_ms, limit=5, lease_ms=1_000)
    assert [delivery.message_id for delivery in taken] == ["a2.1"]
    desk.close()
