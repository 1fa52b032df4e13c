"""The DuckDB store beyond the contract: one process, kill -9, a full disk, another network, retention, size."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import fields, replace
from pathlib import Path

import duckdb
import numpy as np
import pytest

from citybrain.errors import ConfigError, StoreError, StoreRefused
from citybrain.settings import CitySettings
from infra.stores.duckdb import DuckStore
from infra.stores.factory import open_store
from infra.stores.packing import AREAS, state_packing
from infra.stores.protocol import Batch
from tests.conftest import ROOT
from tests.fakes import area_indices, city_settings, forecasts, grid_network, segment_states
from tests.streams.build import drive, readings

NETWORK = grid_network()
MIN = 60_000
DAY = 1440 * MIN
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

WRITER = """
import sys
from pathlib import Path
from infra.stores.duckdb import DuckStore
from infra.stores.protocol import Batch
from tests.fakes import forecasts, grid_network, segment_states

network = grid_network()
store = DuckStore(Path(sys.argv[1]), network, pane_ms=60_000)
for at in range(100_000):
    states = [segment_states(network, partition=p, pane_start_ms=at * 60_000, version=at) for p in (0, 1)]
    store.write(Batch(states=states, forecasts=[forecasts(network, pane_start_ms=at * 60_000, version=at)]))
    print(at, flush=True)
"""

FULL_DISK = """
import resource, sys
from pathlib import Path
from citybrain.errors import StoreError
from infra.stores.duckdb import DuckStore
from infra.stores.protocol import Batch
from tests.fakes import grid_network, segment_states

network = grid_network(30, 30)
store = DuckStore(Path(sys.argv[1]), network, pane_ms=60_000)

def write(at):
    try:
        store.write(Batch(states=[segment_states(network, pane_start_ms=at * 60_000)]))
    except StoreError as error:
        assert sys.argv[1] in str(error), error
        return False
    return True

resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
written = [at for at in range(20) if write(at)]
assert 0 < len(written) < 20, written
assert store.states(0, 10**12)["time_start_ms"].nunique() == len(written)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
written += [at for at in range(20, 23) if write(at)]
assert written[-3:] == [20, 21, 22], written
store.close()
store = DuckStore(Path(sys.argv[1]), network, pane_ms=60_000)
assert (store.states(0, 10**12)["time_start_ms"].unique() // 60_000).tolist() == written
"""


def opened(folder: Path) -> DuckStore:
    return DuckStore(folder / "s.duckdb", NETWORK, pane_ms=MIN)


def test_nothing_that_was_acknowledged_is_lost_by_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline() for _ in range(40)]
    finally:
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
        process.wait()
        process.stdout.close()
    acknowledged = [int(line) for line in lines if line.endswith("\n")]
    assert len(acknowledged) >= 40
    store = opened(tmp_path)
    frame = store.states(0, DAY)
    panes = (frame["time_start_ms"].unique() // MIN).tolist()
    assert panes[: len(acknowledged)] == acknowledged
    assert len(panes) <= len(acknowledged) + 1
    assert (frame.groupby("time_start_ms").size() == len(NETWORK.segments)).all()
    assert store.latest_forecasts()[0].pane_start_ms == panes[-1] * MIN
    store.write(Batch(states=[segment_states(NETWORK, pane_start_ms=(panes[-1] + 1) * MIN, version=10**6)]))
    store.close()


def test_another_process_is_told_who_holds_the_file(tmp_path: Path) -> None:
    store = opened(tmp_path)
    script = WRITER.replace("100_000", "1")
    other = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "s.duckdb")],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    store.close()
    assert other.returncode != 0
    last = other.stderr.strip().splitlines()[-1]
    assert last.startswith("citybrain.errors.StoreError: ")
    assert f"{tmp_path / 's.duckdb'}: another process holds this file" in last


def test_a_disk_without_space_is_a_store_error_and_is_recovered_from(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "s.duckdb")],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_file_that_is_no_store_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    path.write_bytes(b"my diary" * 1000)
    with pytest.raises(StoreError, match=r"s\.duckdb: "):
        opened(tmp_path)
    assert path.read_bytes() == b"my diary" * 1000
    path.unlink()
    with duckdb.connect(str(path)) as other:
        other.execute("CREATE TABLE mine (x INTEGER)")
    with pytest.raises(StoreError, match="'mine'"):
        opened(tmp_path)


def test_the_store_of_another_network_is_set_aside_and_kept(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.write(Batch(states=[segment_states(NETWORK)]))
    store.close()
    wider = grid_network(5, 3)
    for _ in range(2):
        other = DuckStore(tmp_path / "s.duckdb", wider, pane_ms=MIN)
        assert other.latest_states() == []
        other.close()
    aside = tmp_path / f"s-{NETWORK.version}.duckdb"
    again = DuckStore(aside, NETWORK, pane_ms=MIN)
    assert len(again.latest_states()) == 1
    again.close()


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.write(Batch(states=[segment_states(NETWORK)]))
    with pytest.raises(StoreError, match="closed"):
        store.latest_states()


def test_readers_see_whole_panes_while_a_writer_writes(tmp_path: Path) -> None:
    store = opened(tmp_path)
    seen: list[int] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        asked = 0
        try:
            while not done.is_set():
                asked, states = store.changes_since(asked)
                seen.extend(state.pane_start_ms // MIN for state in states if state.partition == 0)
                for state in states:
                    assert len(state.segment) == len(NETWORK.segments_of(state.partition))
                    assert len(set(state.speed_kmh)) == 1
        except BaseException as error:  # told to the test's own thread
            errors.append(error)

    store.write(Batch(states=[segment_states(NETWORK, version=1)]))
    reader = threading.Thread(target=read)
    reader.start()
    for at in range(1, 60):
        speed = 20.0 + at % 9
        store.write(
            Batch(
                states=[
                    segment_states(NETWORK, partition=p, pane_start_ms=at * MIN, version=at, speed_kmh=speed)
                    for p in (0, 1)
                ]
            )
        )
    while not errors and (not seen or seen[-1] != 59):
        done.wait(0.01)
    done.set()
    reader.join()
    store.close()
    assert errors == []
    assert seen == sorted(set(seen))


def test_old_states_are_deleted_and_their_means_are_kept(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for day in range(4):
        panes = [day * DAY + at * MIN for at in range(7)]
        store.write(
            Batch(
                states=[segment_states(NETWORK, pane_start_ms=pane) for pane in panes],
                areas=[area_indices(NETWORK, pane_start_ms=pane) for pane in panes],
            )
        )
    store.write(Batch(states=[segment_states(NETWORK, pane_start_ms=0)]), run="r1")
    store.retain(2, rollup_days=3)
    assert (store.states(0, 9 * DAY)["time_start_ms"] // DAY).unique().tolist() == [1, 2, 3]
    assert store.states(DAY, 2 * DAY)["time_start_ms"].min() == DAY + 5 * MIN
    series = store.series(0, 0, 9 * DAY, step_ms=5 * MIN)
    assert series["time_start_ms"].tolist()[:2] == [DAY, DAY + 5 * MIN]
    assert store.areas(0, 9 * DAY)["time_start_ms"].min() == 6 * MIN
    assert len(store.states(0, DAY, run="r1")) > 0
    with pytest.raises(StoreRefused, match="older states are deleted"):
        store.write(Batch(states=[segment_states(NETWORK, pane_start_ms=0, version=99)]))
    store.close()
    store = opened(tmp_path)
    with pytest.raises(StoreRefused, match="older states are deleted"):
        store.write(Batch(states=[segment_states(NETWORK, pane_start_ms=0, version=99)]))
    with pytest.raises(ConfigError, match="0 days seen"):
        store.retain(0)
    store.close()


def test_a_city_opens_its_own_store(tmp_path: Path) -> None:
    city: CitySettings = replace(city_settings(tmp_path), data_folder=tmp_path / "deep" / "data")
    store = open_store(city, NETWORK)
    store.write(Batch(forecasts=[forecasts(NETWORK)]))
    store.close()
    assert city.store_path.exists()
    with duckdb.connect(str(city.store_path)) as other:
        assert other.execute("SELECT network, pane_ms FROM about").fetchall() == [(NETWORK.version, MIN)]


def test_every_column_of_the_records_is_stored() -> None:
    scalars = {"network", "partition", "pane_start_ms", "pane_ms", "version", "revision", "status"}
    for packing in (state_packing(NETWORK, MIN), AREAS):
        assert {f.name for f in fields(packing.record)} - scalars == set(packing.columns)


def test_what_follows_from_flow_and_speed_takes_no_space() -> None:
    rng = np.random.default_rng(1)
    n = len(NETWORK.segments_of(0))
    state = segment_states(NETWORK, speed_kmh=rng.normal(40, 9, n), flow_vph=rng.normal(600, 90, n))
    packing = state_packing(NETWORK, MIN)
    packed = packing.pack([state])
    assert {name: packed[name].null_count for name in packing.derived} == dict.fromkeys(packing.derived, n)
    other = replace(state, dtp=np.nextafter(state.dtp, 2))
    assert packing.pack([other])["dtp"].null_count == 0


def test_what_the_stages_really_send_follows_from_flow_and_speed() -> None:
    rng = np.random.default_rng(1)
    loops = [
        {"count_veh": float(rng.integers(0, 20)), "speed_kmh": rng.normal(40, 9), "occupancy": 0.1} for _ in range(8)
    ]
    loops += [{"count_veh": 0.0}, {"count_veh": 3.0}, {"speed_kmh": 30.0}, {"occupancy": 0.2}]
    batches = [
        (0, readings(NETWORK, [(2 * at, 0, 60, loop) for at, loop in enumerate(loops)])),
        (1, readings(NETWORK, [(2 * at + 1, 0, 60, loop) for at, loop in enumerate(loops)])),
    ]
    newest = drive(NETWORK, [*batches, *((at, readings(NETWORK, watermark_s=600)) for at in (0, 1))])
    for packing, records in (
        (state_packing(NETWORK, MIN), list(newest.states.values())),
        (AREAS, list(newest.areas.values())),
    ):
        packed = packing.pack(records)
        kept = {name: len(packed[name]) - packed[name].null_count for name in packing.derived}
        assert kept == dict.fromkeys(packing.derived, 0)
        assert len(packed[packing.index]) > 0
