from __future__ import annotations

import gzip
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from citybrain.errors import BrokerUnavailable, StoreError
from citybrain.records import DetectorHealth, Verdict
from dashboard.api import intake
from dashboard.app import make_app
from dashboard.context import Context
from dashboard.live import Live
from dashboard.live.frames import Layer
from infra.stores.protocol import Batch
from tests.conftest import ROOT
from tests.dashboard.conftest import MIN, TUESDAY_8H, World, new_world
from tests.dashboard.records import alert_event, message, readings
from tests.dashboard.server import served
from tests.fakes import area_indices, forecasts, segment_states

READING = {"detector": "d0", "observed_from": 0, "observed_to": 30_000, "speed_kmh": 40}


def busy(world: World) -> Live:
    """Return a live view in which all segments stand at 20 km/h since 08:00."""
    live = world.live()
    panes = [segment_states(world.network, partition=p, pane_start_ms=TUESDAY_8H, speed_kmh=20.0) for p in (0, 1)]
    area = area_indices(world.network, pane_start_ms=TUESDAY_8H)
    ahead = [forecasts(world.network, partition=p, pane_start_ms=TUESDAY_8H) for p in (0, 1)]
    world.store.write(Batch(states=panes, areas=[area], forecasts=ahead))
    world.clock.at_ms = TUESDAY_8H + MIN + 10_000
    live.apply(message("readings", readings(world.network, [0, 1], TUESDAY_8H + MIN)))
    for record in panes:
        live.apply(message("segment-states", record))
    live.apply(message("area-indices", area))
    return live


@contextmanager
def serving(context: Context) -> Iterator[httpx.Client]:
    """Serve a context's app; gives a client of it."""
    with (
        served(make_app(context, with_page=False)) as address,
        httpx.Client(base_url=f"http://{address}") as client,
    ):
        yield client


@pytest.fixture
def live(world: World) -> Live:
    return busy(world)


@pytest.fixture
def client(world: World, live: Live) -> Iterator[httpx.Client]:
    with serving(world.context(live)) as client:
        yield client


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A busy city for tests that only read."""
    with new_world(tmp_path_factory.mktemp("shared")) as world:
        yield world


@pytest.fixture(scope="module")
def reader(shared: World) -> Iterator[httpx.Client]:
    """A client of the shared city."""
    live = busy(shared)
    with serving(shared.context(live)) as client:
        until = time.monotonic() + 10
        while not live.hub.version[Layer.LEVEL]:  # the first tick
            assert time.monotonic() < until
            time.sleep(0.01)
        yield client


def problem(response: httpx.Response, status: int) -> str:
    """Return the detail of a problem."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status
    return str(response.json()["detail"])


def test_ready_is_200_while_data_is_fresh_and_503_with_the_reason_when_it_is_old(
    client: httpx.Client, world: World
) -> None:
    assert client.get("/ready").json() == {"ready": True, "data_age_s": 10.0, "data_time_ms": TUESDAY_8H + MIN}
    world.clock.at_ms += 5 * MIN
    assert problem(client.get("/ready"), 503) == "The newest data is 310 s old."
    assert client.get("/health").status_code == 200


def test_ready_is_503_when_the_log_cannot_be_read(client: httpx.Client, world: World) -> None:
    world.broker = "lost"
    assert "message log" in problem(client.get("/ready"), 503)
    assert client.get("/health").json()["status"] == "degraded"


def test_ready_is_503_before_the_first_data(world: World) -> None:
    with serving(world.context()) as client:
        assert problem(client.get("/ready"), 503) == "No data yet."


def test_health_names_the_part_that_is_not_well(world: World) -> None:
    context = replace(world.context(), parts=lambda: {"worker": "stopped", "store": "ok"})
    with serving(context) as client:
        health = client.get("/health").json()
    assert (health["status"], health["parts"]["worker"]) == ("degraded", "stopped")


