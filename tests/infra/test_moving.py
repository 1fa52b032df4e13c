"""A period moves from one store to another, and what is not the same in both is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from citybrain.records import encode
from infra.stores.duckdb import DuckStore
from infra.stores.moving import Moved, move, stretches
from infra.stores.protocol import Batch, Store
from tests.fakes import area_indices, forecasts, grid_network, segment_states
from tests.infra.influx import InfluxProcess, influx_store

MIN = 60_000
START = 1_790_035_200_000
HOUR = 60 * MIN
NETWORK = grid_network()
PERIODS = stretches(NETWORK, MIN, START, START + 2 * HOUR)


def filled(store: Store) -> Store:
    for at in range(90):
        pane = START + at * MIN
        states = [
            segment_states(NETWORK, partition=of, pane_start_ms=pane, version=at, speed_kmh=20 + at / 7)
            for of in range(2)
        ]
        areas = [area_indices(NETWORK, pane_start_ms=pane, version=at, speed_kmh=20 + at / 7)]
        store.write(Batch(states=states, areas=areas, forecasts=[forecasts(NETWORK, pane_start_ms=pane)]))
    return store


def moved_between(source: Store, target: Store) -> Moved:
    moved = Moved()
    assert list(move(source, target, PERIODS, moved)) == PERIODS
    return moved


def duck(folder: Path, name: str) -> DuckStore:
    return DuckStore(folder / f"{name}.duckdb", NETWORK, pane_ms=MIN)


def test_a_period_is_widened_to_whole_bins_and_cut_by_size() -> None:
    assert stretches(NETWORK, MIN, 61_000, HOUR + 4 * MIN) == [(0, HOUR), (HOUR, HOUR + 5 * MIN)]
    large = grid_network(71, 36)
    assert stretches(large, MIN, 0, HOUR) == [(0, 25 * MIN), (25 * MIN, 50 * MIN), (50 * MIN, HOUR)]


@pytest.mark.xdist_group("influx")
def test_a_period_goes_to_influxdb_and_back_bit_for_bit(influx: InfluxProcess, tmp_path: Path) -> None:
    source, back = filled(duck(tmp_path, "a")), duck(tmp_path, "b")
    server = influx_store(influx, tmp_path, NETWORK)
    for moved in (moved_between(source, server), moved_between(server, back)):
        assert (moved.state_panes, moved.area_panes, moved.forecasts, moved.differences) == (180, 90, 1, 0)
        assert moved.bin_rows == 18 * len(NETWORK.segments)
        assert moved.values > 90 * len(NETWORK.segments) * 14
    given, found = (store.records(START, START + 2 * HOUR) for store in (source, back))
    assert [encode(state) for state in found.states] == [encode(state) for state in given.states]
    server.close()


def test_what_differs_is_told(tmp_path: Path) -> None:
    source, target = filled(duck(tmp_path, "a")), duck(tmp_path, "b")
    newer = segment_states(NETWORK, partition=1, pane_start_ms=START + 7 * MIN, version=99, speed_kmh=3.0)
    extra = segment_states(NETWORK, pane_start_ms=START + 100 * MIN)
    target.write(Batch(states=[newer, extra], areas=[replace(area_indices(NETWORK, pane_start_ms=START), version=9)]))
    moved = moved_between(source, target)
    assert moved.differences == 3
    assert moved.told[0].startswith(f"pane {START + 7 * MIN} of partition 1: version 7 in one store, 99 in the other")
    assert "areas" in moved.told[1]
    assert "only in the store that was copied to" in moved.told[2]


def test_a_value_that_went_wrong_on_the_way_is_found(tmp_path: Path) -> None:
    class Careless(DuckStore):
        def write(self, batch: Batch, *, run: str = "") -> None:
            spoilt = [replace(state, speed_kmh=state.speed_kmh + 1e-9) for state in batch.states[:1]]
            super().write(replace(batch, states=spoilt + batch.states[1:]), run=run)

        def write_bins(self, sums: object, *, run: str = "") -> None:
            """Write none."""

    moved = moved_between(filled(duck(tmp_path, "a")), Careless(tmp_path / "b.duckdb", NETWORK, pane_ms=MIN))
    assert [told.split(":")[1] for told in moved.told if "partition" in told] == [" speed_kmh differs"] * 2
    assert any("roll-ups" in told for told in moved.told)
