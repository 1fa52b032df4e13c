"""The alert desk: what becomes of alert events, what operators do, what endpoints are going to be told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from citybrain.clock import ManualClock
from citybrain.errors import ConfigError, StoreError
from citybrain.messages import AlertEvent
from citybrain.network import Network
from citybrain.settings import Webhook
from infra.database.alerts import SqlAlertDesk
from infra.database.payload import Body, Sender, body_of, schema_text
from infra.database.protocol import StaleVersion
from infra.database.tables import open_database
from tests.conftest import ROOT
from tests.fakes import alert_event, grid_network
from tests.infra.postgres import database_url, postgres

__all__ = ["database_url", "postgres"]

NETWORK = grid_network()
DAY = 86_400_000
EVERYONE = Webhook("unit", "http://127.0.0.1:9/", "secret")
WEST = Webhook("west", "http://127.0.0.1:9/", "secret", districts=("west",))
OPENINGS = Webhook("openings", "http://127.0.0.1:9/", "secret", types=("alert.opened",))
EAST_SEGMENT = int((NETWORK.segments.district == 2).nonzero()[0][0])
WEST_SEGMENT = int((NETWORK.segments.district == 1).nonzero()[0][0])


@dataclass
class Room:
    """A desk and what lies in its tables."""

    engine: Engine
    clock: ManualClock = field(default_factory=lambda: ManualClock(5_000))

    @property
    def desk(self) -> SqlAlertDesk:
        return SqlAlertDesk(self.engine, NETWORK, [EVERYONE, WEST, OPENINGS], self.clock, Sender("Gridtown"))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.engine.begin() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    def told(self) -> list[tuple[str, str]]:
        return [(str(a), str(b)) for a, b in self.rows("SELECT endpoint, message_id FROM outbox ORDER BY id")]


@pytest.fixture
def room(database_url: str) -> Iterator[Room]:
    room = Room(open_database(database_url))
    yield room
    room.engine.dispose()


def steps(*, last: int = 3, alert_id: str = "a1") -> list[AlertEvent]:
    events = [alert_event(NETWORK, alert_id=alert_id, sequence=at) for at in range(1, last)]
    return [*events, alert_event(NETWORK, alert_id=alert_id, sequence=last, type="alert.resolved")]


def test_an_alert_is_opened_updated_and_resolved(room: Room) -> None:
    desk = room.desk
    seen = []
    for event in steps():
        desk.apply([event])
        alert = desk.alert("a1")
        assert alert is not None
        assert alert.event == event
        seen.append((alert.state, alert.version))
    assert seen == [("open", 1), ("open", 2), ("resolved", 3)]
    assert desk.history("a1") == steps()
    assert desk.alert("a2") is None


def test_a_repeat_changes_nothing_and_tells_nobody_again(room: Room) -> None:
    room.desk.apply(steps())
    before = room.rows("SELECT * FROM alerts"), room.told()
    room.desk.apply(steps())
    room.desk.apply(steps()[:1])
    assert (room.rows("SELECT * FROM alerts"), room.told()) == before


def test_a_repeat_tells_nobody_again_when_the_outbox_was_cleared(room: Room) -> None:
    room.desk.apply(steps())
    with room.engine.begin() as connection:
        connection.execute(text("DELETE FROM outbox"))
    room.desk.apply(steps())
    assert room.told() == []


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.permutations(range(6)),
    again=st.lists(st.integers(0, 5), max_size=6),
    cut=st.integers(1, 6),
)
def test_any_order_and_repetition_of_events_ends_the_same(
    room: Room, order: list[int], again: list[int], cut: int
) -> None:
    events = [*steps(), *steps(alert_id="a2")]
    ends = []
    for arrival in (range(6), [*order, *again]):
        with room.engine.begin() as connection:
            for table in ("alerts", "alert_steps", "outbox"):
                connection.execute(text(f"DELETE FROM {table}"))
        for first in range(0, len(arrival), cut):
            room.desk.apply([events[at] for at in arrival[first : first + cut]])
        ends.append(
            [
                room.rows("SELECT * FROM alerts ORDER BY alert_id"),
                room.rows("SELECT * FROM alert_steps ORDER BY alert_id, sequence"),
                room.rows("SELECT endpoint, alert_id, place, message_id, body FROM outbox ORDER BY 1, 2, 3"),
            ]
        )
    assert ends[0] == ends[1]


def test_endpoints_hear_what_they_asked_for(room: Room) -> None:
    west = alert_event(NETWORK, alert_id="w", segments=(WEST_SEGMENT,))
    east = alert_event(NETWORK, alert_id="e", segments=(EAST_SEGMENT,))
    both = alert_event(NETWORK, alert_id="b", sequence=2, segments=(EAST_SEGMENT, WEST_SEGMENT))
    room.desk.apply([west, east, both])
    assert room.told() == [
        *(("unit", "w.1"), ("west", "w.1"), ("openings", "w.1")),
        *(("unit", "e.1"), ("openings", "e.1")),
        *(("unit", "b.2"), ("west", "b.2")),
    ]


def test_a_replay_run_tells_nobody_and_is_not_seen_by_the_live_city(room: Room) -> None:
    room.desk.apply(steps(), run="r1")
    assert room.told() == []
    assert room.desk.alerts() == []
    assert [alert.event.alert_id for alert in room.desk.alerts(run="r1")] == ["a1"]
    room.desk.delete_run("r1")
    assert room.desk.alerts(run="r1") == []
    assert room.desk.history("a1", run="r1") == []


def test_acknowledging_is_kept_until_the_alert_ends(room: Room) -> None:
    desk, (opened, updated, resolved) = room.desk, steps()
    desk.apply([opened])
    alert = desk.acknowledge("a1", by="Ana", at_ms=77, version=1)
    assert (alert.state, alert.version, alert.acknowledged_by, alert.acknowledged_ms) == ("acknowledged", 2, "Ana", 77)
    assert desk.alert("a1") == alert
    desk.apply([updated])
    after = desk.alert("a1")
    assert after is not None
    assert (after.state, after.version, after.acknowledged_by) == ("acknowledged", 3, "Ana")
    desk.apply([resolved])
    ended = desk.alert("a1")
    assert ended is not None
    assert (ended.state, ended.acknowledged_by) == ("resolved", "Ana")
    assert [name for endpoint, name in room.told() if endpoint == "unit"] == ["a1.1", "a1.acknowledged", "a1.2", "a1.3"]
    assert desk.actions("a1") == [(77, "Ana", "acknowledge", "a1")]


def test_acknowledging_twice_or_after_the_end_changes_nothing(room: Room) -> None:
    desk = room.desk
    desk.apply([*steps(alert_id="over"), alert_event(NETWORK)])
    first = desk.acknowledge("a1", by="Ana", at_ms=77)
    assert desk.acknowledge("a1", by="Rui", at_ms=99) == first
    assert desk.acknowledge("over", by="Rui", at_ms=99) == desk.alert("over")
    assert len(desk.actions()) == 1
    assert len([name for _, name in room.told() if name.endswith("acknowledged")]) == 2  # unit and west


def test_two_operators_at_once_clash(room: Room) -> None:
    room.desk.apply(steps()[:1])
    clashes = []

    def acknowledge(by: str) -> None:
        try:
            room.desk.acknowledge("a1", by=by, at_ms=1, version=1)
        except StaleVersion as error:
            clashes.append(str(error))

    threads = [threading.Thread(target=acknowledge, args=(name,)) for name in ("Ana", "Rui", "Eva")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clashes == ["alert a1: version 1 seen, 2 allowed"] * 2
    assert len(room.desk.actions()) == 1
    with pytest.raises(KeyError):
        room.desk.acknowledge("unknown", by="Ana", at_ms=1)


def test_the_audit_log_cannot_be_changed(room: Room) -> None:
    room.desk.apply(steps()[:1])
    room.desk.acknowledge("a1", by="Ana", at_ms=77)
    for change in ("UPDATE audit SET actor = 'Rui'", "DELETE FROM audit"):
        with pytest.raises(Exception, match="append-only"), room.engine.begin() as connection:
            connection.execute(text(change))
    assert len(room.desk.actions()) == 1


def test_alerts_are_listed_by_state_newest_first(room: Room) -> None:
    desk = room.desk
    desk.apply([alert_event(NETWORK, alert_id=f"a{at}", at_ms=at * 60_000) for at in range(5)])
    desk.acknowledge("a2", by="Ana", at_ms=1)
    assert [a.event.alert_id for a in desk.alerts()] == ["a4", "a3", "a2", "a1", "a0"]
    assert [a.event.alert_id for a in desk.alerts(limit=2)] == ["a4", "a3"]
    assert [a.event.alert_id for a in desk.alerts(states=["acknowledged"])] == ["a2"]
    assert desk.alerts(states=["resolved"]) == []


def test_alerts_of_an_earlier_network_are_not_shown(room: Room) -> None:
    room.desk.apply(steps()[:1])
    wider = grid_network(5, 3)
    desk = SqlAlertDesk(room.engine, wider, [EVERYONE], room.clock, Sender("Gridtown"))
    desk.apply([alert_event(wider, alert_id="a2")])
    assert [alert.event.alert_id for alert in desk.alerts()] == ["a2"]
    assert desk.alert("a1") is None
    with pytest.raises(KeyError):
        desk.acknowledge("a1", by="Ana", at_ms=1)
    assert [alert.event.alert_id for alert in room.desk.alerts()] == ["a1"]


def test_old_resolved_alerts_are_deleted_and_open_ones_are_not(room: Room) -> None:
    desk, now = room.desk, 40 * DAY
    gone = [replace_times(event, 5 * DAY) for event in steps(alert_id="gone")]
    open_ = alert_event(NETWORK, alert_id="open", at_ms=5 * DAY)
    desk.apply([*gone, open_, alert_event(NETWORK, alert_id="new", at_ms=now)])
    desk.retain(30)
    assert [a.event.alert_id for a in desk.alerts()] == ["new", "open"]
    assert desk.history("gone") == []
    assert len(desk.history("open")) == 1


def replace_times(event: AlertEvent, at_ms: int) -> AlertEvent:
    return msgspec.structs.replace(event, detected_ms=at_ms, updated_ms=at_ms)


def test_everything_is_there_after_a_restart(database_url: str) -> None:
    room = Room(open_database(database_url))
    room.desk.apply(steps()[:2])
    before = room.desk.alerts(), room.told()
    room.engine.dispose()
    again = Room(open_database(database_url))
    assert (again.desk.alerts(), again.told()) == before
    again.engine.dispose()


@pytest.mark.parametrize("version", ["99", "0"])
def test_a_database_of_a_later_version_is_refused_with_a_way_out(database_url: str, version: str) -> None:
    room = Room(open_database(database_url))
    with room.engine.begin() as connection:
        connection.execute(text(f"UPDATE schema_version SET version = {version}"))
    room.engine.dispose()
    with pytest.raises(ConfigError, match=f"tables of version {version} seen, 1 to 2 allowed: run the newer program"):
        open_database(database_url)


def test_tables_of_the_first_version_are_brought_up_to_date_with_all_they_hold(database_url: str) -> None:
    room = Room(open_database(database_url))
    room.desk.apply(steps()[:2])
    room.desk.acknowledge("a1", by="Ana", at_ms=77)
    before = room.desk.alerts(), room.told()
    with room.engine.begin() as connection:  # as version 1 had it
        connection.execute(text("ALTER TABLE outbox DROP COLUMN leased_by"))
        if room.engine.dialect.name == "postgresql":
            connection.execute(text("DROP TRIGGER audit_append_only ON audit"))
        connection.execute(text("UPDATE schema_version SET version = 1"))
    room.engine.dispose()
    later = Room(open_database(database_url))
    assert later.rows("SELECT version FROM schema_version") == [(2,)]
    assert (later.desk.alerts(), later.told()) == before
    later.desk.apply(steps()[2:])
    assert later.told()[-2:] == [("unit", "a1.3"), ("west", "a1.3")]
    with pytest.raises(Exception, match="append-only"), later.engine.begin() as connection:
        connection.execute(text("DELETE FROM audit"))
    later.engine.dispose()
    open_database(database_url).dispose()  # and not once more


@pytest.mark.parametrize("url", ["nonsense", "unknown://host/base", "sqlite:///{folder}/file/city.sqlite"])
def test_a_wrong_database_url_is_one_sentence(tmp_path: Path, url: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="seen"):
        open_database(url.format(folder=tmp_path))


def test_a_database_that_fails_is_a_store_error(room: Room) -> None:
    with room.engine.begin() as connection:
        connection.execute(text("DROP TABLE alert_steps"))
    with pytest.raises(StoreError, match=r"database: .*alert_steps"):
        room.desk.apply(steps())


@pytest.mark.parametrize("url", ["mysql://host/base", "postgresql+nothing://city:hush@host/base", "post gres:hush@x"])
def test_a_database_of_another_kind_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="seen") as caught:
        open_database(url)
    assert "hush@host" not in str(caught.value)


def test_an_endpoint_is_told_everything_it_needs() -> None:
    event = alert_event(NETWORK, segments=(WEST_SEGMENT, EAST_SEGMENT))
    body = msgspec.json.decode(body_of(event, NETWORK, Sender("Gridtown", True, "http://here/")), type=Body)
    data = body.data
    assert (body.type, body.timestamp) == ("alert.opened", "2026-09-22T00:00:00.000Z")
    assert (data.alert_id, data.sequence, data.state, data.simulated) == ("a1", 1, "open", True)
    assert data.location.segment_ids == (f"s{WEST_SEGMENT}", f"s{EAST_SEGMENT}")
    assert (data.location.district.id, data.location.road) == ("west", NETWORK.segments.road[WEST_SEGMENT])
    assert data.location.line is not None
    assert len(data.location.line.coordinates) == 2
    assert data.location.point is not None
    assert data.location.point.coordinates in data.location.line.coordinates[0]
    assert (data.evidence.speed_kmh, data.evidence.expected_kmh, data.evidence.reason) == (12.5, 41, ("below_typical",))
    assert (data.times.started, data.times.resolved) == ("2026-09-21T23:56:00.000Z", None)
    assert data.links == {
        "dashboard": "http://here/?alert=a1",
        "acknowledge": "http://here/api/v1/alerts/a1/acknowledge",
    }


def test_a_road_without_a_map_has_no_place_on_it() -> None:
    blind = Network(
        NETWORK.segments, NETWORK.detectors, NETWORK.areas, NETWORK.lon_lat * float("nan"), NETWORK.attribution
    )
    location = json.loads(body_of(alert_event(NETWORK), blind, Sender("Gridtown")))["data"]["location"]
    assert (location["point"], location["line"]) == (None, None)
    assert location["segment_ids"] == ["s0", "s1"]


@pytest.mark.parametrize(("count", "trimmed"), [(50, False), (400, True)])
def test_a_body_is_under_20_kb_however_long_the_queue(count: int, trimmed: bool) -> None:
    network = grid_network(20, 20)
    text = body_of(alert_event(network, segments=tuple(range(count))), network, Sender("Gridtown"))
    location = json.loads(text)["data"]["location"]
    assert len(text.encode()) <= 20_000
    assert (location["trimmed"], location["segments"]) == (trimmed, count)
    assert len(location["segment_ids"]) == min(count, 100)


def test_the_published_schema_is_that_of_the_body() -> None:
    path = ROOT / "docs" / "schemas" / "webhook.json"
    assert path.read_text() == schema_text(), "write infra.database.payload.schema_text() there"
