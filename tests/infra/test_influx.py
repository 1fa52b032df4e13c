"""What only a store on a server has: outages, kills, rights, torn panes, refusals of the server."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from citybrain.errors import ConfigError, StoreBusy, StoreError, StoreRefused
from citybrain.metrics import Metrics
from citybrain.records import SegmentStates, encode
from citybrain.settings import CitySettings
from citybrain.wire import Message
from infra.stores.factory import check_store, open_store
from infra.stores.influx import InfluxStore
from infra.stores.influxread import Buckets
from infra.stores.influxserver import InfluxServer
from infra.stores.influxsetup import init
from infra.stores.protocol import Batch, Store
from streams.store import StoreStage
from tests.fakes import forecasts, grid_network, segment_states
from tests.infra.influx import ORG, TOKEN, InfluxProcess, influx_city, influx_store, started

pytestmark = pytest.mark.xdist_group("influx")

MIN = 60_000
START = 1_790_035_200_000
HOUR = 60 * MIN
NETWORK = grid_network()


@pytest.fixture
def city(influx: InfluxProcess, tmp_path: Path) -> CitySettings:
    city = influx_city(influx, tmp_path)
    init(city, lambda _: None)
    return city


@pytest.fixture
def store(city: CitySettings) -> Iterator[Store]:
    store = open_store(city, NETWORK)
    yield store
    store.close()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[InfluxProcess]:
    """A server that the test may kill."""
    (tmp_path / "server").mkdir()
    server = started(tmp_path / "server")
    yield server
    server.stop()


@pytest.fixture
def server(city: CitySettings) -> Iterator[InfluxServer]:
    """The server without the store."""
    server = InfluxServer(city.store.url, ORG, TOKEN)
    yield server
    server.close()


def pane(at: int, *, partition: int = 0, version: int = 1, speed_kmh: float = 40.0) -> SegmentStates:
    return segment_states(
        NETWORK, partition=partition, pane_start_ms=START + at * MIN, version=version, speed_kmh=speed_kmh
    )


def message(record: SegmentStates, offset: int) -> Message:
    return Message("segment-states", record.partition, offset, 0, b"", encode(record))


def stage_on(store: Store) -> StoreStage:
    async def sleep(seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.2))

    return StoreStage(store, NETWORK.version, Metrics(), sleep=sleep)


# Torn panes


def test_rows_without_their_mark_are_not_there(store: Store, city: CitySettings, server: InfluxServer) -> None:
    store.write(Batch(states=[pane(0)]))
    lines = store._schema.state_lines(pane(1), "")  # type: ignore[attr-defined]
    server.write(city.store.bucket, lines)
    assert store.states(START, START + HOUR)["time_start_ms"].unique().tolist() == [START]
    assert store.series(0, START, START + HOUR)["time_start_ms"].tolist() == [START]


@pytest.mark.parametrize("written", [1, 16])
def test_a_revision_that_is_half_written_reads_as_missing_until_it_is_repeated(
    store: Store, city: CitySettings, server: InfluxServer, written: int
) -> None:
    store.write(Batch(states=[pane(0), pane(1)]))
    revised = pane(1, version=2, speed_kmh=10.0)
    lines = store._schema.state_lines(revised, "")[:written]  # type: ignore[attr-defined]
    server.write(city.store.bucket, lines)
    assert store.states(START, START + HOUR)["time_start_ms"].unique().tolist() == [START]
    assert store.latest_states() == []
    store.write(Batch(states=[revised]))
    assert encode(store.latest_states()[0]) == encode(revised)
    assert len(store.states(START, START + HOUR)) == 2 * len(revised.segment)


def test_a_field_that_a_revision_lacks_does_not_shine_through(store: Store) -> None:
    store.write(Batch(states=[pane(0)]))
    revised = replace(pane(0, version=2), occupancy=np.full(17, np.nan), speed_kmh=np.full(17, np.nan))
    store.write(Batch(states=[revised]))
    assert encode(store.latest_states()[0]) == encode(revised)


def test_another_process_sees_what_is_written_and_does_not_write_what_is_older(
    store: Store, city: CitySettings
) -> None:
    other = open_store(city, NETWORK)
    store.write(Batch(states=[pane(0, version=1)]))
    other.write(Batch(states=[pane(0, version=5, speed_kmh=10.0), pane(1, version=6)]))
    store.write(Batch(states=[pane(0, version=3, speed_kmh=20.0)]))
    assert store.states(START, START + MIN)["speed_kmh"].tolist() == [10.0] * 17
    assert [state.version for state in store.latest_states()] == [6]
    other.close()


def test_what_is_written_after_a_restart_is_new_although_the_clock_went_back(
    store: Store, city: CitySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(Batch(states=[pane(0)]))
    asked, _ = store.changes_since(0)
    again = open_store(city, NETWORK)
    monkeypatch.setattr("infra.stores.influxwriter.time.time_ns", lambda: 0)
    again.write(Batch(states=[pane(1)]))
    assert [state.pane_start_ms for state in store.changes_since(asked)[1]] == [START + MIN]
    again.close()


def test_a_bin_is_made_when_its_last_pane_never_came(store: Store, city: CitySettings) -> None:
    store.write(Batch(states=[pane(at) for at in range(3)]))
    again = open_store(city, NETWORK)
    again.write(Batch(states=[pane(14, version=2)]))
    assert again.bins(START, START + HOUR)["time_start_ms"].unique().tolist() == [START, START + 10 * MIN]
    assert again.bins(START, START + 5 * MIN)["panes"].unique().tolist() == [3.0]
    again.close()


def test_rows_of_another_network_in_the_same_bucket_are_not_seen(store: Store, city: CitySettings) -> None:
    store.write(Batch(states=[pane(0)]))
    wider = grid_network(5, 3)
    other = open_store(city, wider)
    assert other.latest_states() == []
    other.write(Batch(states=[segment_states(wider, pane_start_ms=START, speed_kmh=9.0)]))
    assert encode(store.latest_states()[0]) == encode(pane(0))
    other.close()


def test_large_forecasts_are_kept_in_parts_and_replaced_whole(store: Store, city: CitySettings) -> None:
    wide = grid_network(30, 20)
    other = open_store(city, wide)
    old, new = (forecasts(wide, pane_start_ms=START + at * MIN, version=at, mean_kmh=20 + at) for at in range(2))
    other.write(Batch(forecasts=[old]))
    other.write(Batch(forecasts=[new]))
    assert [encode(found) for found in other.latest_forecasts()] == [encode(new)]
    other.close()


# What the server refuses


def test_a_type_conflict_refuses_its_record_and_stores_the_others(
    store: Store, city: CitySettings, server: InfluxServer
) -> None:
    # Types are those of a measurement and shard (a week): another writer spoilt the one in a fortnight.
    fortnight = 14 * 24 * 60
    server.write(city.store.bucket, [f"states,segment=3 level=1.5 {START + fortnight * MIN}"])
    stage = stage_on(store)
    for at, record in enumerate((pane(0, partition=1), pane(fortnight), pane(1, partition=1))):
        stage.step(None, message(record, at))
    (letter,) = asyncio.run(stage.durable()).refused
    assert (letter.reason, letter.offset) == ("refused_by_store", 1)
    assert "type conflict" in letter.detail
    assert len(store.states(START, START + HOUR)) == 2 * 17


def test_a_line_that_does_not_parse_is_named_and_not_its_neighbours(city: CitySettings, server: InfluxServer) -> None:
    lines = [f"m,a={at} v={at}i {START}" for at in range(50)]
    lines[37] = f"m,a=37 v=NaN {START}"
    with pytest.raises(StoreRefused, match="m,a=37 v=NaN"):
        server.write(city.store.bucket, lines)


def test_an_infinite_value_is_refused_before_anything_is_written(store: Store) -> None:
    endless = replace(pane(0), vehicles=np.full(17, np.inf))
    with pytest.raises(StoreRefused, match="vehicles: inf seen, finite"):
        store.write(Batch(states=[pane(1), endless]))
    assert store.latest_states() == []


def test_panes_older_than_the_retention_are_refused(influx: InfluxProcess, tmp_path: Path) -> None:
    city = replace(influx_city(influx, tmp_path), retention="time")
    init(city, lambda _: None)
    store = open_store(city, NETWORK)
    with pytest.raises(StoreRefused, match="retention"):
        store.write(Batch(states=[segment_states(NETWORK, pane_start_ms=0)]))
    now = time.time_ns() // 1_000_000 // MIN * MIN
    store.write(Batch(states=[segment_states(NETWORK, pane_start_ms=now)]))
    assert len(store.latest_states()) == 1
    store.close()


def test_where_the_server_keeps_all_old_panes_are_deleted_by_the_feeds_clock(store: Store, city: CitySettings) -> None:
    days = [pane(day * 1440 + at, version=day * 10 + at) for day in range(3) for at in range(5)]
    store.write(Batch(states=days))
    store.retain(1, rollup_days=2)
    assert store.states(START, START + 72 * HOUR)["time_start_ms"].min() == START + 24 * HOUR
    assert store.bins(START, START + 72 * HOUR)["time_start_ms"].min() == START + 24 * HOUR
    again = open_store(city, NETWORK)
    with pytest.raises(StoreRefused, match="older states are deleted"):
        again.write(Batch(states=[pane(0, version=99)]))
    again.close()
    with pytest.raises(ConfigError, match="0 days seen"):
        store.retain(0)


# Outages


def test_nothing_is_lost_while_the_server_is_away(own: InfluxProcess, tmp_path: Path) -> None:
    store = influx_store(own, tmp_path / "city", NETWORK)
    stage = stage_on(store)
    own.kill()
    for at in range(5):
        stage.step(None, message(pane(at), at))
    back = threading.Timer(2.0, own.start)
    back.start()
    refused = asyncio.run(stage.durable()).refused
    back.join()
    assert store.states(START, START + HOUR)["time_start_ms"].unique().tolist() == [START + at * MIN for at in range(5)]
    assert tuple(refused) == ()
    store.close()


def test_a_server_killed_under_a_writer_loses_and_doubles_nothing(own: InfluxProcess, tmp_path: Path) -> None:
    network = grid_network(30, 20)
    store = influx_store(own, tmp_path / "city", network)
    written, stop = list[SegmentStates](), threading.Event()

    def write() -> None:
        rng = np.random.default_rng(3)
        for at in range(1000):
            speed = rng.uniform(5, 60, len(network.segments_of(0)))
            state = segment_states(network, pane_start_ms=START + at // 2 * MIN, version=at, speed_kmh=speed)
            while True:
                try:
                    store.write(Batch(states=[state]))
                    break
                except StoreError:
                    time.sleep(0.1)
            written.append(state)
            if stop.is_set():
                return

    def let_write(panes: int) -> None:
        before, ends_s = len(written), time.monotonic() + 60
        while len(written) < before + panes:
            assert time.monotonic() < ends_s
            time.sleep(0.01)
        time.sleep(0.02)  # in the middle of the next one

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            let_write(5)
            own.kill()
            own.start()
        let_write(5)
    finally:
        stop.set()
        writer.join()
    newest = {state.pane_start_ms: state for state in written}
    found = store.records(START, START + 24 * HOUR).states
    assert [encode(state) for state in found] == [encode(state) for _, state in sorted(newest.items())]
    sums = store.series(5, START, START + len(newest) // 5 * 5 * MIN, step_ms=5 * MIN)
    by_pane = [float(state.vkt_veh_km[5]) if 5 in state.segment else 0.0 for state in newest.values()]
    assert sums["vkt_veh_km"].sum() == pytest.approx(sum(by_pane[: len(newest) // 5 * 5]))
    store.close()


class _Gate(BaseHTTPRequestHandler):
    """Answers as a server that is busy."""

    status, headers_sent = 503, {"Retry-After": "7"}

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b'{"code":"unavailable","message":"compacting"}'
        self.send_response(self.status)
        for name, value in {**self.headers_sent, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # noqa: A002
        """Say nothing."""


@pytest.mark.parametrize(
    ("status", "headers", "after_s"),
    [(503, {"Retry-After": "7"}, 7.0), (429, {}, 1.0), (429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0)],
)
def test_a_busy_server_says_how_long(status: int, headers: dict[str, str], after_s: float) -> None:
    gate = type("Gate", (_Gate,), {"status": status, "headers_sent": headers})
    with ThreadingHTTPServer(("127.0.0.1", 0), gate) as http:
        serving = threading.Thread(target=http.serve_forever)
        serving.start()
        server = InfluxServer(f"http://127.0.0.1:{http.server_port}", ORG, TOKEN)
        try:
            with pytest.raises(StoreBusy, match="compacting") as raised:
                server.write("b", ["m v=1"])
            assert raised.value.after_s == after_s
            with pytest.raises(StoreBusy):
                server.query("b", "SELECT v FROM m")
        finally:
            http.shutdown()
            serving.join()
            server.close()


def test_a_server_that_is_not_there_is_tried_again_and_a_check_says_so(tmp_path: Path) -> None:
    city = influx_city(InfluxProcess(Path("influxd"), tmp_path), tmp_path)
    store = open_store(city, NETWORK)
    with pytest.raises(StoreError, match="does not answer"):
        store.write(Batch(states=[pane(0)]))
    with pytest.raises(StoreError, match="does not answer"):
        store.latest_areas()
    with pytest.raises(StoreError, match="does not answer"):
        check_store(city)
    store.close()


# Rights and settings


def told(city: CitySettings) -> str:
    """Return the one sentence that the check has to say."""
    with pytest.raises(ConfigError) as raised:
        check_store(city)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def with_token(city: CitySettings, token: str) -> CitySettings:
    Path(city.store.token_file).write_text(token)
    return city


def test_init_makes_what_is_missing_and_a_second_time_changes_nothing(influx: InfluxProcess, tmp_path: Path) -> None:
    city = replace(influx_city(influx, tmp_path), retention="time")
    said: list[str] = []
    init(city, said.append)
    name = city.store.bucket
    assert said == [f"bucket {name} made, keeps 14 days", f"bucket {name}_rollups made, keeps 400 days",
                    f"bucket {name}_runs made, keeps all"]  # fmt: skip
    said.clear()
    init(replace(city, store=replace(city.store, keep=timedelta(days=20))), said.append)
    assert said == [f"bucket {name} changed: keeps 20 days", f"bucket {name}_rollups is there, keeps 400 days",
                    f"bucket {name}_runs is there, keeps all"]  # fmt: skip
    check_store(city)


def test_init_makes_the_organisation_where_the_token_may(influx: InfluxProcess, tmp_path: Path) -> None:
    city = influx_city(influx, tmp_path)
    city = replace(city, store=replace(city.store, org="another"))
    said: list[str] = []
    with pytest.raises(ConfigError, match="one of organisation 'another'"):
        init(city, said.append)
    assert said[0] == "organisation another made"
    assert len(said) == 4


def test_the_rights_to_write_and_read_three_buckets_are_enough(city: CitySettings, influx: InfluxProcess) -> None:
    rights = [(action, bucket) for bucket in Buckets(city.store.bucket).all for action in ("read", "write")]
    with_token(city, influx.token(rights))
    check_store(city)
    said: list[str] = []
    init(city, said.append)
    assert len(said) == 3
    store = open_store(city, NETWORK)
    store.write(Batch(states=[pane(0)], forecasts=[forecasts(NETWORK, pane_start_ms=START)]))
    store.write(Batch(states=[pane(0)]), run="r1")
    store.delete_run("r1")
    assert store.runs() == []
    assert len(store.latest_forecasts()) == 1
    store.close()


def test_a_wrong_token_is_one_sentence_and_loses_nothing(city: CitySettings) -> None:
    assert "does not know the token" in told(with_token(city, "wrong"))
    store = open_store(city, NETWORK)
    for ask in (store.latest_states, lambda: store.write(Batch(states=[pane(0)]))):
        with pytest.raises(StoreError, match=r"does not know the token \(401\)") as raised:
            ask()
        assert not isinstance(raised.value, StoreRefused)
    store.close()


def test_a_token_that_may_only_read_is_told_so(city: CitySettings, influx: InfluxProcess) -> None:
    buckets = Buckets(city.store.bucket).all
    with_token(city, influx.token([("read", bucket) for bucket in buckets]))
    assert f"may not write bucket '{city.store.bucket}'" in told(city)
    store = open_store(city, NETWORK)
    with pytest.raises(StoreError, match=r"may not write bucket .* \(403\)") as raised:
        store.write(Batch(states=[pane(0)]))
    assert not isinstance(raised.value, StoreRefused)
    store.close()


def test_a_token_that_may_only_write_is_told_so(city: CitySettings, influx: InfluxProcess) -> None:
    with_token(city, influx.token([("write", bucket) for bucket in Buckets(city.store.bucket).all]))
    assert f"may not read bucket '{city.store.bucket}'" in told(city)
    store = open_store(city, NETWORK)
    with pytest.raises(StoreError, match="may not read it"):
        store.latest_states()
    store.close()


def test_what_is_missing_on_the_server_is_named(influx: InfluxProcess, tmp_path: Path) -> None:
    city = influx_city(influx, tmp_path)
    assert f'bucket "{city.store.bucket}" not found' in told(city)
    assert "citybrain store init" in told(city)
    store = open_store(city, NETWORK)
    with pytest.raises(StoreError, match="citybrain store init") as raised:
        store.write(Batch(states=[pane(0)]))
    store.close()
    assert not isinstance(raised.value, StoreRefused)
    unknown = replace(city, store=replace(city.store, org="nobody"))
    assert 'organization name "nobody" not found' in told(unknown)
    with pytest.raises(ConfigError, match="may not make it"):
        init(with_token(unknown, influx.token([("read", "first")])), lambda _: None)


def test_a_token_file_that_is_not_there_or_empty_is_told_so(city: CitySettings) -> None:
    assert "holds no token" in told(with_token(city, ""))
    Path(city.store.token_file).unlink()
    assert "cannot be read" in told(city)


def test_a_server_that_is_not_influxdb_2_is_told_so(city: CitySettings) -> None:
    class Old(_Gate):
        def do_GET(self) -> None:
            body = b'{"name":"influxdb","status":"pass","version":"1.8.10"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Old) as http:
        serving = threading.Thread(target=http.serve_forever)
        serving.start()
        url = f"http://127.0.0.1:{http.server_port}"
        assert "InfluxDB 1.8.10 seen, InfluxDB 2.7 allowed" in told(replace(city, store=replace(city.store, url=url)))
        http.shutdown()
        serving.join()


def test_a_store_opens_without_its_server(tmp_path: Path) -> None:
    city = influx_city(InfluxProcess(Path("influxd"), tmp_path), tmp_path)
    store = open_store(city, NETWORK)
    assert isinstance(store, InfluxStore)
    store.close()