def test_metrics_are_prometheus_text(reader: httpx.Client) -> None:
    names = {family.name for family in text_string_to_metric_families(reader.get("/metrics").text)}
    assert {"citybrain_live_viewers", "process_resident_memory_bytes"} <= names


def test_state_has_a_value_for_every_segment_and_a_tag(reader: httpx.Client, shared: World) -> None:
    answer = reader.get("/api/v1/state")
    state = answer.json()
    n = len(shared.network.segments)
    assert (state["network"], state["data_time_ms"]) == (shared.network.version, TUESDAY_8H + MIN)
    assert (state["speed_kmh"], state["level"], state["against_typical"]) == ([20.0] * n, [4] * n, [1] * n)
    again = reader.get("/api/v1/state", headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304


def test_what_is_not_known_is_null(world: World) -> None:
    with serving(world.context()) as client:
        state = client.get("/api/v1/state").json()
        areas = client.get("/api/v1/areas").json()
    assert set(state["speed_kmh"]) == {None}
    assert areas == {"time_start_ms": None, "pane_ms": None, "areas": []}


def test_city_and_areas_are_those_of_the_newest_pane(reader: httpx.Client) -> None:
    city = reader.get("/api/v1/city").json()
    assert city["time_ms"] == TUESDAY_8H + MIN
    assert {item["key"] for item in city["items"]} > {"tpi", "speed_kmh"}
    areas = reader.get("/api/v1/areas").json()["areas"]
    assert [(a["id"], a["parent"], a["level"]) for a in areas[:2]] == [
        ("city", None, "city"),
        ("west", "city", "district"),
    ]
    assert areas[0]["delay_veh_h_per_h"] == 30.0


def test_a_segment_tells_what_it_is_and_how_it_is(client: httpx.Client, world: World, live: Live) -> None:
    world.desk.apply([alert_event(world.network)])
    live.read_alerts()
    segment = client.get("/api/v1/segment/0").json()
    assert (segment["id"], segment["road"], segment["limit_kmh"], segment["lanes"]) == ("s0", "East Road 0", 50.0, 2)
    assert (segment["speed_kmh"], segment["typical_kmh"], segment["level"]) == (20.0, 45.0, 4)
    [detector] = segment["detectors"]
    assert (detector["id"], detector["state"], detector["last_seen_ms"]) == ("d0", "ok", TUESDAY_8H + MIN)
    assert [alert["alert_id"] for alert in segment["alerts"]] == ["a1"]


def test_the_list_of_detectors_that_are_not_well_says_why(client: httpx.Client, world: World, live: Live) -> None:
    assert client.get("/api/v1/detectors").json() == {"total": 34, "segment": [], "detectors": []}
    columns = np.array([2], np.int32), np.array([Verdict.STUCK], np.uint8), np.array([TUESDAY_8H])
    health = DetectorHealth(world.network.version, 0, TUESDAY_8H, 1, *columns)
    live.apply(message("detector-health", health))
    answer = client.get("/api/v1/detectors").json()
    assert (answer["total"], answer["segment"]) == (34, [2])
    [detector] = answer["detectors"]
    assert (detector["id"], detector["state"], detector["reason"], detector["since_ms"]) == (
        "d2", "doubtful", "stuck", TUESDAY_8H,
    )  # fmt: skip
    [same] = client.get("/api/v1/segment/2").json()["detectors"]
    assert same == detector


@pytest.mark.parametrize("path", ["segment/34", "segment/-1", "series?segment=34&from=0&to=1", "forecast?segment=34"])
def test_an_unknown_segment_is_404_with_what_is_allowed(reader: httpx.Client, path: str) -> None:
    assert "0 to 33 allowed" in problem(reader.get(f"/api/v1/{path}"), 404)


def test_series_takes_milliseconds_and_rfc_3339(reader: httpx.Client) -> None:
    query = {"segment": "0", "from": str(TUESDAY_8H), "to": str(TUESDAY_8H + MIN)}
    series = reader.get("/api/v1/series", params=query).json()
    assert (series["time_start_ms"], series["columns"]["speed_kmh"]) == ([TUESDAY_8H], [20.0])
    query = {"segment": "0", "from": "2026-11-24T08:00:00Z", "to": "2026-11-24T16:01:00+08:00"}
    assert reader.get("/api/v1/series", params=query).json() == series


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [("5", "5", "above 0"), ("0", str(32 * 86_400_000), "up to 31 days"), ("2026-11-24", "9", "zone"), ("x", "9", "x")],
)
def test_a_time_that_makes_no_sense_is_refused(reader: httpx.Client, start: str, end: str, said: str) -> None:
    answer = reader.get("/api/v1/series", params={"segment": "0", "from": start, "to": end})
    assert said in problem(answer, 422)


def test_forecast_and_typical_day_are_columns(reader: httpx.Client) -> None:
    forecast = reader.get("/api/v1/forecast?segment=0").json()
    assert forecast["horizon_min"] == list(range(5, 65, 5))
    assert forecast["columns"]["q90_kmh"] == [50.0] * 12
    typical = reader.get("/api/v1/typical?segment=0&date=2026-11-24").json()
    assert (len(typical["time_ms"]), typical["made_of"], typical["columns"]["speed_kmh"][0]) == (96, "simulated", 45.0)
    assert reader.get("/api/v1/typical?segment=0").json() == typical
    assert "date" in problem(reader.get("/api/v1/typical?segment=0&date=soon"), 422)


def test_ranking_has_the_worst_stretches(reader: httpx.Client) -> None:
    rows = reader.get("/api/v1/ranking").json()["rows"]
    assert (len(rows), rows[0]["level"]) == (14, 4)


def test_the_network_is_sent_once(reader: httpx.Client, shared: World) -> None:
    binary = reader.get("/api/v1/network.bin")
    assert binary.content.startswith(b"CBN1")
    tag = binary.headers["etag"]
    assert (tag, binary.headers["cache-control"]) == (f'"{shared.network.version}"', "no-cache")
    assert reader.get("/api/v1/network.bin", headers={"if-none-match": tag}).status_code == 304
    named = reader.get(f"/api/v1/network.bin?v={shared.network.version}")
    assert "immutable" in named.headers["cache-control"]
    plain = reader.get("/api/v1/network.bin", headers={"accept-encoding": "identity"})
    assert plain.content == binary.content
    assert len(reader.get("/api/v1/network").json()["features"]) == len(shared.network.segments)


def test_long_answers_are_compressed_for_those_who_can_read_them(reader: httpx.Client) -> None:
    with reader.stream("GET", "/api/v1/network") as packed:
        assert packed.headers["content-encoding"] == "gzip"
        raw = b"".join(packed.iter_raw())
    plain = reader.get("/api/v1/network", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(raw) == plain.content
    assert reader.get("/openapi.json").headers["content-encoding"] == "gzip"


def test_alerts_are_filtered_by_state(client: httpx.Client, world: World) -> None:
    gone = alert_event(world.network, "a2", sequence=2, type="alert.resolved", resolved_ms=1)
    world.desk.apply([alert_event(world.network), gone])
    assert len(client.get("/api/v1/alerts").json()["alerts"]) == 2
    found = client.get("/api/v1/alerts", params={"state": ["open", "acknowledged"]}).json()["alerts"]
    assert [alert["alert_id"] for alert in found] == ["a1"]
    assert "state" in problem(client.get("/api/v1/alerts?state=lost"), 422)


def test_an_alert_is_acknowledged_once_and_a_clash_is_412(client: httpx.Client, world: World) -> None:
    world.desk.apply([alert_event(world.network)])
    answer = client.post("/api/v1/alerts/a1/acknowledge", json={"by": " desk 2 ", "version": 1})
    assert answer.status_code == 200
    row = answer.json()
    assert (row["state"], row["acknowledged_by"], row["acknowledged_ms"]) == (
        "acknowledged",
        "desk 2",
        world.clock.at_ms,
    )
    assert answer.headers["etag"] == '"2"'
    clash = client.post("/api/v1/alerts/a1/acknowledge", json={"by": "desk 3", "version": 1})
    assert "version 1 seen" in problem(clash, 412)


@pytest.mark.parametrize(
    ("alert", "body", "status"),
    [
        ("a1", '{"by": "  "}', 422),
        ("a1", json.dumps({"by": "x" * 81}), 422),
        ("a1", "{}", 422),
        ("a1", '{"by": "desk", "also": 1}', 422),
        ("a1", "not json", 422),
        ("nobody", '{"by": "desk"}', 404),
    ],
)
def test_an_acknowledgement_that_makes_no_sense_is_refused(
    client: httpx.Client, world: World, alert: str, body: str, status: int
) -> None:
    world.desk.apply([alert_event(world.network)])
    problem(client.post(f"/api/v1/alerts/{alert}/acknowledge", content=body), status)
    standing = world.desk.alert("a1")
    assert standing is not None
    assert standing.state == "open"


def test_readings_are_judged_one_by_one_and_the_good_are_sent_on(client: httpx.Client, world: World) -> None:
    body = [READING, {**READING, "detector": "d99"}, 7]
    answer = client.post("/api/v1/readings", json=body)
    assert answer.status_code == 202
    assert answer.json()["accepted"] == 1
    assert [(r["index"], r["reason"]) for r in answer.json()["refused"]] == [(1, "unknown_detector"), (2, "malformed")]
    assert [json.loads(text) for text in world.sent] == [READING]


def test_refused_readings_are_listed_up_to_a_hundred_and_counted(reader: httpx.Client) -> None:
    answer = reader.post("/api/v1/readings", json=[1] * 150).json()
    assert (len(answer["refused"]), answer["refused_count"], answer["accepted"]) == (100, 150, 0)


def test_too_long_a_body_and_too_many_readings_are_413(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MOST_BYTES", 1000)
    monkeypatch.setattr(intake, "MOST_READINGS", 3)
    assert "1000 allowed" in problem(client.post("/api/v1/readings", content=b" " * 1001), 413)
    assert "4 readings seen" in problem(client.post("/api/v1/readings", json=[1, 2, 3, 4]), 413)


def test_an_empty_body_is_422(reader: httpx.Client) -> None:
    assert "empty body" in problem(reader.post("/api/v1/readings"), 422)


def test_a_closed_edge_is_404_and_a_log_that_is_gone_503(world: World, live: Live) -> None:
    def gone(_: list[bytes]) -> None:
        raise BrokerUnavailable("nobody at 127.0.0.1:1")

    with serving(replace(world.context(live), submit_readings=None, submit_event=None)) as client:
        problem(client.post("/api/v1/readings", json=READING), 404)
        problem(client.post("/api/v1/events", json={}), 404)
    with serving(replace(world.context(live), submit_readings=gone)) as client:
        answer = client.post("/api/v1/readings", json=READING)
    assert "nobody at" in problem(answer, 503)
    assert answer.headers["retry-after"] == "5"


def test_an_event_is_sent_on(client: httpx.Client, world: World) -> None:
    event = {"id": "e1", "kind": "incident", "started_ms": 5, "segment": "s1"}
    assert client.post("/api/v1/events", json=event).json() == {"id": "e1", "version": 1}
    assert json.loads(world.sent[0])["segment"] == "s1"
    assert "s99" in problem(client.post("/api/v1/events", json={**event, "segment": "s99"}), 422)


def test_a_store_that_fails_is_503(world: World, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise StoreError("no space")

    monkeypatch.setattr(type(world.store), "forecast_of", fails)
    with serving(world.context(live)) as client:
        assert "no space" in problem(client.get("/api/v1/forecast?segment=0"), 503)


def test_an_unforeseen_error_tells_nothing_of_the_inside(
    world: World, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(type(world.store), "runs", fails)
    with serving(world.context(live)) as client:
        assert "secret" not in problem(client.get("/api/v1/runs"), 500)


def test_runs_of_the_store_have_a_state_of_their_own(client: httpx.Client, world: World) -> None:
    pane = segment_states(world.network, pane_start_ms=TUESDAY_8H, speed_kmh=33.0)
    world.store.write(Batch(states=[pane]), run="r1")
    assert client.get("/api/v1/runs").json() == {"runs": ["r1"]}
    assert client.get("/api/v1/state?run=r1").json()["speed_kmh"][0] == 33.0
    assert client.get("/api/v1/state").json()["speed_kmh"][0] == 20.0
    assert "'r2' is not in the store" in problem(client.get("/api/v1/state?run=r2"), 404)


def test_an_address_that_is_none_of_the_apis_is_a_problem(reader: httpx.Client) -> None:
    assert "/api/v1/nothing/here" in problem(reader.get("/api/v1/nothing/here"), 404)


def test_only_names_of_this_machine_are_served(reader: httpx.Client) -> None:
    answer = reader.get("/api/v1/city", headers={"host": "rebound.example:8050"})
    assert "rebound.example" in problem(answer, 421)
    for name in ("localhost", "127.0.0.1", "[::1]:8050", "LOCALHOST:1"):
        assert reader.get("/health", headers={"host": name}).status_code == 200


def test_behind_a_proxy_the_public_name_is_served_too_and_no_other(world: World, live: Live) -> None:
    city = replace(world.settings, public_url="https://traffic.example.org")
    sent = {"host": "traffic.example.org", "origin": "https://traffic.example.org"}
    with serving(replace(world.context(live), city=city)) as client:
        assert client.post("/api/v1/readings", json=READING, headers=sent).status_code == 202
        assert client.get("/health").status_code == 200
        assert "other.example" in problem(client.get("/health", headers={"host": "other.example"}), 421)
        problem(client.post("/api/v1/readings", json=READING, headers={**sent, "origin": "https://evil.example"}), 403)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_page_of_another_site_changes_nothing(reader: httpx.Client, shared: World, headers: dict[str, str]) -> None:
    problem(reader.post("/api/v1/readings", json=READING, headers=headers), 403)
    assert shared.sent == []


def test_our_own_page_and_programs_may_change_things(client: httpx.Client, world: World) -> None:
    own = f"http://{client.base_url.host}:{client.base_url.port}"
    for headers in ({}, {"origin": own, "sec-fetch-site": "same-origin"}):
        assert client.post("/api/v1/readings", json=READING, headers=headers).status_code == 202


def test_every_answer_carries_the_security_headers(reader: httpx.Client) -> None:
    headers = reader.get("/health").headers
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "same-origin")


def test_the_description_names_every_route_and_resolves_every_reference(reader: httpx.Client) -> None:
    schema = reader.get("/openapi.json").json()
    for path in ("/health", "/ready", "/metrics", "/api/v1/state", "/api/v1/readings", "/api/v1/segment/{index}"):
        assert path in schema["paths"]
    text = json.dumps(schema)
    references = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert references <= set(schema["components"]["schemas"])
    assert {"State", "AlertRow", "JsonReading", "ProblemBody"} <= references


def test_every_route_is_documented_and_every_documented_route_exists(reader: httpx.Client) -> None:
    described = {
        (method.upper(), path)
        for path, methods in reader.get("/openapi.json").json()["paths"].items()
        for method in methods
    }
    page = (ROOT / "docs" / "api.md").read_text()
    documented = set(re.findall(r"^\| `(GET|POST) ([^`?]+)", page, flags=re.M))
    assert documented == described
